package clustertest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// star starts the topology that most of the suite shares: a, b and c to talk, life to be killed, stopped and restarted, web to
// be scaled. The link a -> c goes through the link core. Each subtest leaves it as it was.
func (s *suite) star(t *testing.T) {
	// A variable of the harness: no program of a node may see it.
	t.Setenv("CLUSTERTEST_SECRET", "of the harness")
	dir, volumes := t.TempDir(), s.volumes(t)
	var top *topology
	check(t, "up", 20*time.Second, func(t *testing.T, ctx context.Context) {
		web := s.service("web", "serve")
		web.Scaled, web.Replicas, web.Ready = true, 2, &plan.Condition{TCP: ":7000"}
		other := s.service("b", "serve", "-mark", "other-node")
		other.Group, other.Zone = "pair", "east"
		spec := &cluster.Spec{Name: "star", Services: []cluster.Service{
			s.service("a", "serve"), other, s.service("c", "serve"),
			s.service("life", "serve", "-say", "life begins", "-moan", "life complains", "-kids", "2", "-code", "7"), web,
		}}
		for i := range spec.Services[:4] {
			spec.Services[i].Ready = &plan.Condition{HTTP: "http://:8080/healthz"}
		}
		var err error
		top, err = s.tryUp(t, ctx, spec, cluster.Options{
			Dir: dir, Volumes: volumes, Toxic: []cluster.Link{{From: "a", To: "c"}},
		})
		require.NoError(t, err)
	})
	if top == nil {
		t.FailNow()
	}
	for _, part := range []struct {
		name string
		run  func(*testing.T, *topology)
	}{
		{"nodes", starNodes}, {"names", names}, {"streams", streams}, {"dialling", dialling}, {"exec", execs},
		{"links", links}, {"toxics", toxics}, {"isolation", isolation}, {"usage", used}, {"lifecycle", lifecycle}, {"scale", scale},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, top) })
	}
	check(t, "down", 20*time.Second, func(t *testing.T, ctx context.Context) {
		top.down(t, ctx)
		left, err := top.Down(ctx)
		require.NoError(t, err, "the second time")
		require.Empty(t, left)
		_, err = top.Dial(ctx, cluster.Client, "tcp", "a:7000")
		require.Error(t, err, "dial after down")
		require.Error(t, top.Start(ctx, "life"), "start after down")
	})
}

// starNodes checks what the cluster says about its nodes.
func starNodes(t *testing.T, top *topology) {
	check(t, "list", 5*time.Second, func(t *testing.T, ctx context.Context) {
		var got []string
		seen := map[string]bool{}
		for _, n := range top.Nodes() {
			got = append(got, n.Name)
			require.True(t, n.Addr.IsValid(), n.Name)
			require.False(t, seen[n.Addr.String()], "address %v is there twice", n.Addr)
			seen[n.Addr.String()] = true
		}
		require.Equal(t, []string{"a", "b", "c", "life", "web-1", "web-2"}, got)
		b, w := top.info(t, "b"), top.info(t, "web-2")
		require.Equal(t, "b pair east 1 false", show(b.Service, b.Group, b.Zone, b.Ordinal, b.Scaled))
		require.Equal(t, "web 2 true", show(w.Service, w.Ordinal, w.Scaled))
		_, err := top.Status("nobody")
		var unknown *cluster.UnknownNodeError
		require.ErrorAs(t, err, &unknown)
		require.Equal(t, "nobody", unknown.Name)
	})
	check(t, "observed", 5*time.Second, func(t *testing.T, ctx context.Context) {
		for _, n := range top.Nodes() {
			require.Len(t, top.observed.of(n.Name, cluster.NodeStarted), 1, n.Name)
			require.Len(t, top.observed.of(n.Name, cluster.NodeReady), 1, n.Name)
			started, ready := top.observed.of(n.Name, cluster.NodeStarted)[0], top.observed.of(n.Name, cluster.NodeReady)[0]
			require.False(t, ready.At.Before(started.At), "%s was ready before it was started", n.Name)
			st, err := top.Status(n.Name)
			require.NoError(t, err)
			require.Equal(t, cluster.StateRunning, st.State)
			require.True(t, st.Ready, n.Name)
			require.Zero(t, st.Restarts)
			require.Nil(t, st.Exit)
		}
	})
}
