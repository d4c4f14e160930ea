package orders

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/inventoryv1"
	"github.com/hasvc/gauntlet/hasvc/internal/logs"
	"github.com/hasvc/gauntlet/hasvc/internal/store"
	"github.com/hasvc/gauntlet/hasvc/internal/trace"
)

const (
	confirmEvery = 250 * time.Millisecond
	confirmAmong = 50 // the oldest
	confirmBatch = 10
	confirmTime  = 2 * time.Second // of one round
)

// Confirm takes the stock of pending orders once inventory is back, until ctx ends. Every replica does it, for none of them
// is special: the order's id makes it harmless to take the stock twice, or to be refused twice, and the first to say so changes the status.
func (s *Service) Confirm(ctx context.Context, log *zap.Logger) {
	if s.Fallback.off {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(confirmEvery/2 + rand.N(confirmEvery)):
		}
		if err := s.confirmSome(ctx, log); err != nil && ctx.Err() == nil {
			log.Debug("pending orders wait", zap.Error(err))
		}
	}
}

// settled is what becomes of a pending order by what inventory says. ALREADY_EXISTS: its key was used with another body, and
// what inventory said to that one stands.
var settled = map[codes.Code]string{codes.OK: store.Accepted, codes.FailedPrecondition: store.Rejected, codes.AlreadyExists: store.Rejected}

func (s *Service) confirmSome(ctx context.Context, log *zap.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, confirmTime)
	defer cancel()
	pending, err := s.Store.PendingOrders(ctx, confirmAmong)
	if err != nil {
		return err
	}
	// Some of them, drawn: replicas that went through them in one order would all take the stock of the same ones, and an inventory that
	// has just come back is not to be run over by what has waited for it.
	rand.Shuffle(len(pending), func(i, j int) { pending[i], pending[j] = pending[j], pending[i] })
	for _, o := range pending[:min(len(pending), confirmBatch)] {
		// The lines are of the request that made the order. The call is none of its attempts: it was answered long ago, and every
		// replica makes one.
		log := logs.Access{Log: log, Defects: s.Config.Defects}.Of(trace.WithRequest(trace.With(ctx, o.TraceID), o.RequestID))
		_, err := s.Inventory.Reserve(ctx, &inventoryv1.ReserveRequest{OrderId: o.ID, Sku: o.SKU, Quantity: o.Quantity})
		code := status.Code(err)
		if code == codes.Unavailable || code == codes.DeadlineExceeded || ctx.Err() != nil {
			return err // the others would fare no better
		}
		end, known := settled[code]
		if !known { // such as an accident, at this one; it must not keep those behind it waiting
			log.Warn("a pending order cannot be settled", zap.String("orderId", o.ID), zap.Error(err))
			continue
		}
		switch err := s.Store.SettleOrder(ctx, o.Order, end); {
		case errors.Is(err, store.ErrNotFound): // another replica was first, with the same end
			continue
		case err != nil:
			return err
		}
		log.Info("pending order settled", zap.String("orderId", o.ID), zap.String("status", end))
	}
	return nil
}
