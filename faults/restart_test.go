package faults

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// restarted is a cluster that notes what was stopped and what was restarted, and when.
type restarted struct {
	*links
	nodes []string
	at    []time.Time
}

func (c *restarted) Stop(_ context.Context, n string) (cluster.Exit, error) {
	c.note("stop " + n)
	return cluster.Exit{}, nil
}

func (c *restarted) Restart(_ context.Context, n string, _ map[string]string) error {
	c.note(n)
	return nil
}

func (c *restarted) note(what string) {
	c.nodes, c.at = append(c.nodes, what), append(c.at, time.Now())
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

// What is to stay stopped for a while is started again after it, and not when the run is over before.
func TestRestartedAfterItsTime(t *testing.T) {
	c := &restarted{links: newLinks()}
	c.states["a"] = cluster.StateRunning
	_, _, err := inject(t.Context(), c, params(t, "restart", `{"node":"a","down":"20ms"}`))
	require.ErrorContains(t, err, "a still runs the program that was started before", "this cluster starts nothing")
	require.Equal(t, []string{"stop a", "a"}, c.nodes)
	assert.GreaterOrEqual(t, c.at[1].Sub(c.at[0]), 20*time.Millisecond)

	c.nodes = nil
	over, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, _, err = inject(over, c, params(t, "restart", `{"node":"a","down":"1h"}`))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Equal(t, []string{"stop a"}, c.nodes)
}
