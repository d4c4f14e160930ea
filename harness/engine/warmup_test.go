package engine

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// withLoad is a plan with one load of 100 requests a second and a warm-up.
func withLoad(p *plan.Plan, warmup time.Duration) *plan.Plan {
	p.Warmup = plan.Duration(warmup)
	p.Loads = []plan.Load{{Name: "web", To: "db", Stages: []plan.Stage{{From: 100, To: 100, For: plan.Duration(time.Second)}, {From: 900, To: 900}}}}
	return p
}

// phasesOf are the phases that a round came to, in order.
func phasesOf(r *record.Run) (names []string) {
	for _, e := range r.Events {
		if e.Kind == record.PhaseBegin {
			names = append(names, e.Phase)
		}
	}
	return names
}

func warnings(r *record.Run) (said []string) {
	for _, e := range r.Events {
		if e.Kind == record.Warning {
			said = append(said, e.Evidence)
		}
	}
	return said
}

// The baseline begins once the load is answered as it should be; the load of the warm-up has ended by then, and is another one.
func TestTheBaselineWaitsForAWarmService(t *testing.T) {
	d := newFake()
	var asked atomic.Int32
	var warming atomic.Bool
	var made []plan.Load
	parts := working(d, &worker{})
	parts.Load = func(l plan.Load, e Env) (Generator, error) {
		made = append(made, l)
		if l.Name == "web" {
			return &worker{}, nil
		}
		return &worker{
			run: func(ctx context.Context) error {
				warming.Store(true)
				defer warming.Store(false)
				assert.Equal(t, plan.PhaseWarmup, e.Phase())
				<-ctx.Done()
				return nil
			},
			success: func(d plan.Duration) (float64, int) {
				if asked.Add(1) < 20 {
					return 0.5, 50
				}
				return 1, int(45 * d.D() / (500 * time.Millisecond))
			},
		}, nil
	}
	run, err := jobWith(t, t.Context(), three(), parts, withLoad(planOf(), time.Minute))
	require.NoError(t, err)
	assert.GreaterOrEqual(t, asked.Load(), int32(20))
	assert.False(t, warming.Load())
	assert.Equal(t, []string{"up", "ready", "warmup", "baseline", "fault", "recovery", "verify", "drain", "down", "audit"}, phasesOf(run))
	assert.Empty(t, warnings(run))
	require.Len(t, made, 2)
	assert.Equal(t, "web.warmup", made[1].Name)
	assert.Equal(t, []plan.Stage{{From: 100, To: 100}}, made[1].Stages, "the first rate, and no other stage")
}

// A service that does not get there is measured as it is, and the record says so.
func TestAServiceThatStaysColdBeginsItsBaselineAllTheSame(t *testing.T) {
	for name, c := range map[string]struct {
		share float64
		n     func(time.Duration) int // answers in a window, at 100 requests a second
		warm  bool
	}{
		"bad answers":     {0.98, func(d time.Duration) int { return int(100 * d.Seconds()) }, false},
		"few answers":     {1, func(d time.Duration) int { return int(79 * d.Seconds()) }, false},
		"none":            {0, func(time.Duration) int { return 0 }, false},
		"slow but steady": {1, func(d time.Duration) int { return int(100 * (d.Seconds() - 0.3)) }, true}, // 0.3 s are in hand
		"all good":        {1, func(d time.Duration) int { return int(100 * d.Seconds()) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			parts := working(newFake(), &worker{success: func(d plan.Duration) (float64, int) { return c.share, c.n(d.D()) }})
			run, err := jobWith(t, t.Context(), three(), parts, withLoad(planOf(), 200*time.Millisecond))
			require.NoError(t, err)
			assert.Contains(t, phasesOf(run), plan.PhaseBaseline)
			if c.warm {
				assert.Empty(t, warnings(run))
				return
			}
			require.Len(t, warnings(run), 1)
			assert.Contains(t, warnings(run)[0], "not warm")
		})
	}
}

// A load may be too slow for a handful of answers in any window: nearly all of what is due is asked of it, too.
func TestASlowLoadCanBeWarm(t *testing.T) {
	for _, c := range []struct {
		rate float64
		n    func(time.Duration) int
		warm bool
	}{
		{2, func(d time.Duration) int { return int(2 * d.Seconds()) }, true},
		{2, func(d time.Duration) int { return int(2*d.Seconds()) - 1 }, false},
		{2, func(d time.Duration) int { return int(2 * min(d, time.Second).Seconds()) }, false},
		{0.2, func(d time.Duration) int { return int(d / (2 * time.Second)) }, true}, // when the last one was due less than 2 s ago
		{0.2, func(time.Duration) int { return 0 }, false},
		{5, func(d time.Duration) int { return int(5 * min(d, 800*time.Millisecond).Seconds()) }, false}, // 4 of 10
	} {
		is, why := isWarm(&worker{success: func(d plan.Duration) (float64, int) { return 1, c.n(d.D()) }}, c.rate)
		assert.Equal(t, c.warm, is, "%v/s: %s", c.rate, why)
	}
}

func TestALoadThatFailsInTheWarmupIsAFailure(t *testing.T) {
	w := &worker{run: func(context.Context) error { panic("bad load") }, success: func(plan.Duration) (float64, int) { return 0, 0 }}
	run, err := jobWith(t, t.Context(), three(), working(newFake(), w), withLoad(planOf(), time.Minute))
	require.ErrorContains(t, err, "bad load")
	require.Len(t, failures(run), 1)
	assert.Contains(t, failures(run)[0], "the warm-up: load web")
	assert.NotContains(t, phasesOf(run), plan.PhaseBaseline)
}

func TestFirstRate(t *testing.T) {
	assert.Equal(t, 5.0, firstRate([]plan.Stage{{From: 5, To: 9}}))
	assert.Equal(t, 9.0, firstRate([]plan.Stage{{From: 0, To: 9}}))
	assert.Equal(t, 7.0, firstRate([]plan.Stage{{For: 1}, {From: 7, To: 7}}))
	assert.Zero(t, firstRate([]plan.Stage{{}}))
}
