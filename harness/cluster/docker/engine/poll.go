package engine

import (
	"context"
	"time"
)

// poll calls ready until it says so or fails, or ctx ends: at once, then after 2 ms, then more and more slowly down to
// every 100 ms. For what the engine has no event or call to wait by.
func poll(ctx context.Context, ready func() (bool, error)) error {
	pause := 2 * time.Millisecond
	for {
		if ok, err := ready(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, 100*time.Millisecond)
	}
}
