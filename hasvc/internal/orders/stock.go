package orders

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/inventoryv1"
	"github.com/hasvc/gauntlet/hasvc/internal/ordersv1"
	"github.com/hasvc/gauntlet/hasvc/internal/rpc"
	"github.com/hasvc/gauntlet/hasvc/internal/valid"
)

// GetStock asks inventory for the level of a SKU; while it is away, the answer is the level known last.
func (s *Service) GetStock(ctx context.Context, req *ordersv1.GetStockRequest) (*ordersv1.Stock, error) {
	if err := s.askable(req.GetSku()); err != nil {
		return nil, err
	}
	within, cancel := s.Fallback.within(ctx)
	defer cancel()
	answer, err := s.Inventory.Level(within, &inventoryv1.LevelRequest{Sku: req.GetSku()})
	if err != nil {
		if known, ok := s.Fallback.stale(ctx, req.GetSku(), err); ok {
			return known, nil
		}
		return nil, behind(ctx, "inventory", err)
	}
	got := stock(answer)
	s.Fallback.remember(got)
	return got, nil
}

// WatchStock hands on what inventory says of a SKU, for as long as the caller listens, from one replica of inventory after
// another where it must be.
func (s *Service) WatchStock(req *ordersv1.WatchStockRequest, out grpc.ServerStreamingServer[ordersv1.Stock]) error {
	if err := s.askable(req.GetSku()); err != nil {
		return err
	}
	after := req.GetAfterRevision()
	// The first change may be long in coming; the caller hears at once that it is taken. When it has gone, Send will say so.
	accept := sync.OnceFunc(func() { _ = out.SendHeader(nil) })
	err := rpc.Resume(out.Context(), s.Config, func(ctx context.Context, taken func()) (progress bool, err error) {
		in, err := s.Inventory.Watch(ctx, &inventoryv1.WatchRequest{Sku: req.GetSku(), AfterRevision: after})
		if err != nil {
			return false, err
		}
		if header, err := in.Header(); err == nil && header != nil {
			taken()
			accept()
		}
		for {
			got, err := in.Recv()
			if errors.Is(err, io.EOF) {
				return progress, status.Error(codes.Unavailable, "inventory ended the stream")
			}
			if err != nil {
				return progress, err
			}
			if err := out.Send(stock(got)); err != nil {
				return progress, err
			}
			after, progress = got.GetRevision(), true
		}
	})
	return behind(out.Context(), "inventory", err)
}

func (s *Service) askable(sku string) error {
	switch {
	case s.Inventory == nil:
		return status.Error(codes.Unimplemented, "there is no inventory here; HASVC_INVENTORY is off")
	case !valid.Name(sku):
		return status.Errorf(codes.InvalidArgument, "sku must be 1 to %d letters, digits, dots, dashes or underscores", valid.MaxName)
	}
	return nil
}

func stock(s *inventoryv1.Stock) *ordersv1.Stock {
	return &ordersv1.Stock{Sku: s.GetSku(), Level: s.GetLevel(), Revision: s.GetRevision()}
}
