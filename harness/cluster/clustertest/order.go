package clustertest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// order checks depends_on: what starts when, and that Down goes the other way.
func (s *suite) order(t *testing.T) {
	check(t, "depends_on", 20*time.Second, func(t *testing.T, ctx context.Context) {
		job := s.service("job", "job", "-after", "150ms")
		base := s.service("base", "serve", "-delay", "150ms")
		base.Health = &cluster.Healthcheck{Argv: []string{probeName, "check", "127.0.0.1:7000"}, Interval: 30 * time.Millisecond, Timeout: time.Second, Retries: 100}
		middle := s.service("middle", "serve")
		middle.DependsOn = []cluster.Dependency{{Service: "base", Condition: "service_healthy"}, {Service: "job", Condition: "service_completed_successfully"}}
		top := s.service("top", "serve")
		top.DependsOn = []cluster.Dependency{{Service: "middle", Condition: "service_started"}}
		// Or the stop signal may come before they handle it. That top waits for middle's start alone shows in the events.
		middle.Ready = &plan.Condition{TCP: ":7000"}
		top.Ready = &plan.Condition{TCP: ":7000"}
		running := s.up(t, ctx, &cluster.Spec{Name: "order", Services: []cluster.Service{top, middle, base, job}}, cluster.Options{})

		at := func(node string, kind cluster.EventKind) time.Time {
			t.Helper()
			es := running.observed.of(node, kind)
			require.Len(t, es, 1, "%s of %s", kind, node)
			return es[0].At
		}
		ordered := func(what string, before, after time.Time) {
			t.Helper()
			require.False(t, after.Before(before), "%s: %v too early", what, before.Sub(after))
		}
		ordered("healthy before its dependant starts", at("base", cluster.NodeHealthy), at("middle", cluster.NodeStarted))
		ordered("completed before its dependant starts", at("job", cluster.NodeExited), at("middle", cluster.NodeStarted))
		ordered("started before its dependant", at("middle", cluster.NodeStarted), at("top", cluster.NodeStarted))
		ordered("what does not depend on each other starts side by side", at("job", cluster.NodeStarted), at("base", cluster.NodeHealthy))
		ordered("what does not depend on each other starts side by side", at("base", cluster.NodeStarted), at("job", cluster.NodeExited))
		st, err := running.Status("job")
		require.NoError(t, err)
		require.Equal(t, "exited 0", show(st.State, st.Exit.Code))
		require.Zero(t, st.Restarts)

		running.down(t, ctx)
		ordered("a dependant stops before what it needs", at("top", cluster.NodeExited), at("middle", cluster.NodeExited))
		ordered("a dependant stops before what it needs", at("middle", cluster.NodeExited), at("base", cluster.NodeExited))
		for _, n := range []string{"top", "middle", "base"} {
			e := running.observed.of(n, cluster.NodeExited)[0]
			require.True(t, e.Announced, n)
			require.Equal(t, "0", e.Exit.Signal+show(e.Exit.Code), "%s got its stop signal and ended by itself", n)
		}
	})
	check(t, "a job that fails", 20*time.Second, func(t *testing.T, ctx context.Context) {
		before := s.look()
		job := s.service("job", "job", "-code", "3", "-moan", "the migration is broken")
		next := s.service("next", "serve")
		next.DependsOn = []cluster.Dependency{{Service: "job", Condition: "service_completed_successfully"}}
		_, err := s.tryUp(t, ctx, &cluster.Spec{Name: "order", Services: []cluster.Service{job, next}}, cluster.Options{})
		require.ErrorContains(t, err, "job")
		require.ErrorContains(t, err, "the migration is broken")
		s.nothingLeft(t, before)
	})
}

