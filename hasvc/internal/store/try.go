package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/rpc"
)

const (
	firstWait = 5 * time.Millisecond
	mostWait  = 100 * time.Millisecond
)

// hurried is ErrAway of a store that had no time to answer: the request's own was over before that of an attempt. The store may be as
// well as ever, and what was asked may have been done.
type hurried struct{ error }

func (hurried) Is(target error) bool { return target == ErrAway }
func (h hurried) Unwrap() error      { return h.error }

// try calls op, each time with a timeout of its own, until it gives an answer or ctx ends; then the error is ErrAway and ctx's. op
// must be harmless when repeated, also when an attempt that timed out takes effect later. An attempt goes to a member that
// those before did not try: one that is cut off swallows what it gets.
func (s *Store) try(ctx context.Context, op func(ctx context.Context) error) error {
	if s.defects.Has(defect.NoDeadline) {
		return op(context.WithoutCancel(ctx))
	}
	ctx = rpc.Attempts(ctx)
	wait := firstWait
	away := false // an attempt had its time, or was turned down
	for {
		err := s.once(ctx, op)
		if err == nil || !passing(err) {
			return err
		}
		// By the clock too: on a full machine the store may say that the time is over before a timer here has.
		end, ok := ctx.Deadline()
		away = away || ctx.Err() == nil && (!ok || time.Now().Before(end))
		if sleep(ctx, rand.N(wait)) != nil {
			if !away {
				return hurried{fmt.Errorf("the time was over before the store answered: %w: %w", ctx.Err(), err)}
			}
			return fmt.Errorf("%w: %w: %w", ErrAway, ctx.Err(), err)
		}
		wait = min(2*wait, mostWait)
	}
}

func (s *Store) once(ctx context.Context, op func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.attempt)
	defer cancel()
	return op(ctx)
}

// passing reports whether an error of etcd says nothing about the request itself, so that asking again makes sense.
func passing(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return true
	}
	var coded interface{ Code() codes.Code } // rpctypes.EtcdError
	code := status.Code(err)
	if errors.As(err, &coded) {
		code = coded.Code()
	}
	switch code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.ResourceExhausted, codes.Aborted, codes.Internal:
		return true
	}
	return false
}
