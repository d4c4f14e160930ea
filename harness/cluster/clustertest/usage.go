package clustertest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// used checks what the cluster says that its nodes use.
func used(t *testing.T, top *topology) {
	check(t, "figures", 30*time.Second, func(t *testing.T, ctx context.Context) {
		u, ok := top.Cluster.(cluster.Usager)
		require.True(t, ok)
		before, err := u.Usage(ctx)
		require.NoError(t, err)
		for _, n := range top.Nodes() {
			x, ok := before[n.Name]
			require.True(t, ok, n.Name)
			require.Greater(t, x.RSS, uint64(100<<10), n.Name)
			require.Greater(t, x.Threads, uint64(0), n.Name)
			require.Greater(t, x.FDs, uint64(3), n.Name)
			require.Greater(t, x.Sockets, uint64(0), n.Name)
			require.Zero(t, x.Restarts, n.Name)
		}
		require.Contains(t, before, cluster.Client)
		require.Greater(t, before[cluster.Plane].RSS, uint64(1<<20))
		require.Greater(t, before["life"].Threads, before["a"].Threads, "life has children")

		burnt := inside[time.Duration](t, ctx, top, "a", "burn", "500ms")
		after, err := u.Usage(ctx)
		require.NoError(t, err)
		seen := after["a"].CPU - before["a"].CPU
		require.InEpsilon(t, burnt.Seconds(), seen.Seconds(), 0.25, "burnt %v beside the program, which has some of its own; seen %v", burnt, seen)
		require.Less(t, after["b"].CPU-before["b"].CPU, 200*time.Millisecond, "its neighbour")
		for name := range after {
			require.GreaterOrEqual(t, after[name].CPU, before[name].CPU, name)
		}
	})
}
