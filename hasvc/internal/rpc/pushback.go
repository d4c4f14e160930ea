package rpc

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// pushback is the trailer by which a server tells clients when to retry, in ms, or not to (gRPC proposal A6).
const pushback = "grpc-retry-pushback-ms"

// DoNotRetry marks the answer of a handler whose own dependency is away: every other replica would say the same.
func DoNotRetry(ctx context.Context) {
	if errors.Is(context.Cause(ctx), errDraining) {
		return // it is this replica that goes away
	}
	// An error means that the answer has been sent already, or that this is no call; both leave nothing to do.
	_ = grpc.SetTrailer(ctx, metadata.Pairs(pushback, "-1"))
}

// resumeAtOnce marks the end of a stream that goes on at another replica, without a pause.
func resumeAtOnce(s grpc.ServerStream) { s.SetTrailer(metadata.Pairs(pushback, "0")) }

func pushedBack(trailer metadata.MD) bool {
	v := trailer.Get(pushback)
	return len(v) > 0 && strings.HasPrefix(v[0], "-")
}
