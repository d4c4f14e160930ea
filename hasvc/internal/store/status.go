package store

import (
	"context"
	"errors"

	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/logs"
	"github.com/hasvc/gauntlet/hasvc/internal/rpc"
)

// Fail turns an error of this package into the answer of a call.
func Fail(ctx context.Context, err error) error {
	code := Code(err)
	switch code {
	case codes.Unavailable:
		rpc.DoNotRetry(ctx) // another replica has the same store
	case codes.DeadlineExceeded:
		rpc.Waited(ctx)
	}
	switch code {
	case codes.Internal, codes.Unavailable:
		logs.From(ctx).Warn("request failed", zap.Stringer("code", code), zap.Error(err))
	}
	return status.Error(code, err.Error())
}

// Code is the gRPC code that stands for an error of this package.
func Code(err error) codes.Code {
	switch {
	case errors.Is(err, ErrNotFound):
		return codes.NotFound
	case errors.Is(err, ErrConflict):
		return codes.Aborted
	case errors.Is(err, ErrKeyReused):
		return codes.AlreadyExists
	case errors.Is(err, ErrShort):
		return codes.FailedPrecondition
	case errors.Is(err, context.Canceled): // the caller has gone, and says nothing about the store, whatever that left open
		return codes.Canceled
	case errors.As(err, new(hurried)):
		return codes.DeadlineExceeded
	case errors.Is(err, ErrAway), errors.Is(err, ErrOverwritten):
		return codes.Unavailable
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	}
	return codes.Internal
}
