package clustertest

import (
	"context"
	"errors"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// failures checks topologies that do not come up: a clear error, in time, and nothing left.
func (s *suite) failures(t *testing.T) {
	fails := func(name string, limit time.Duration, change func(*cluster.Spec), want ...string) {
		check(t, name, 20*time.Second, func(t *testing.T, ctx context.Context) {
			before := s.look()
			own, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			bad := s.service("bad", "serve", "-say", "still looking for my keys")
			bad.Ready = &plan.Condition{TCP: ":7999"}
			spec := &cluster.Spec{Name: "failing", Services: []cluster.Service{s.service("fine", "serve"), bad}}
			change(spec)
			_, err := s.tryUp(t, own, spec, cluster.Options{})
			require.Error(t, err)
			for _, w := range want {
				require.ErrorContains(t, err, w)
			}
			if !strings.Contains(name, "never") {
				require.NoError(t, own.Err(), "a failure that is certain is not waited for: %v", err)
			}
			s.nothingLeft(t, before)
		})
	}
	fails("a program that ends", 10*time.Second, func(spec *cluster.Spec) {
		spec.Services[1].Command = []string{"job", "-after", "30ms", "-say", "no configuration", "-moan", "giving up", "-code", "3"}
	}, "bad", "no configuration", "giving up", "3")
	fails("a program that dies", 10*time.Second, func(spec *cluster.Spec) {
		spec.Services[1].Command = []string{"job", "-signal", "SIGSEGV", "-moan", "about to crash"}
	}, "bad", "about to crash", "SIGSEGV")
	fails("a program that is not there", 10*time.Second, func(spec *cluster.Spec) {
		spec.Services[1].Argv0 = "/no/such/program"
	}, "bad", "/no/such/program")
	fails("a program that cannot be run", 10*time.Second, func(spec *cluster.Spec) {
		f := t.TempDir() + "/text"
		require.NoError(t, os.WriteFile(f, []byte("not a program"), 0o755))
		spec.Services[1].Argv0 = f
	}, "bad")
	// Long enough for any driver to have started it, also an engine on a slow machine, which took more than 4 s beside other tests.
	fails("a program that is never ready", 10*time.Second, func(*cluster.Spec) {}, "bad", "still looking for my keys")
	fails("a user that is not known", 10*time.Second, func(spec *cluster.Spec) { spec.Services[1].User = "no-such-user" }, "no-such-user")
	fails("a bind mount that is not there", 10*time.Second, func(spec *cluster.Spec) {
		spec.Services[1].Volumes = []cluster.Mount{{Kind: "bind", Source: "/no/such/directory", Target: "/x"}}
	}, "/no/such/directory")
	check(t, "cancelled", 30*time.Second, func(t *testing.T, ctx context.Context) {
		before := s.look()
		for i := range 12 {
			own, cancel := context.WithCancel(ctx)
			stop := time.AfterFunc(time.Duration(i*i)*700*time.Microsecond, cancel)
			never := s.service("never", "serve")
			never.Ready = &plan.Condition{TCP: ":7999"}
			_, err := s.tryUp(t, own, &cluster.Spec{Name: "cancelled", Services: []cluster.Service{s.service("x", "serve"), never}}, cluster.Options{})
			stop.Stop()
			cancel()
			require.ErrorIs(t, err, context.Canceled)
		}
		s.nothingLeft(t, before)
	})
}

// planeDeath ends the process that stands between the nodes, as the machine's memory killer would.
func (s *suite) planeDeath(t *testing.T) {
	check(t, "kill", 30*time.Second, func(t *testing.T, ctx context.Context) {
		before := s.look()
		v := s.service("v", "serve")
		v.Ready = &plan.Condition{TCP: ":7000"}
		top, err := s.tryUp(t, ctx, &cluster.Spec{Name: "death", Services: []cluster.Service{v}}, cluster.Options{})
		require.NoError(t, err)
		pids := top.pids(t, "v")
		if len(pids) == 0 {
			top.down(t, ctx)
			t.Skip("this driver does not number its processes, so its plane is not found")
		}
		plane := pids[0]
		for parent(plane) != os.Getpid() {
			plane = parent(plane)
			require.NotZero(t, plane, "the nodes are not below this process")
		}
		select {
		case <-top.Done():
			require.FailNow(t, "done before it died")
		default:
		}
		require.NoError(t, top.Err())
		k := top.dial(t, ctx, cluster.Client, "v:7000")
		self, err := os.FindProcess(plane)
		require.NoError(t, err)
		require.NoError(t, self.Kill())
		select {
		case <-top.Done():
		case <-time.After(patience):
			require.FailNow(t, "nobody noticed")
		}
		require.Error(t, top.Err())
		short, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		for what, call := range map[string]func() error{
			"dial": func() error { _, err := top.Dial(short, cluster.Client, "tcp", "v:7000"); return err },
			"exec": func() error {
				_, err := top.Exec(short, "v", cluster.Process{Argv: []string{probeName, "env"}})
				return err
			},
			"start": func() error { return top.Start(short, "v") },
			"kill":  func() error { _, err := top.Kill(short, "v"); return err },
			"await": func() error { return top.AwaitReady(short, "v") },
			"apply": func() error {
				_, err := top.Apply(short, []cluster.Link{{From: cluster.Client, To: "v"}}, cluster.Rule{Drop: true})
				return err
			},
			"pause": func() error { return top.Pause(short, "v") },
		} {
			err := call()
			require.Error(t, err, what)
			require.False(t, errors.Is(err, context.DeadlineExceeded), "%s hangs until its deadline", what)
		}
		requireDeadSoon(t, ctx, pids)
		require.NoError(t, k.Close())
		left, _ := top.Down(ctx) // it may say that the plane was gone already
		require.Empty(t, left)
		require.Empty(t, top.observed.of("v", cluster.NodeExited), "what dies with the plane is no death of the service's")
		s.nothingLeft(t, before)
	})
}

func requireDeadSoon(t *testing.T, ctx context.Context, pids []int) {
	t.Helper()
	poll(t, ctx, patience, "the plane's end is the end of its nodes", func() error {
		for _, p := range pids {
			if procState(p) != "" {
				return errors.New(cmdline(p))
			}
		}
		return nil
	})
}

// StartsEnv, when set, has every driver start and stop 100 topologies; a container engine is spared most of them otherwise.
const StartsEnv = "CLUSTERTEST_STARTS"

// leaks starts and stops topologies, uses each a little, and looks for what adds up.
func (s *suite) leaks(t *testing.T) {
	n := 100
	// A container engine takes 1.5 to 5 s for each, by how busy the machine is: `make starts` is for all of them. What every
	// start leaves behind shows at the first.
	if s.driver.Name() == "docker" && os.Getenv(StartsEnv) == "" {
		n = 8
	}
	if testing.Short() {
		n = min(n, 10)
	}
	// A descriptor that is forgotten is closed by the garbage collector sooner or later, and would not be seen.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	check(t, show(n, "times"), 5*time.Minute, func(t *testing.T, ctx context.Context) {
		before := s.look()
		for range n {
			s.once(t, ctx)
		}
		s.nothingLeft(t, before)
	})
	check(t, "side by side", 60*time.Second, func(t *testing.T, ctx context.Context) {
		before := s.look()
		const each = 4
		done := make(chan struct{}, each)
		for range each {
			go func() {
				defer func() { done <- struct{}{} }()
				s.once(t, ctx)
			}()
		}
		for range each {
			<-done
		}
		s.nothingLeft(t, before)
	})
}

