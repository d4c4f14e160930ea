// Package clustertest is the suite that every driver must pass. It knows a topology only by the interfaces of package cluster, and what
// happens inside a node by a program of its own (probe), which it builds.
//
// A driver's test calls Run. With -short the topologies that are started only to look for leaks are 10 instead of 100.
package clustertest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/turn"
)

// ProbeEnv names the environment variable with the path of a probe that is already built, for machines without a Go tool
// (a compiled test that runs as another user).
const ProbeEnv = "CLUSTERTEST_PROBE"

// probeName is what the probe is called on the PATH of the nodes.
const probeName = "gprobe"

// Run subjects a driver to the suite.
func Run(t *testing.T, d cluster.Driver) {
	s := &suite{driver: d, probe: buildProbe(t), mark: fmt.Sprintf("%s-%d-%d", d.Name(), os.Getpid(), time.Now().UnixNano())}
	var before surroundings
	release, err := turn.Take(t.Context(), func() {})
	require.NoError(t, err)
	t.Cleanup(release) // also where what follows ends the test
	bounded(t, 20*time.Second, func(ctx context.Context) {
		s.once(t, ctx) // what a process needs only once is there after this
		before = s.look()
	})
	release()
	if t.Failed() {
		t.FailNow()
	}
	for _, part := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"star", s.star}, {"calls", s.calls}, {"later replicas", s.laterReplicas}, {"order", s.order}, {"ready", s.ready},
		{"policies", s.policies}, {"inside", s.inside}, {"failures", s.failures}, {"plane death", s.planeDeath}, {"leaks", s.leaks},
	} {
		t.Run(part.name, func(t *testing.T) {
			turn.Hold(t)
			part.run(t)
		})
	}
	s.nothingLeft(t, before)
}

// suite is a driver under test.
type suite struct {
	driver cluster.Driver
	probe  string // the executable
	mark   string // in the environment of every program of a node, so that a lost one is found
}

// markEnv is the variable of the mark.
const markEnv = "CLUSTERTEST_RUN"

func buildProbe(t *testing.T) string {
	out := filepath.Join(t.TempDir(), probeName)
	if p := os.Getenv(ProbeEnv); p != "" {
		b, err := os.ReadFile(p)
		require.NoError(t, err, "the probe named by %s", ProbeEnv)
		require.NoError(t, os.WriteFile(out, b, 0o755))
		return out
	}
	c := exec.Command("go", "build", "-o", out, "github.com/hasvc/gauntlet/harness/cluster/clustertest/probe")
	c.Env = append(os.Environ(), "CGO_ENABLED=0") // it must run where there is no libc
	if b, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build the probe (or set %s to a built one): %v\n%s", ProbeEnv, err, b)
	}
	return out
}

// check runs one subtest with a bound on its time: a driver that hangs fails the subtest that it hangs in.
func check(t *testing.T, name string, limit time.Duration, f func(t *testing.T, ctx context.Context)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { bounded(t, limit, func(ctx context.Context) { f(t, ctx) }) })
}

// bounded runs f, which may call t.FailNow, and fails with every goroutine's stack when it does not come back.
func bounded(t *testing.T, limit time.Duration, f func(ctx context.Context)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done) // also after FailNow, which ends this goroutine
		f(ctx)
	}()
	const grace = 5 * time.Second // to notice that ctx has ended
	select {
	case <-done:
	case <-time.After(limit + grace):
		b := make([]byte, 1<<20)
		t.Fatalf("not back %v after its context ended at %v:\n%s", grace, limit, b[:runtime.Stack(b, true)])
	}
}

// topology is a running cluster with what it observed.
type topology struct {
	cluster.Cluster
	suite    *suite
	opt      cluster.Options
	observed *observed
}

// up starts spec and takes it down at the end of t, where nothing may be left.
func (s *suite) up(t *testing.T, ctx context.Context, spec *cluster.Spec, opt cluster.Options) *topology {
	t.Helper()
	top, err := s.tryUp(t, ctx, spec, opt)
	require.NoError(t, err, "up")
	t.Cleanup(func() {
		bounded(t, 20*time.Second, func(ctx context.Context) { top.down(t, ctx) })
	})
	return top
}

// tryUp starts spec with the probe on the PATH and directories of its own.
func (s *suite) tryUp(t *testing.T, ctx context.Context, spec *cluster.Spec, opt cluster.Options) (*topology, error) {
	t.Helper()
	if opt.Dir == "" {
		opt.Dir = t.TempDir()
	}
	if opt.Volumes == "" {
		opt.Volumes = s.volumes(t)
	}
	opt.Bin = map[string]string{probeName: s.probe}
	o := &observed{}
	opt.Observe = o.add
	c, err := s.driver.Up(ctx, spec, opt)
	if err != nil {
		return nil, err
	}
	return &topology{Cluster: c, suite: s, opt: opt, observed: o}, nil
}

// volumes is a directory of named volumes that end with t, also where the driver keeps them elsewhere.
func (s *suite) volumes(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if k, ok := s.driver.(cluster.VolumeKeeper); ok {
		t.Cleanup(func() {
			bounded(t, 20*time.Second, func(ctx context.Context) {
				require.NoError(t, k.RemoveVolumes(ctx, dir), "remove volumes")
			})
		})
	}
	return dir
}

func (top *topology) down(t *testing.T, ctx context.Context) {
	t.Helper()
	left, err := top.Down(ctx)
	require.NoError(t, err, "down")
	require.Empty(t, left, "left after down")
}

// service is one that runs the probe; command are the probe's arguments.
func (s *suite) service(name string, command ...string) cluster.Service {
	return cluster.Service{
		Name: name, Replicas: 1, Argv0: s.probe, Source: cluster.Source{Exec: s.probe}, Command: command, Expose: []int{8080, 7000},
		Init: true, StopSignal: "SIGTERM", StopGrace: 2 * time.Second, Restart: cluster.Restart{Policy: "no"},
		Env: map[string]string{markEnv: s.mark},
	}
}

// observed collects the events of a topology.
type observed struct {
	mu  sync.Mutex
	all []cluster.Event
}

func (o *observed) add(e cluster.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, e)
}

// of returns the events of a node of a kind, in their order.
func (o *observed) of(node string, kind cluster.EventKind) []cluster.Event {
	o.mu.Lock()
	defer o.mu.Unlock()
	var es []cluster.Event
	for _, e := range o.all {
		if e.Node == node && e.Kind == kind {
			es = append(es, e)
		}
	}
	return es
}

// poll asks until f returns no error, and fails with its last one at the deadline.
func poll(t *testing.T, ctx context.Context, within time.Duration, what string, f func() error) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			require.FailNow(t, fmt.Sprintf("%s: not within %v: %v", what, within, err))
		case <-ctx.Done():
			require.FailNow(t, fmt.Sprintf("%s: %v: %v", what, ctx.Err(), err))
		}
	}
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