// ready checks the conditions by which a node is ready, and the healthcheck.
func (s *suite) ready(t *testing.T) {
	check(t, "conditions", 20*time.Second, func(t *testing.T, ctx context.Context) {
		spec := &cluster.Spec{Name: "ready"}
		const late = 200 * time.Millisecond
		for name, c := range map[string]*plan.Condition{
			"http": {HTTP: "http://:8080/healthz"}, "tcp": {TCP: ":7000"},
			"log": {Log: &plan.LogCondition{Matches: "^listen.*g$"}}, "exec": {Exec: []string{probeName, "check", "127.0.0.1:7000"}},
		} {
			v := s.service(name, "serve", "-delay", late.String())
			v.Ready = c
			spec.Services = append(spec.Services, v)
		}
		spec.Services = append(spec.Services, s.service("none", "serve", "-delay", late.String()))
		top := s.up(t, ctx, spec, cluster.Options{})
		for _, n := range top.Nodes() {
			es := top.observed.of(n.Name, cluster.NodeReady)
			require.Len(t, es, 1, n.Name)
			if n.Name == "none" {
				require.Less(t, es[0].At.Sub(top.observed.of(n.Name, cluster.NodeStarted)[0].At), late, "ready when it was started")
				continue
			}
			// The program says when it listened: an engine may hear of a start some time after it.
			after := es[0].At.Sub(decode[stats](t, ctx, top, n.Name, "/stats").Since)
			require.Positive(t, after, n.Name)
			require.Less(t, after, time.Second, n.Name)
		}
	})
	check(t, "healthcheck at Docker's own interval", 20*time.Second, func(t *testing.T, ctx context.Context) {
		v := s.service("v", "serve")
		v.Health = &cluster.Healthcheck{Argv: []string{probeName, "check", "http://127.0.0.1:8080/healthz"}, Interval: 30 * time.Second, Timeout: 30 * time.Second, Retries: 3}
		top := s.up(t, ctx, &cluster.Spec{Name: "rare", Services: []cluster.Service{v}}, cluster.Options{})
		_, err := top.Kill(ctx, "v")
		require.NoError(t, err)
		require.NoError(t, top.Start(ctx, "v"))
		require.NoError(t, top.AwaitReady(ctx, "v"), "it is not waited for the first interval to end")
	})
	check(t, "healthcheck", 20*time.Second, func(t *testing.T, ctx context.Context) {
		v := s.service("v", "serve", "-delay", "100ms")
		v.Health = &cluster.Healthcheck{Argv: []string{probeName, "check", "http://127.0.0.1:8080/healthz"}, Interval: 40 * time.Millisecond, Timeout: 200 * time.Millisecond, StartPeriod: time.Second, Retries: 2}
		top := s.up(t, ctx, &cluster.Spec{Name: "health", Services: []cluster.Service{v}}, cluster.Options{})
		health := func(kind cluster.EventKind, n int, ready bool) {
			t.Helper()
			poll(t, ctx, patience, show(kind, n), func() error {
				st, err := top.Status("v")
				if err != nil {
					return err
				}
				if got := len(top.observed.of("v", kind)); got != n || st.Ready != ready {
					return fmt.Errorf("%d times, ready %v", got, st.Ready)
				}
				return nil
			})
		}
		health(cluster.NodeHealthy, 1, true)
		top.mustGet(t, ctx, "v", "/healthz?set=fail")
		health(cluster.NodeUnhealthy, 1, false)
		top.mustGet(t, ctx, "v", "/healthz?set=ok")
		health(cluster.NodeHealthy, 2, true)
		top.mustGet(t, ctx, "v", "/healthz?set=slow") // its timeout counts as a failure
		health(cluster.NodeUnhealthy, 2, false)
		require.Empty(t, top.observed.of("v", cluster.NodeExited), "unhealthy is not dead")
		top.mustGet(t, ctx, "v", "/healthz?set=ok")
		require.NoError(t, top.AwaitReady(ctx, "v"))
	})
	check(t, "await", 20*time.Second, func(t *testing.T, ctx context.Context) {
		v := s.service("v", "serve", "-delay", "100ms")
		v.Ready = &plan.Condition{TCP: ":7000"}
		top := s.up(t, ctx, &cluster.Spec{Name: "await", Services: []cluster.Service{v}}, cluster.Options{})
		require.NoError(t, top.AwaitReady(ctx, "v"))
		_, err := top.Kill(ctx, "v")
		require.NoError(t, err)
		begin := time.Now()
		require.Error(t, top.AwaitReady(ctx, "v"), "it has ended and will not be restarted")
		require.Less(t, time.Since(begin), time.Second, "that is known at once")
		require.NoError(t, top.Start(ctx, "v"))
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, top.AwaitReady(short, "v"), context.DeadlineExceeded)
		require.NoError(t, top.AwaitReady(ctx, "v"))
	})
}
