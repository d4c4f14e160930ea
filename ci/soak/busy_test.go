package main

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestMain is the busy process when keepBusy executes this binary again.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "busy" {
		busy()
		return
	}
	os.Exit(m.Run())
}

// children are the processes that this one has started and not buried.
func children(t *testing.T) []int {
	t.Helper()
	all, err := os.ReadDir("/proc")
	require.NoError(t, err)
	var out []int
	for _, e := range all {
		var pid, parent int
		var state byte
		b, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // no process, or gone
		}
		if _, err := fmt.Sscanf(string(b), "%d (soak.test) %c %d", &pid, &state, &parent); err == nil && parent == os.Getpid() {
			out = append(out, pid)
		}
	}
	return out
}

// What the scheduler lets this session have first is not the busy process's.
func TestBusyIsAnotherSession(t *testing.T) {
	stop, err := keepBusy(t.Context())
	require.NoError(t, err)
	ours, err := unix.Getsid(0)
	require.NoError(t, err)
	var pids []int
	require.Eventually(t, func() bool { pids = children(t); return len(pids) == 1 }, 10*time.Second, 10*time.Millisecond)
	its, err := unix.Getsid(pids[0])
	require.NoError(t, err)
	require.Equal(t, pids[0], its)
	require.NotEqual(t, ours, its)
	stop()
	require.Empty(t, children(t))
}
