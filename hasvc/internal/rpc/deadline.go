package rpc

import (
	"context"
	"time"

	"google.golang.org/grpc"
)

// answerMargin is the part of the caller's deadline that is kept for the answer: without it the caller's time runs out at
// the same moment, and it learns nothing but that.
const answerMargin = 10 // a tenth

// Endless is a server interceptor, the defect no-deadline: work goes on, whether or not somebody still waits for it.
func Endless(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	return handle(context.WithoutCancel(ctx), req)
}

// Deadline is a server interceptor: a call has the deadline that its caller sent, less the time to answer, and at most most.
// Work stops when it passes, because everything below takes the context.
func Deadline(most time.Duration) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		left := most
		if d, ok := ctx.Deadline(); ok {
			left = min(left, time.Until(d))
		}
		ctx, cancel := context.WithTimeout(ctx, left-left/answerMargin)
		defer cancel()
		return handle(ctx, req)
	}
}
