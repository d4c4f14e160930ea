package faults

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// restarted is a cluster that notes what was restarted.
type restarted struct {
	*links
	nodes []string
}

func (c *restarted) Restart(_ context.Context, n string, _ map[string]string) error {
	c.nodes = append(c.nodes, n)
	return nil
}

func TestOnlyWhatRunsIsRestarted(t *testing.T) {
	for _, s := range []cluster.State{cluster.StateExited, cluster.StatePaused, cluster.StateCreated} {
		c := &restarted{links: newLinks()}
		c.states["a"] = s
		_, _, err := inject(t.Context(), c, params(t, "restart", `{"node":"a"}`))
		require.ErrorContains(t, err, "a is "+string(s)+": only what runs can be restarted")
		assert.Empty(t, c.nodes)
	}
}
