package role

import (
	"context"
	"sync"

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
		service := &orders.Service{Store: b.db, Config: cfg}
		register := func(s *grpc.Server) { ordersv1.RegisterOrdersServer(s, service) }
		if !cfg.Inventory {
			return register, func() {}, nil
		}
		watching := health.NewPulse("registry watcher", pulseMost)
		conn, err := discover("inventory", b.etcd, cfg, watching, b.reg, b.tracer, log)
		if err != nil {
			return nil, nil, err
		}
		service.Inventory, service.Fallback = inventoryv1.NewInventoryClient(conn), orders.NewFallback(cfg, b.reg)
		b.check.Pulses = append(b.check.Pulses, watching)
		b.check.Dependencies = append(b.check.Dependencies, health.Dependency{
			Name: "inventory", Ping: func(ctx context.Context) error { return pingService(ctx, "inventory", conn) },
			Optional: true, // most of what orders does goes on without it
		})
		confirm, stop := context.WithCancel(context.WithoutCancel(ctx))
		var confirming sync.WaitGroup
		confirming.Go(func() { service.Confirm(confirm, log) })
		return register, func() {
			stop()
			confirming.Wait()
			_ = conn.Close() // an error would say that it is closed already
		}, nil
	})
}
