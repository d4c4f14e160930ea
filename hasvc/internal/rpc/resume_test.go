package rpc

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
)

// A stream goes on elsewhere however long it was quiet before; what fails again and again comes to an end.
func TestResumeQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, calls := time.Now(), 0
		require.NoError(t, Resume(t.Context(), config.Config{}, func(_ context.Context, taken func()) (bool, error) {
			if calls++; calls == 4 {
				return true, nil
			}
			taken()
			time.Sleep(time.Hour)
			return false, status.Error(codes.Unavailable, "it stops")
		}))
		assert.Equal(t, 4, calls)
		assert.Less(t, time.Since(begin), 3*time.Hour+time.Second, "at once")

		for name, take := range map[string]bool{"refused": false, "taken and cut": true} {
			begin = time.Now()
			require.Error(t, Resume(t.Context(), config.Config{}, func(_ context.Context, taken func()) (bool, error) {
				if take {
					taken()
				}
				return false, status.Error(codes.Unavailable, "it is away")
			}), name)
			assert.InDelta(t, resumeWithin.Seconds(), time.Since(begin).Seconds(), 1, name)
		}
	})
}
