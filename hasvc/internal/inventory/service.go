// Package inventory is the gRPC service that keeps the stock: one method of each of gRPC's four kinds.
package inventory

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/inventoryv1"
	"github.com/hasvc/gauntlet/hasvc/internal/store"
	"github.com/hasvc/gauntlet/hasvc/internal/valid"
)

// MaxQuantity of one move.
const MaxQuantity = 1_000_000

// Service implements the generated interface.
type Service struct {
	inventoryv1.UnimplementedInventoryServer
	Store *store.Store
	Move  time.Duration // in which one move of a stream must be made; a unary call has its deadline
}

// Reserve takes the stock of an order.
func (s *Service) Reserve(ctx context.Context, req *inventoryv1.ReserveRequest) (*inventoryv1.Stock, error) {
	if req.GetQuantity() < 1 {
		return nil, status.Errorf(codes.InvalidArgument, "quantity must be from 1 to %d", MaxQuantity)
	}
	// An order and an adjustment may have the same id.
	return s.move(ctx, "order/", &inventoryv1.Adjustment{Id: req.GetOrderId(), Sku: req.GetSku(), Delta: -req.GetQuantity()})
}

// Level reads the level of a SKU.
func (s *Service) Level(ctx context.Context, req *inventoryv1.LevelRequest) (*inventoryv1.Stock, error) {
	if !valid.Name(req.GetSku()) {
		return nil, errName("sku")
	}
	got, err := s.Store.Level(ctx, req.GetSku())
	if err != nil {
		return nil, store.Fail(ctx, err)
	}
	return stock(got), nil
}

// move changes the stock, once for each id.
func (s *Service) move(ctx context.Context, kind string, a *inventoryv1.Adjustment) (*inventoryv1.Stock, error) {
	switch {
	case !valid.Name(a.GetId()):
		return nil, errName("the id")
	case !valid.Name(a.GetSku()):
		return nil, errName("sku")
	case a.GetDelta() == 0 || a.GetDelta() < -MaxQuantity || a.GetDelta() > MaxQuantity:
		return nil, status.Errorf(codes.InvalidArgument, "a stock changes by 1 to %d", MaxQuantity)
	}
	got, err := s.Store.MoveStock(ctx, store.Move{ID: kind + a.GetId(), SKU: a.GetSku(), Delta: a.GetDelta()})
	if err != nil {
		return nil, store.Fail(ctx, err)
	}
	return stock(got), nil
}

func errName(what string) error {
	return status.Errorf(codes.InvalidArgument, "%s must be 1 to %d letters, digits, dots, dashes or underscores", what, valid.MaxName)
}

func stock(s store.Stock) *inventoryv1.Stock {
	return &inventoryv1.Stock{Sku: s.SKU, Level: s.Level, Revision: s.Revision}
}
