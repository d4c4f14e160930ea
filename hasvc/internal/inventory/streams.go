package inventory

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/inventoryv1"
	"github.com/hasvc/gauntlet/hasvc/internal/rpc"
	"github.com/hasvc/gauntlet/hasvc/internal/store"
	"github.com/hasvc/gauntlet/hasvc/internal/valid"
)

// The ids of Restock and Adjust are the same: a client may go over from one to the other.
const adjustment = "adjustment/"

// Watch sends every change of a SKU's level, for as long as the caller listens.
func (s *Service) Watch(req *inventoryv1.WatchRequest, out grpc.ServerStreamingServer[inventoryv1.Stock]) error {
	switch {
	case !valid.Name(req.GetSku()):
		return errName("sku")
	case req.GetAfterRevision() < 0:
		return status.Error(codes.InvalidArgument, "afterRevision is 0 or a revision that was answered before")
	}
	// The first change may be long in coming; the caller hears at once that it is taken.
	if err := out.SendHeader(nil); err != nil {
		return err
	}
	var gone error
	err := s.Store.WatchStock(out.Context(), req.GetSku(), req.GetAfterRevision(), func(now store.Stock) error {
		gone = out.Send(stock(now))
		return gone
	})
	if gone != nil {
		return gone
	}
	if ctx := out.Context(); ctx.Err() != nil {
		return rpc.Ended(ctx)
	}
	return store.Fail(out.Context(), err)
}

// Restock adds to the stock and answers once, when the caller has sent all. Without an answer some of it may have been added;
// all of it can be sent again.
func (s *Service) Restock(in grpc.ClientStreamingServer[inventoryv1.Adjustment, inventoryv1.RestockReply]) error {
	reply := &inventoryv1.RestockReply{}
	for {
		a, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return in.SendAndClose(reply)
		}
		if err != nil {
			return err
		}
		if a.GetDelta() < 1 {
			return status.Error(codes.InvalidArgument, "a restocking adds something")
		}
		if _, err := s.adjust(in.Context(), a); err != nil {
			return err
		}
		reply.Adjustments++
	}
}

// Adjust answers each adjustment with the level after it. What is not answered when the stream ends can be sent again.
func (s *Service) Adjust(both grpc.BidiStreamingServer[inventoryv1.Adjustment, inventoryv1.Adjusted]) error {
	for {
		a, err := both.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		now, err := s.adjust(both.Context(), a)
		if err != nil {
			return err
		}
		if err := both.Send(&inventoryv1.Adjusted{Id: a.GetId(), Stock: now}); err != nil {
			return err
		}
	}
}

// adjust makes one move of a stream: a stream has no deadline, its moves do.
func (s *Service) adjust(ctx context.Context, a *inventoryv1.Adjustment) (*inventoryv1.Stock, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Move)
	defer cancel()
	return s.move(ctx, adjustment, a)
}
