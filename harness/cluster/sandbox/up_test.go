package sandbox_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/sandbox"
)

// shell is a service that runs a script.
func shell(name, script string) cluster.Service {
	return cluster.Service{Name: name, Argv0: "/bin/sh", Command: []string{"-c", script}, StopGrace: 200 * time.Millisecond}
}

func up(t *testing.T, opt cluster.Options, services ...cluster.Service) cluster.Cluster {
	t.Helper()
	if opt.Dir == "" {
		opt.Dir = t.TempDir()
	}
	c, err := sandbox.New().Up(t.Context(), &cluster.Spec{Name: "test", Services: services}, opt)
	require.NoError(t, err)
	t.Cleanup(func() {
		left, err := c.Down(context.Background())
		require.NoError(t, err)
		require.Empty(t, left)
	})
	return c
}

func TestUpKillStart(t *testing.T) {
	began := time.Now()
	c := up(t, cluster.Options{}, shell("a", "echo hello; exec sleep 1000"), shell("b", "exec sleep 1000"), shell("d", "exec sleep 1000"))
	t.Log("up", time.Since(began))
	_, err := c.Dial(t.Context(), "client", "tcp", "a:80")
	require.ErrorContains(t, err, "refused")
	x, err := c.Kill(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, "SIGKILL", x.Signal)
	require.NoError(t, c.Start(t.Context(), "a"))
	st, err := c.Status("a")
	require.NoError(t, err)
	require.Equal(t, 1, st.Restarts)
	require.NotEmpty(t, st.Pids)
}

// TestADownEndsThoughAnOutputDoesNot: what is not ended with its node holds the output of the program open.
func TestADownEndsThoughAnOutputDoesNot(t *testing.T) {
	c, err := sandbox.New().Up(t.Context(), &cluster.Spec{Name: "test", Services: []cluster.Service{shell("a", "exec sleep 1000")}},
		cluster.Options{Dir: t.TempDir()})
	require.NoError(t, err)
	st, err := c.Status("a")
	require.NoError(t, err)
	held, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/1", st.Pids[0]), os.O_WRONLY, 0)
	require.NoError(t, err)
	defer held.Close()
	down := make(chan []string, 1)
	go func() {
		left, err := c.Down(context.Background())
		assert.NoError(t, err)
		down <- left
	}()
	select {
	case left := <-down:
		require.Empty(t, left)
	case <-time.After(20 * time.Second):
		t.Fatal("it is still waited for")
	}
}

// TestABindKeepsItsOwners: what the service must be able to write to is given to its user where it is root's, and stays whose it is where not.
func TestABindKeepsItsOwners(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root gives files away")
	}
	const another = 1000
	dir := t.TempDir()
	for _, f := range []string{"roots", "anothers"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, f), []byte(f), 0o644))
	}
	require.NoError(t, os.Chown(filepath.Join(dir, "anothers"), another, another))
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	require.NoError(t, err)
	defer l.Close()
	owner := func(name string) uint32 {
		info, err := os.Lstat(filepath.Join(dir, name))
		require.NoError(t, err)
		return info.Sys().(*syscall.Stat_t).Uid
	}
	s := shell("a", "for f in /d/*roots; do echo more >>$f && echo written to $f; done; exec sleep 1000")
	s.Volumes = []cluster.Mount{{Kind: "bind", Source: dir, Target: "/d"}}
	c := up(t, cluster.Options{}, s)
	awaitLine(t, c, "a", "written")
	require.Equal(t, uint32(another), owner("anothers"))
	require.Zero(t, owner("socket"), "a program of this machine listens there")

	require.NoError(t, os.WriteFile(filepath.Join(dir, "new-roots"), nil, 0o644))
	awaitLine(t, up(t, cluster.Options{}, s), "a", "written to /d/new-roots")
}
