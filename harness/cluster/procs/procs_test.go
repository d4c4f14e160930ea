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
	for state, ended := range map[string]bool{"S": false, "R": false, "D": false, "T": false, "Z": true, "X": true} {
		p, ok := parse(7, []byte("7 (Z) "+state+" 3 7 7 0 -1 4194304 91 22 0 0 120 30 7 2 20 0 5 0 1000 123 40 18446744073709551615 1 1\n"))
		require.True(t, ok)
		require.Equal(t, ended, p.Ended, state)
	}
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

func TestCgroups(t *testing.T) {
	v1 := "9:name=systemd:/docker/abc\n5:cpu,cpuacct:/docker/abc\n4:cpuset:/docker/abc\n"
	require.Equal(t, []Cgroup{{"/sys/fs/cgroup/cpuacct/docker/abc/cpuacct.usage", "/sys/fs/cgroup/cpuacct/docker/abc/cgroup.procs"}}, cgroups(v1, "abc"))
	v2 := "0::/system.slice/docker-abc.scope\n"
	require.Equal(t, []Cgroup{{"/sys/fs/cgroup/system.slice/docker-abc.scope/cpu.stat", "/sys/fs/cgroup/system.slice/docker-abc.scope/cgroup.procs"}}, cgroups(v2, "abc"))
	require.Empty(t, cgroups(v1+v2, "def"), "another container's")
	require.Empty(t, cgroups("nonsense\n", "abc"))

	d, err := cpuOf("123456789\n")
	require.NoError(t, err)
	require.Equal(t, 123456789*time.Nanosecond, d)
	d, err = cpuOf("usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n")
	require.NoError(t, err)
	require.Equal(t, 1500*time.Microsecond, d)
	_, err = cpuOf("nr_periods 0\n")
	require.Error(t, err)
	_, err = FindCgroup(os.Getpid(), "no-such-container")
	require.ErrorContains(t, err, "as another machine does")
}
