package role

import (
	"context"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/inventory"
	"github.com/hasvc/gauntlet/hasvc/internal/inventoryv1"
)

// Inventory keeps the stock in etcd.
func Inventory(ctx context.Context, cfg config.Config, log *zap.Logger, listening func(Addrs)) error {
	return serveBackend(ctx, "inventory", cfg, log, listening, func(b *backend) (func(*grpc.Server), func(), error) {
		service := &inventory.Service{Store: b.db, Move: cfg.Deadline}
		return func(s *grpc.Server) { inventoryv1.RegisterInventoryServer(s, service) }, func() {}, nil
	})
}
