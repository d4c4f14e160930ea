package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBusyTime(t *testing.T) {
	got, err := busyTime("cpu  100 2 30 1200 34 0 5 0 0 0\ncpu0 1 1 1 1 1 0 0 0 0 0\n")
	require.NoError(t, err)
	require.Equal(t, 137*10*time.Millisecond, got, "without idle and iowait")
	for _, bad := range []string{"", "intr 1 2 3 4 5\n", "cpu 1 2 3 x 5 6 7 8\n"} {
		_, err := busyTime(bad)
		require.Error(t, err, bad)
	}
	got, err = BusyTime()
	require.NoError(t, err)
	require.NotZero(t, got)
}
