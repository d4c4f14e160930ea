package harness

import (
	"context"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseIdle(t *testing.T) {
	assert.Equal(t, 1234*10*time.Millisecond, parseIdle([]byte("cpu  100 2 30 1200 34 0 5 0 0 0\ncpu0 1 1 1 1 1 0 0 0 0 0\n")))
	assert.Zero(t, parseIdle(nil))
	assert.Zero(t, parseIdle([]byte("intr 1 2 3 4 5\n")))
	b, err := os.ReadFile("/proc/stat")
	require.NoError(t, err)
	assert.NotZero(t, parseIdle(b))
}

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
				calm(ctx, func(s string) { said <- s }, func() time.Duration {
					if left.Load() {
						return time.Since(begin)
					}
					return time.Millisecond
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
	calm(t.Context(), func(s string) { t.Error(s) }, func() time.Duration { return 0 })
}
