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

// waited is the trailer of an answer that came too late for what is behind the server. Another replica may have more luck with that: it
// may be tried, and who is late so time and again is left out. But no breaker opens for it, which would stop the calls to all of them.
const waited = "hasvc-waited"

// Waited marks the answer of a handler whose time was over before that of its own dependency.
func Waited(ctx context.Context) {
	_ = grpc.SetTrailer(ctx, metadata.Pairs(waited, "1")) // an error, as above, leaves nothing to do
}

// resumeAtOnce marks the end of a stream that goes on at another replica, without a pause.
func resumeAtOnce(s grpc.ServerStream) { s.SetTrailer(metadata.Pairs(pushback, "0")) }

func pushedBack(trailer metadata.MD) bool {
	v := trailer.Get(pushback)
	return len(v) > 0 && strings.HasPrefix(v[0], "-")
}
