package harness

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// Nothing is timed while others take every processor, and the wait ends when they leave one, or with its context.
func TestCalmWaitsForAProcessor(t *testing.T) {
	for name, ends := range map[string]func(left *atomic.Bool, cancel func()){
		"a processor is left":   func(left *atomic.Bool, _ func()) { left.Store(true) },
		"the context has ended": func(_ *atomic.Bool, cancel func()) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var left atomic.Bool
			said, returned := make(chan string, 1), make(chan struct{})
			begin := time.Now()
			go func() {
				defer close(returned)
				calm(ctx, func(s string) { said <- s }, func() (time.Duration, error) {
					if left.Load() {
						return 0, nil
					}
					return time.Since(begin) * time.Duration(runtime.NumCPU()), nil
				})
			}()
			assert.Contains(t, <-said, "busy")
			select {
			case <-returned:
				t.Error("it went on beside work that takes every processor")
			default:
			}
			ends(&left, cancel)
			<-returned
		})
	}
}

func TestCalmDoesNotWaitForWhatIsNotKnown(t *testing.T) {
	begin := time.Now()
	calm(t.Context(), func(s string) { t.Error(s) }, func() (time.Duration, error) { return 0, errors.New("it does not say") })
	assert.Less(t, time.Since(begin), calmFor)
}
