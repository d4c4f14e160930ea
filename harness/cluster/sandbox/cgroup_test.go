package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/supervise"
)

// confined gives its nodes a cgroup without limits, for which a machine needs no controller.
type confined struct {
	*carrier
	run *runCgroup
}

func (c confined) Make(ctx context.Context, n *supervise.Node) (supervise.Place, error) {
	p, setup, err := c.found(ctx, n)
	if err != nil {
		return nil, err
	}
	if n.Service != nil {
		if p.cgroup, err = c.run.room(n.Info.Name, []string{"memory", "pids"}, c.ids.init()); err != nil {
			return p, err
		}
	}
	return p, p.furnish(ctx, setup)
}

// TestAnInitStaysOutsideOfCgroupsOfVersion2: what limits programs must not hit their init.
func TestAnInitStaysOutsideOfCgroupsOfVersion2(t *testing.T) {
	parents := version2(t)
	name, err := ownName(cgroupPrefix)
	require.NoError(t, err)
	run, err := parents.make(name+"v2", []string{"memory", "pids"}, func(string, string, string) error { return nil })
	if err != nil {
		t.Skipf("no cgroup can be made here: %v", err)
	}
	defer func() { require.NoError(t, run.remove()) }()
	ids, err := machineIDs()
	require.NoError(t, err)
	spec := &cluster.Spec{Name: "test", Services: []cluster.Service{{
		Name: "a", Argv0: "/bin/sh", Command: []string{"-c", "sleep 1000 & wait"}, User: "1234", StopGrace: 200 * time.Millisecond,
	}}}
	opt := cluster.Options{Dir: t.TempDir()}
	c, err := newCarrier(t.Context(), spec, opt, ids)
	require.NoError(t, err)
	top, err := supervise.Up(t.Context(), confined{c, run}, supervise.Config{Spec: spec, Options: opt})
	require.NoError(t, err)
	e, err := top.Exec(t.Context(), "a", cluster.Process{Argv: []string{"/bin/sh", "-c", "exec sleep 1000"}})
	require.NoError(t, err)
	st, err := top.Status("a")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(st.Pids), 2, "the program and what runs beside it")
	for _, pid := range st.Pids {
		require.Equal(t, name+"v2/a", cgroupOf(t, pid))
	}
	for _, p := range c.places {
		if p.node.Service != nil {
			require.Equal(t, name+"v2/"+initsCgroup, cgroupOf(t, p.hostInit))
		}
	}
	require.NoError(t, e.Signal("KILL"))
	left, err := top.Down(context.Background())
	require.NoError(t, err)
	require.Empty(t, left)
}

// version2 is where cgroups of version 2 can be made, also where the machine's controllers are those of version 1.
func version2(t *testing.T) cgroupParents {
	own, err := os.ReadFile("/proc/self/cgroup")
	require.NoError(t, err)
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	var lines []string
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, " - cgroup2 ") {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		t.Skip("no hierarchy of version 2 is mounted here")
	}
	return parseCgroups(string(own), lines[0])
}

// cgroupOf is the end of the path of a process's cgroup of version 2.
func cgroupOf(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	require.NoError(t, err)
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return filepath.Join(filepath.Base(filepath.Dir(path)), filepath.Base(path))
		}
	}
	return ""
}
