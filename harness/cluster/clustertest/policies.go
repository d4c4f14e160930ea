package clustertest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// policies checks restart policies, exit status and stop signals, on programs that end by themselves.
func (s *suite) policies(t *testing.T) {
	dir, volumes := t.TempDir(), s.volumes(t)
	var top *topology
	check(t, "up", 20*time.Second, func(t *testing.T, ctx context.Context) {
		service := func(name string, r cluster.Restart, command ...string) cluster.Service {
			v := s.service(name, command...)
			v.Restart = r
			return v
		}
		no, always := cluster.Restart{Policy: "no"}, cluster.Restart{Policy: "always"}
		usr1 := service("usr1", no, "serve", "-code", "40")
		usr1.StopSignal = "SIGUSR1"
		stubborn := service("stubborn", no, "serve", "-ignore-term")
		stubborn.StopGrace = 200 * time.Millisecond
		var err error
		top, err = s.tryUp(t, ctx, &cluster.Spec{Name: "policies", Services: []cluster.Service{
			service("once", no, "job", "-after", "500ms", "-code", "42"),
			service("abort", no, "job", "-after", "500ms", "-signal", "SIGSEGV"),
			service("clean", cluster.Restart{Policy: "on-failure"}, "job", "-after", "50ms", "-say", "clean runs"),
			service("twice", cluster.Restart{Policy: "on-failure", MaxRetries: 2}, "job", "-after", "20ms", "-code", "1", "-say", "twice runs"),
			service("always", always, "job", "-after", "20ms", "-say", "always runs"),
			service("server", always, "serve"), service("unless", cluster.Restart{Policy: "unless-stopped"}, "serve"),
			usr1, stubborn,
		}}, cluster.Options{Dir: dir, Volumes: volumes})
		require.NoError(t, err)
	})
	if top == nil {
		t.FailNow()
	}
	restarts := func(t *testing.T, ctx context.Context, node string, n int) {
		t.Helper()
		poll(t, ctx, patience, fmt.Sprintf("%s is restarted %d times", node, n), func() error {
			st, err := top.Status(node)
			if err == nil && (st.Restarts < n || st.State != cluster.StateRunning) {
				err = fmt.Errorf("%d, %s", st.Restarts, st.State)
			}
			return err
		})
	}
	check(t, "exit status", 10*time.Second, func(t *testing.T, ctx context.Context) {
		for node, want := range map[string]string{"once": "42", "abort": "SIGSEGV-1", "clean": "0"} {
			st := top.state(t, ctx, node, cluster.StateExited)
			require.NotNil(t, st.Exit, node)
			require.Equal(t, want, st.Exit.Signal+fmt.Sprint(st.Exit.Code), node)
			require.Zero(t, st.Restarts, node)
			var es []cluster.Event
			poll(t, ctx, patience, "the end of "+node+" is observed", func() error { // a moment after Status knows it
				if es = top.observed.of(node, cluster.NodeExited); len(es) != 1 {
					return fmt.Errorf("%d times", len(es))
				}
				return nil
			})
			require.False(t, es[0].Announced, "%s ended by itself", node)
			require.Equal(t, want, es[0].Exit.Signal+fmt.Sprint(es[0].Exit.Code), node)
		}
	})
	check(t, "on-failure with a bound", 10*time.Second, func(t *testing.T, ctx context.Context) {
		poll(t, ctx, patience, "three runs", func() error {
			if n := len(top.observed.of("twice", cluster.NodeExited)); n != 3 {
				return fmt.Errorf("%d", n)
			}
			return nil
		})
		st := top.state(t, ctx, "twice", cluster.StateExited)
		require.Equal(t, 2, st.Restarts)
		require.Error(t, top.AwaitReady(ctx, "twice"), "it will not be restarted any more")
	})
	check(t, "always", 10*time.Second, func(t *testing.T, ctx context.Context) {
		// Docker's back-off: 100 ms, doubled each time.
		top.logged(t, ctx, "always", "always runs", 3)
		es := top.observed.of("always", cluster.NodeStarted)
		require.GreaterOrEqual(t, es[2].At.Sub(es[0].At), 300*time.Millisecond, "restarts back off")
		_, err := top.Stop(ctx, "always")
		if err != nil { // it was between two runs, and is not started again either
			st, serr := top.Status("always")
			require.NoError(t, serr)
			require.Equal(t, cluster.StateExited, st.State, "%v", err)
		}
	})
	check(t, "killed", 10*time.Second, func(t *testing.T, ctx context.Context) {
		for _, node := range []string{"server", "unless"} {
			_, err := top.Signal(ctx, node, "KILL", "")
			require.NoError(t, err)
			restarts(t, ctx, node, 1)
			poll(t, ctx, patience, node+" serves", func() error {
				_, err := top.get(ctx, node, "/healthz")
				return err
			})
		}
	})
	check(t, "held", 10*time.Second, func(t *testing.T, ctx context.Context) {
		release := top.Hold("server")
		_, err := top.Kill(ctx, "server")
		require.NoError(t, err)
		never(t, ctx, 400*time.Millisecond, func() error { // longer than the first back-off
			st, err := top.Status("server")
			if err == nil && st.State == cluster.StateRunning {
				err = errors.New("a held node was restarted")
			}
			return err
		})
		require.NoError(t, top.Start(ctx, "server"))
		release()
		release() // twice does no harm
		_, err = top.Signal(ctx, "server", "KILL", "")
		require.NoError(t, err)
		restarts(t, ctx, "server", 3)
	})
	check(t, "stopped", 10*time.Second, func(t *testing.T, ctx context.Context) {
		for _, node := range []string{"server", "unless"} {
			_, err := top.Stop(ctx, node)
			require.NoError(t, err)
			before, err := top.Status(node)
			require.NoError(t, err)
			never(t, ctx, 300*time.Millisecond, func() error {
				st, err := top.Status(node)
				if err == nil && (st.State != cluster.StateExited || st.Restarts != before.Restarts) {
					err = errors.New("what was stopped by hand was restarted")
				}
				return err
			})
		}
	})
	check(t, "stop signal", 10*time.Second, func(t *testing.T, ctx context.Context) {
		top.logged(t, ctx, "usr1", "listening", 1)
		exit, err := top.Stop(ctx, "usr1")
		require.NoError(t, err)
		require.Equal(t, "41", exit.Signal+fmt.Sprint(exit.Code), "SIGUSR1, as the service asks")
	})
	check(t, "grace", 10*time.Second, func(t *testing.T, ctx context.Context) {
		top.logged(t, ctx, "stubborn", "listening", 1)
		begin := time.Now()
		exit, err := top.Stop(ctx, "stubborn")
		require.NoError(t, err)
		require.Equal(t, "SIGKILL", exit.Signal)
		require.GreaterOrEqual(t, time.Since(begin), 200*time.Millisecond, "it had its grace")
		require.Less(t, time.Since(begin), 2*time.Second)
		top.logged(t, ctx, "stubborn", "main got terminated", 1)
	})
	check(t, "down", 20*time.Second, func(t *testing.T, ctx context.Context) { top.down(t, ctx) })
}

// never asks for a while that f returns no error.
func never(t *testing.T, ctx context.Context, during time.Duration, f func() error) {
	t.Helper()
	end := time.NewTimer(during)
	defer end.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		require.NoError(t, f())
		select {
		case <-tick.C:
		case <-end.C:
			return
		case <-ctx.Done():
			require.NoError(t, ctx.Err())
		}
	}
}
