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
	nodes  []string
	at     []time.Time
	starts bool                        // a restart starts a program
	broken func(context.Context) error // what becomes of a restart
}

func (c *restarted) Stop(_ context.Context, n string) (cluster.Exit, error) {
	c.note("stop " + n)
	c.states[n] = cluster.StateExited
	return cluster.Exit{}, nil
}

func (c *restarted) Restart(ctx context.Context, n string, _ map[string]string) error {
	c.note(n)
	if c.broken != nil {
		c.states[n] = cluster.StateExited
		return c.broken(ctx)
	}
	c.states[n] = cluster.StateRunning
	if c.starts {
		c.begun = map[string]time.Time{n: time.Now()}
	}
	return nil
}

func (c *restarted) Start(_ context.Context, n string) error {
	c.note("start " + n)
	c.states[n] = cluster.StateRunning
	return c.known(n)
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

// Cut off while a node is stopped, the restart must not leave it so: what comes after would be asked of a service that lacks it.
func TestARestartThatIsCutOffStartsWhatItHasStopped(t *testing.T) {
	for name, c := range map[string]struct {
		params string
		broken func(context.Context) error
		away   bool
		notes  []string
	}{
		"while it is down":       {`{"node":"a","down":"1h"}`, nil, false, []string{"stop a", "start a"}},
		"while it is restarted":  {`{"node":"a"}`, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, false, []string{"a", "start a"}},
		"before it has stopped":  {`{"group":"all","rolling":{"gap":"1h"}}`, nil, false, []string{"a"}},
		"and it is scaled away":  {`{"node":"a","down":"1h"}`, nil, true, []string{"stop a"}},
		"of one that it may not": {`{"node":"c"}`, nil, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			l := &restarted{links: newLinks(), starts: true, broken: c.broken}
			l.states = map[string]cluster.State{"a": cluster.StateRunning, "b": cluster.StateRunning, "c": cluster.StateExited}
			over, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			_, undo, err := inject(over, l, params(t, "restart", c.params))
			require.Error(t, err)
			if c.away {
				l.away = map[string]bool{"a": true}
			}
			require.NoError(t, undo(t.Context()))
			assert.Equal(t, c.notes, l.nodes)
		})
	}
}

// What another fault does to a node that was restarted is not for the restart to take back.
func TestARestartThatIsOverHasNothingToTakeBack(t *testing.T) {
	c := &restarted{links: newLinks(), starts: true}
	c.states["a"] = cluster.StateRunning
	_, undo, err := inject(t.Context(), c, params(t, "restart", `{"node":"a"}`))
	require.NoError(t, err)
	c.states["a"] = cluster.StateExited
	require.NoError(t, undo(t.Context()))
	assert.Equal(t, []string{"a"}, c.nodes)
}
