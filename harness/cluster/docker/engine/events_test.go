package engine

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// next returns the next event, or fails.
func next(t *testing.T, ctx context.Context, events <-chan Event) Event {
	t.Helper()
	select {
	case ev, ok := <-events:
		require.True(t, ok, "the events ended")
		return ev
	case <-ctx.Done():
		require.Fail(t, "no event came")
		return Event{}
	}
}

func TestEvents(t *testing.T) {
	e := connected(t)
	r, other := newRun(t, e), newRun(t, e)
	ctx, cancel := context.WithCancel(within(t, time.Minute))
	before := started(t, r, Spec{Name: "before"}) // what happened before is not told
	events, errs := r.Events(ctx)
	require.NoError(t, before.Kill(ctx, "SIGKILL"))

	c := started(t, r, Spec{Node: "store", Role: "program"})
	started(t, other, Spec{}) // not of this run
	require.NoError(t, c.Stop(ctx, "SIGTERM", time.Minute))
	startReady(t, c)
	require.NoError(t, c.Kill(ctx, "SIGKILL"))

	ev := next(t, ctx, events)
	assert.Equal(t, Died, ev.Kind)
	assert.Equal(t, before.ID(), ev.Container)
	for _, want := range []struct {
		kind EventKind
		code int
	}{{Started, 0}, {Died, 7}, {Started, 0}, {Died, 137}} {
		ev := next(t, ctx, events)
		assert.Equal(t, want.kind, ev.Kind)
		assert.Equal(t, want.code, ev.Code)
		assert.Equal(t, c.ID(), ev.Container)
		assert.Equal(t, "store", ev.Node)
		assert.Equal(t, "program", ev.Role)
		assert.WithinDuration(t, time.Now(), ev.At, time.Minute)
	}
	cancel()
	_, open := <-events
	assert.False(t, open, "nothing else came")
	err, open := <-errs
	assert.False(t, open)
	assert.NoError(t, err)
}

// The engine answers before it has subscribed: what comes right after must be seen, every time and once.
func TestEventsMissNothingAtTheirBeginning(t *testing.T) {
	r := newRun(t, connected(t))
	c := create(t, r, Spec{}, "exit", "0")
	for range 10 {
		ctx, cancel := context.WithCancel(within(t, time.Minute))
		events, _ := r.Events(ctx)
		require.NoError(t, c.Start(ctx))
		require.Equal(t, Started, next(t, ctx, events).Kind)
		require.Equal(t, Died, next(t, ctx, events).Kind)
		cancel()
		_, open := <-events
		require.False(t, open, "an event came twice")
	}
}

func TestHealthEvents(t *testing.T) {
	r := newRun(t, connected(t))
	ctx := within(t, time.Minute)
	events, _ := r.Events(ctx)
	c := started(t, r, Spec{Health: &cluster.Healthcheck{
		Argv: []string{patient, "have", "/tmp/well"}, Interval: 100 * time.Millisecond, Timeout: 10 * time.Second, Retries: 2,
	}})
	require.Equal(t, Started, next(t, ctx, events).Kind)
	require.Equal(t, Unhealthy, next(t, ctx, events).Kind)
	runIn(t, c, ExecSpec{Argv: []string{patient, "touch", "/tmp/well"}})
	require.Equal(t, Healthy, next(t, ctx, events).Kind)
	s, err := c.Inspect(ctx)
	require.NoError(t, err)
	assert.Equal(t, "healthy", s.Health)
}

func TestOutOfMemoryEvent(t *testing.T) {
	e := connected(t)
	if err := e.MemoryLimit(); err != nil {
		t.Skip(err)
	}
	r := newRun(t, e)
	ctx := within(t, time.Minute)
	events, _ := r.Events(ctx)
	c := create(t, r, Spec{Limits: cluster.Limits{Memory: 32 << 20}}, "eat", "100")
	require.NoError(t, c.Start(ctx))
	kinds := map[EventKind]Event{}
	for kinds[Died].Kind == "" || kinds[OOM].Kind == "" {
		ev := next(t, ctx, events)
		kinds[ev.Kind] = ev
	}
	assert.Equal(t, 137, kinds[Died].Code)
}
