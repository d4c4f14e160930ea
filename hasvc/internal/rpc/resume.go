package rpc

import (
	"context"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/logs"
)

// resumeWithin is how long a stream is tried again without any progress: longer than an election or a restart.
const resumeWithin = 5 * time.Second

// Resume keeps a stream going across the replicas that serve it. run opens the stream after what was seen of it before, calls taken
// when a replica has taken it, and returns when it ends, saying whether it got anything. A stream that ends with UNAVAILABLE, because
// its replica stops or has died, is opened again at another one; any other end is the end.
func Resume(ctx context.Context, cfg config.Config, run func(ctx context.Context, taken func()) (progress bool, err error)) error {
	attempt, wait, since := Attempts(ctx), backoffFirst, time.Now()
	for {
		var served time.Time
		progress, err := run(attempt, func() { served = time.Now() })
		if status.Code(err) != codes.Unavailable || ctx.Err() != nil || cfg.Defects.Has(defect.StreamCut) {
			return err
		}
		// Where nothing changes there is nothing to get; that the stream was served for so long will do.
		if progress || (!served.IsZero() && time.Since(served) > resumeWithin) {
			attempt, wait, since = Attempts(ctx), backoffFirst, time.Now()
		}
		if time.Since(since) > resumeWithin || !pause(ctx, rand.N(wait)) {
			return err
		}
		wait = min(2*wait, backoffMost)
		logs.From(ctx).Debug("resuming a stream", zap.Error(err))
	}
}
