package rpc

import (
	"context"
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/hasvc/gauntlet/hasvc/internal/defect"
)

func descriptors(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(fds)
}

// Each call that fails leaves one thing behind; calls that succeed leave none.
func TestLeaks(t *testing.T) {
	const calls = 50
	for _, test := range []struct {
		defect                  defect.Name
		goroutines, descriptors int
	}{
		{"", 0, 0},
		{defect.GoroutineLeak, calls, 0},
		{defect.FDLeak, 0, calls},
	} {
		t.Run(string(test.defect), func(t *testing.T) {
			l := newLeaks(defect.Set{test.defect: true})
			goroutines, fds := runtime.NumGoroutine(), descriptors(t)
			for range calls {
				require.NoError(t, l.unary(t.Context(), get, nil, nil, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }))
				require.Error(t, l.unary(t.Context(), get, nil, nil, nil, func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
					return away(ctx, 1)
				}))
			}
			assert.InDelta(t, test.goroutines, runtime.NumGoroutine()-goroutines, 5)
			assert.InDelta(t, test.descriptors, descriptors(t)-fds, 5)
			for _, f := range l.open {
				require.NoError(t, f.Close())
			}
		})
	}
}
