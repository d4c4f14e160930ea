package role

import (
	"context"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/health"
	"github.com/hasvc/gauntlet/hasvc/internal/inventoryv1"
	"github.com/hasvc/gauntlet/hasvc/internal/orders"
	"github.com/hasvc/gauntlet/hasvc/internal/ordersv1"
)

// Orders serves orders and registers on top of etcd, and takes the stock of orders from inventory, which it finds in the
// registry, when HASVC_INVENTORY is on.
func Orders(ctx context.Context, cfg config.Config, log *zap.Logger, listening func(Addrs)) error {
	return serveBackend(ctx, "orders", cfg, log, listening, func(b *backend) (func(*grpc.Server), func(), error) {
		service := &orders.Service{Config: cfg, Store: b.db}
		register := func(s *grpc.Server) { ordersv1.RegisterOrdersServer(s, service) }
		if !cfg.Inventory {
			return register, func() {}, nil
		}
		watching := health.NewPulse("registry watcher", pulseMost)
		conn, err := discover("inventory", b.etcd, cfg, watching, b.reg, b.tracer, log)
		if err != nil {
			return nil, nil, err
		}
		service.Inventory = inventoryv1.NewInventoryClient(conn)
		b.check.Pulses = append(b.check.Pulses, watching)
		b.check.Dependencies = append(b.check.Dependencies, health.Dependency{
			Name: "inventory", Ping: func(ctx context.Context) error { return pingService(ctx, "inventory", conn) },
			Optional: true, // most of what orders does goes on without it
		})
		return register, func() { _ = conn.Close() }, nil // an error would say that it is closed already
	})
}
