// Package orders is the gRPC service in front of the store.
package orders

import (
	"context"
	"errors"

	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/inventoryv1"
	"github.com/hasvc/gauntlet/hasvc/internal/logs"
	"github.com/hasvc/gauntlet/hasvc/internal/ordersv1"
	"github.com/hasvc/gauntlet/hasvc/internal/recovery"
	"github.com/hasvc/gauntlet/hasvc/internal/store"
	"github.com/hasvc/gauntlet/hasvc/internal/valid"
)

// Bounds of what is stored.
const (
	MaxValue    = 32 * 1024 // of registers
	MaxQuantity = 1_000_000
)

// Service implements the generated interface.
type Service struct {
	ordersv1.UnimplementedOrdersServer
	Config    config.Config
	Store     *store.Store
	Inventory inventoryv1.InventoryClient // nil: orders take no stock, and nobody can ask for it
	Fallback  *Fallback                   // where there is an inventory
}

// CreateOrder makes the one order that belongs to the idempotency key.
func (s *Service) CreateOrder(ctx context.Context, req *ordersv1.CreateOrderRequest) (*ordersv1.Order, error) {
	switch {
	case !valid.Key(req.GetIdempotencyKey()):
		return nil, status.Errorf(codes.InvalidArgument, "the idempotency key must be 1 to %d printable characters", valid.MaxKey)
	case !valid.Name(req.GetSku()):
		return nil, status.Errorf(codes.InvalidArgument, "sku must be 1 to %d letters, digits, dots, dashes or underscores", valid.MaxName)
	case req.GetQuantity() < 1 || req.GetQuantity() > MaxQuantity:
		return nil, status.Errorf(codes.InvalidArgument, "quantity must be from 1 to %d", MaxQuantity)
	}
	recovery.Poison(s.Config, req.GetSku())
	if s.Inventory != nil {
		// Before anything is taken for it: a key that is used again, with another body perhaps, must not take stock once more.
		switch first, err := s.Store.AnsweredOrder(ctx, req.GetIdempotencyKey(), req.GetSku(), req.GetQuantity()); {
		case err == nil:
			return order(first), nil
		case !errors.Is(err, store.ErrNotFound):
			return nil, store.Fail(ctx, err)
		}
	}
	begins, err := s.reserve(ctx, req)
	if err != nil {
		return nil, err
	}
	o, made, err := s.Store.CreateOrder(ctx, req.GetIdempotencyKey(), req.GetSku(), req.GetQuantity(), begins)
	if err != nil {
		return nil, store.Fail(ctx, err)
	}
	if made {
		logs.From(ctx).Info("order stored", zap.String("orderId", o.ID))
	}
	return order(o), nil
}

// GetOrder reads an order.
func (s *Service) GetOrder(ctx context.Context, req *ordersv1.GetOrderRequest) (*ordersv1.Order, error) {
	if !valid.Name(req.GetId()) {
		return nil, status.Error(codes.NotFound, "no order has such an id")
	}
	o, err := s.Store.GetOrder(ctx, req.GetId())
	if err != nil {
		return nil, store.Fail(ctx, err)
	}
	return order(o), nil
}

// GetRegister reads a register.
func (s *Service) GetRegister(ctx context.Context, req *ordersv1.GetRegisterRequest) (*ordersv1.Register, error) {
	if !valid.Name(req.GetKey()) {
		return nil, errKey()
	}
	r, err := s.Store.GetRegister(ctx, req.GetKey(), req.GetSerializable())
	if err != nil {
		return nil, store.Fail(ctx, err)
	}
	return register(r), nil
}

// PutRegister writes a register.
func (s *Service) PutRegister(ctx context.Context, req *ordersv1.PutRegisterRequest) (*ordersv1.Register, error) {
	switch {
	case !valid.Name(req.GetKey()):
		return nil, errKey()
	case len(req.GetValue()) > MaxValue:
		return nil, status.Errorf(codes.InvalidArgument, "the value has %d bytes; at most %d", len(req.GetValue()), MaxValue)
	case req.ExpectRevision != nil && req.GetExpectRevision() < 0:
		return nil, status.Error(codes.InvalidArgument, "expectRevision is 0 (must not exist) or a revision that was answered before")
	}
	r, err := s.Store.PutRegister(ctx, req.GetKey(), req.GetValue(), req.ExpectRevision)
	if err != nil {
		return nil, store.Fail(ctx, err)
	}
	return register(r), nil
}

func errKey() error {
	return status.Errorf(codes.InvalidArgument, "a key must be 1 to %d letters, digits, dots, dashes or underscores", valid.MaxName)
}

func order(o store.Order) *ordersv1.Order {
	return &ordersv1.Order{Id: o.ID, Sku: o.SKU, Quantity: o.Quantity, Status: o.Status, CreatedAt: o.CreatedAt}
}

func register(r store.Register) *ordersv1.Register {
	return &ordersv1.Register{Key: r.Key, Value: r.Value, Revision: r.Revision}
}