// once starts a topology, talks, breaks and kills in it, and takes it down.
func (s *suite) once(t *testing.T, ctx context.Context) {
	a, b := s.service("a", "serve"), s.service("b", "serve", "-kids", "1")
	a.Ready, b.Ready = &plan.Condition{TCP: ":7000"}, &plan.Condition{TCP: ":7000"}
	top, err := s.tryUp(t, ctx, &cluster.Spec{Name: "once", Services: []cluster.Service{a, b}}, cluster.Options{Toxic: []cluster.Link{{From: "a", To: "b"}}})
	require.NoError(t, err)
	err = func() error {
		c, err := top.Dial(ctx, "a", "tcp", "b:7000")
		if err != nil {
			return err
		}
		defer c.Close()
		if _, _, err := newTalk(c).ask("echo hello", patience); err != nil {
			return err
		}
		// The rule is not removed and a program is still running: Down must see to both.
		if _, err := top.Apply(ctx, []cluster.Link{{From: "a", To: "b"}}, cluster.Rule{Delay: &cluster.Delay{Time: time.Millisecond}}); err != nil {
			return err
		}
		running, stop := context.WithCancel(ctx)
		e, err := top.Exec(running, cluster.Client, cluster.Process{Argv: []string{probeName, "sleep"}})
		if err != nil {
			stop()
			return err
		}
		defer func() { stop(); e.Wait() }()
		if _, err := top.Kill(ctx, "b"); err != nil {
			return err
		}
		left, err := top.Down(ctx)
		if len(left) > 0 {
			err = errors.Join(err, errors.New("left: "+strings.Join(left, ", ")))
		}
		return err
	}()
	require.NoError(t, err)
}
