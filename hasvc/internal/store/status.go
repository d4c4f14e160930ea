package store

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
)

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
