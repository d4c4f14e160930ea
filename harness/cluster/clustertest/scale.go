package clustertest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// scale checks replicas that come and go while the topology runs.
func scale(t *testing.T, top *topology) {
	check(t, "up", 20*time.Second, func(t *testing.T, ctx context.Context) {
		require.NoError(t, top.Scale(ctx, "web", 4))
		for _, n := range []string{"web-3", "web-4"} {
			st, err := top.Status(n)
			require.NoError(t, err)
			require.Equal(t, "running true", show(st.State, st.Ready), n)
			require.Equal(t, "web", top.info(t, n).Service)
			for _, from := range []string{"a", "web-1", cluster.Client, "web-4"} {
				d := inside[dialed](t, ctx, top, from, "dial", "tcp", n+":7000", "echo hello")
				require.Equal(t, "hello", d.Answer, "%s from %s: %s", n, from, d.Error)
			}
			top.dial(t, ctx, n, "a:7000").alive(t, patience)
			require.Equal(t, n, inside[selfInfo](t, ctx, top, n, "env").Hostname)
		}
		require.Equal(t, top.webs(t), top.lookup(t, ctx, "a", "web"), "the service's name stands for all four")
		require.Len(t, top.webs(t), 4)
	})
	check(t, "rules on a new replica", 10*time.Second, func(t *testing.T, ctx context.Context) {
		undo := top.rule(t, ctx, cluster.Rule{Drop: true}, cluster.Link{From: "a", To: "web-4"})
		require.True(t, timedOut(top.refuses(t, ctx, mute, "a", "web-4:7000")))
		undo()
		top.dial(t, ctx, "a", "web-4:7000").alive(t, patience)
	})
	check(t, "down", 20*time.Second, func(t *testing.T, ctx context.Context) {
		pids := top.pids(t, "web-2")
		require.NoError(t, top.Scale(ctx, "web", 1))
		require.Len(t, top.webs(t), 1)
		require.Equal(t, top.webs(t), top.lookup(t, ctx, "a", "web"))
		requireDead(t, pids)
		for _, r := range inside[[]resolved](t, ctx, top, "a", "resolve", "web-2", "web-4") {
			require.True(t, r.NotFound, "%s: %v", r.Name, r.Addrs)
		}
		var unknown *cluster.UnknownNodeError
		_, err := top.Status("web-2")
		require.ErrorAs(t, err, &unknown)
		require.Len(t, top.observed.of("web-4", cluster.NodeRemoved), 1)
		for _, e := range top.observed.of("web-4", cluster.NodeExited) {
			require.True(t, e.Announced)
		}
	})
	check(t, "up again", 20*time.Second, func(t *testing.T, ctx context.Context) {
		require.NoError(t, top.Scale(ctx, "web", 2))
		top.dial(t, ctx, "a", "web-2:7000").alive(t, patience)
		require.Equal(t, top.webs(t), top.lookup(t, ctx, "a", "web"))
	})
	check(t, "refused", 5*time.Second, func(t *testing.T, ctx context.Context) {
		require.Error(t, top.Scale(ctx, "a", 2), "a service that is not scaled")
		require.Error(t, top.Scale(ctx, "nobody", 2))
		require.Error(t, top.Scale(ctx, "web", -1))
	})
}

// laterReplicas checks that the links of nodes that come later go through the link core from their first connection.
func (s *suite) laterReplicas(t *testing.T) {
	check(t, "toxics", 60*time.Second, func(t *testing.T, ctx context.Context) {
		a, web := s.service("a", "serve"), s.service("web", "serve")
		web.Scaled = true
		a.Ready, web.Ready = &plan.Condition{TCP: ":7000"}, &plan.Condition{TCP: ":7000"}
		top := s.up(t, ctx, &cluster.Spec{Name: "later", Services: []cluster.Service{a, web}}, cluster.Options{Toxic: []cluster.Link{{From: "a", To: "web"}}})
		require.NoError(t, top.Scale(ctx, "web", 3))
		var links []cluster.Link
		var live []*talk
		for _, n := range []string{"web-1", "web-2", "web-3"} {
			k := top.dial(t, ctx, "a", n+":7000")
			k.alive(t, patience)
			links, live = append(links, cluster.Link{From: "a", To: n}), append(live, k)
		}
		undo := top.rule(t, ctx, cluster.Rule{Toxic: &cluster.Toxic{Type: "latency", Stream: "downstream", Toxicity: 1, Attributes: []byte(`{"latency": 200}`), Seed: 1}}, links...)
		for i, k := range live {
			require.GreaterOrEqual(t, k.alive(t, patience), 200*time.Millisecond, "%s, on a live connection", links[i])
		}
		undo()
		for _, k := range live {
			require.Less(t, k.fastest(t, 5), 30*time.Millisecond, "healed")
		}
	})
}

// webs are the addresses of the nodes of web, sorted.
func (top *topology) webs(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, n := range top.Nodes() {
		if n.Service == "web" {
			all = append(all, n.Addr.String())
		}
	}
	slices.Sort(all)
	return all
}

func (top *topology) lookup(t *testing.T, ctx context.Context, node, name string) []string {
	t.Helper()
	all := inside[[]resolved](t, ctx, top, node, "resolve", name)[0].Addrs
	slices.Sort(all)
	return all
}
