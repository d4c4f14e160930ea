package rpc

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A handler's time ends before its caller's, so that the caller hears why.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took := func(caller time.Duration) time.Duration {
			ctx := t.Context()
			if caller > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, caller)
				defer cancel()
			}
			begin := time.Now()
			_, err := Deadline(time.Second)(ctx, nil, nil, func(ctx context.Context, _ any) (any, error) {
				<-ctx.Done()
				return nil, nil
			})
			require.NoError(t, err)
			return time.Since(begin)
		}
		assert.Equal(t, 900*time.Millisecond, took(0))
		assert.Equal(t, 900*time.Millisecond, took(time.Minute))
		assert.Equal(t, 90*time.Millisecond, took(100*time.Millisecond))
	})
}

// The defect goes on with what nobody waits for.
func TestEndless(t *testing.T) {
	type key struct{}
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
	cancel()
	_, err := Endless(ctx, nil, nil, func(ctx context.Context, _ any) (any, error) {
		assert.NoError(t, ctx.Err())
		assert.Equal(t, "value", ctx.Value(key{}))
		return nil, nil
	})
	require.NoError(t, err)
}
