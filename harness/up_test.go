package harness_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness"
	"github.com/hasvc/gauntlet/harness/cluster"
)

// idle is a driver that starts nothing and keeps what it was asked for.
type idle struct {
	cluster.Driver
	asked cluster.Options
}

func (*idle) Name() string { return "idle" }

func (d *idle) Up(_ context.Context, _ *cluster.Spec, opt cluster.Options) (cluster.Cluster, error) {
	d.asked = opt
	return nil, errors.New("it starts nothing")
}

// stopped is a test that Fatal ends and does not fail.
type stopped struct{ testing.TB }

func (stopped) Fatal(...any) { runtime.Goexit() }

// told is a test that keeps what is logged.
type told struct {
	stopped
	lines *[]string
}

func (t told) Log(args ...any) { *t.lines = append(*t.lines, fmt.Sprint(args...)) }

// What a topology says that means nothing is told by whoever starts it by hand: no record has it.
func TestWarningsOfATopologyAreTold(t *testing.T) {
	file := filepath.Join(t.TempDir(), "compose.yaml")
	require.NoError(t, os.WriteFile(file, []byte(`
services:
  a: {x-gauntlet: {exec: "true"}, environment: {NAME: "${SURELY_NOT_SET}"}, cpu_shares: 5}
`), 0o644))
	d := &idle{}
	defer func(rows []harness.DriverRow) { harness.Drivers = rows }(harness.Drivers)
	harness.Drivers = append(slices.Clone(harness.Drivers), harness.DriverRow{Name: "idle", New: func() cluster.Driver { return d }})
	warned := func(lines []string) {
		t.Helper()
		all := strings.Join(lines, "\n")
		assert.Regexp(t, `(?m)^warning: .*compose.yaml:3: the variable SURELY_NOT_SET is not set`, all)
		assert.Regexp(t, `(?m)^warning: .*compose.yaml:3: services.a.cpu_shares has no effect`, all)
	}

	var lines []string
	_, err := harness.Stand(t.Context(), file, harness.StandOptions{Driver: d, API: "127.0.0.1:0", Dir: t.TempDir(), Progress: func(line string) { lines = append(lines, line) }})
	require.ErrorContains(t, err, "it starts nothing")
	warned(lines)

	lines = nil
	up(told{stopped{t}, &lines}, file, harness.WithDriver("idle"))
	warned(lines)
}

// up is Up that does not come to its end.
func up(t testing.TB, file string, opts ...harness.Option) {
	done := make(chan struct{})
	go func() { // Fatal ends it
		defer close(done)
		harness.Up(t, file, opts...)
	}()
	<-done
}

// keeper is a driver that makes volumes, of its own and in the directory, and then starts nothing.
type keeper struct {
	idle
	removed []string // directories
}

func (k *keeper) Up(ctx context.Context, s *cluster.Spec, opt cluster.Options) (cluster.Cluster, error) {
	if err := os.MkdirAll(filepath.Join(opt.Volumes, "data"), 0o755); err != nil {
		return nil, err
	}
	return k.idle.Up(ctx, s, opt)
}

func (k *keeper) RemoveVolumes(_ context.Context, dir string, _ ...string) error {
	k.removed = append(k.removed, dir)
	return nil
}

func TestVolumesOfATopologyThatDoesNotComeUpAreRemoved(t *testing.T) {
	file := filepath.Join(t.TempDir(), "compose.yaml")
	require.NoError(t, os.WriteFile(file, []byte("services: {a: {x-gauntlet: {exec: \"true\"}, volumes: [\"data:/data\"]}}\nvolumes: {data: {}}\n"), 0o644))
	defer func(rows []harness.DriverRow) { harness.Drivers = rows }(harness.Drivers)
	for name, start := range map[string]func(*testing.T, *keeper){
		"up": func(t *testing.T, k *keeper) { up(stopped{t}, file, harness.WithDriver("keeper")) },
		"stand": func(t *testing.T, k *keeper) {
			_, err := harness.Stand(t.Context(), file, harness.StandOptions{Driver: k, API: "127.0.0.1:0", Dir: t.TempDir(), Progress: func(string) {}})
			require.EqualError(t, err, "it starts nothing")
			require.NoDirExists(t, k.asked.Volumes)
		},
	} {
		k := &keeper{}
		harness.Drivers = []harness.DriverRow{{Name: "keeper", New: func() cluster.Driver { return k }}}
		t.Run(name, func(t *testing.T) { start(t, k) })
		require.NotEmpty(t, k.asked.Volumes)
		require.Equal(t, []string{k.asked.Volumes}, k.removed)
	}
}

// What is asked for stream faults goes through the link core from the beginning, and nothing else does: there a refused
// connection is accepted first.
func TestUpWithStreamFaults(t *testing.T) {
	file := filepath.Join(t.TempDir(), "compose.yaml")
	require.NoError(t, os.WriteFile(file, []byte(`
services:
  a: {x-gauntlet: {exec: "true"}}
  b: {x-gauntlet: {exec: "true"}, deploy: {replicas: 2}}
`), 0o644))
	d := &idle{}
	defer func(rows []harness.DriverRow) { harness.Drivers = rows }(harness.Drivers)
	harness.Drivers = append(slices.Clone(harness.Drivers), harness.DriverRow{Name: "idle", New: func() cluster.Driver { return d }})
	asked := func(opts ...harness.Option) cluster.Options {
		t.Run("up", func(t *testing.T) { up(stopped{t}, file, append(opts, harness.WithDriver("idle"))...) })
		return d.asked
	}
	none := asked()
	assert.Empty(t, none.Toxic)
	assert.Empty(t, none.Replied)
	one := asked(harness.WithStreamFaults("a:b"))
	want := []cluster.Link{{From: "a", To: "b-1"}, {From: "a", To: "b-2"}}
	assert.ElementsMatch(t, want, one.Toxic)
	assert.ElementsMatch(t, want, one.Replied)
	assert.Len(t, asked(harness.WithStreamFaults()).Toxic, 3*2+3, "each from the two others and from the client")
}
