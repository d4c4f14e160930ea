// Package logs is what the services write: a line when the handling of a request begins and one when it has ended, all lines of
// a request with its ids, and more of the fine ones while things go wrong.
package logs

import (
	"context"

	"go.uber.org/zap"
)

type key struct{}

// With returns a context whose lines go to log.
func With(ctx context.Context, log *zap.Logger) context.Context {
	return context.WithValue(ctx, key{}, log)
}

// From returns the log of the request that ctx belongs to: it travels with the context, so across goroutines and retries.
func From(ctx context.Context) *zap.Logger {
	if log, ok := ctx.Value(key{}).(*zap.Logger); ok {
		return log
	}
	return zap.NewNop()
}
