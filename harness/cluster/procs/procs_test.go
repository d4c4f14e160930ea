package procs

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	p, ok := parse(7, []byte("7 (a) b) (c) S 3 7 7 0 -1 4194304 91 22 0 0 120 30 7 2 20 0 5 0 1000 123 40 18446744073709551615 1 1\n"))
	require.True(t, ok)
	require.Equal(t, Process{PID: 7, Parent: 3, CPU: 1500 * time.Millisecond, Reaped: 90 * time.Millisecond,
		RSS: 40 * uint64(os.Getpagesize()), Threads: 5}, p)
	for _, bad := range []string{"", "7 (a", "7 (a) S 3 7"} {
		_, ok := parse(7, []byte(bad))
		require.False(t, ok, "%q", bad)
	}
}

func TestTree(t *testing.T) {
	all := map[int]Process{}
	for pid, parent := range map[int]int{1: 0, 2: 1, 3: 2, 4: 3, 5: 1, 6: 5} {
		all[pid] = Process{PID: pid, Parent: parent}
	}
	var pids []int
	for _, p := range Tree(all, 2) {
		pids = append(pids, p.PID)
	}
	require.ElementsMatch(t, []int{3, 4}, pids)
	require.Empty(t, Tree(all, 6))
}

func TestOwnFigures(t *testing.T) {
	all, err := All()
	require.NoError(t, err)
	self := all[os.Getpid()]
	require.Equal(t, os.Getppid(), self.Parent)
	require.Greater(t, self.RSS, uint64(1<<20))
	require.GreaterOrEqual(t, self.Threads, uint64(2))

	before, err := Descriptors(os.Getpid())
	require.NoError(t, err)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	after, err := Descriptors(os.Getpid())
	require.NoError(t, err)
	require.Equal(t, before+2, after)
	require.NoError(t, r.Close())
	require.NoError(t, w.Close())

	_, err = Sockets(os.Getpid())
	require.NoError(t, err)
}

// TestEnded: a process that ends while it is looked at is no error.
func TestEnded(t *testing.T) {
	c := exec.Command("true")
	require.NoError(t, c.Run())
	pid := c.ProcessState.Pid()
	_, ok := Read(pid)
	require.False(t, ok)
	for _, f := range []func(int) (uint64, error){Descriptors, Sockets} {
		n, err := f(pid)
		require.NoError(t, err)
		require.Zero(t, n)
	}
}
