package engine

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// gauge is a metric of a topology, as a list of answers of which the last stays.
type gauge struct {
	mu      sync.Mutex
	answers []any // []record.Sample or error
	closed  int
	asked   string
	closing error
}

func (g *gauge) At(_ context.Context, expr string) ([]record.Sample, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = expr
	a := g.answers[0]
	if len(g.answers) > 1 {
		g.answers = g.answers[1:]
	}
	if err, ok := a.(error); ok {
		return nil, err
	}
	return a.([]record.Sample), nil
}

func (g *gauge) Close() error { g.closed++; return g.closing }

func measured(t *testing.T, is string) *plan.Condition {
	b, err := plan.ParseBound(is)
	require.NoError(t, err)
	return &plan.Condition{Metric: &plan.MetricCondition{Query: "in_flight", Is: b}}
}

func on(node string, v float64) record.Sample {
	return record.Sample{Labels: map[string]string{"node": node}, Value: v}
}

func TestMetricCondition(t *testing.T) {
	rd, _ := handRound(t)
	_, _, err := rd.waiter(measured(t, "<= 3")).test(t.Context())
	require.ErrorContains(t, err, "this run records no metrics")
	for name, c := range map[string]struct {
		answer any
		holds  bool
		said   string
	}{
		"every sample":             {[]record.Sample{on("a", 1), on("b", 3)}, true, "3 on b"},
		"one breaks it":            {[]record.Sample{on("a", 1), on("b", 4)}, false, "4 on b"},
		"a number":                 {[]record.Sample{{Value: 2.5}}, true, "2.5"},
		"no sample":                {[]record.Sample{}, false, "it has no value"},
		"a metric that is not yet": {errors.New("no metric is called in_flight"), false, "no metric is called in_flight"},
	} {
		t.Run(name, func(t *testing.T) {
			rd.metrics = &gauge{answers: []any{c.answer}}
			ok, said, err := rd.waiter(measured(t, "<= 3")).test(t.Context())
			require.NoError(t, err)
			assert.Equal(t, c.holds, ok)
			assert.Equal(t, c.said, said)
		})
	}
}

func TestBaselineUntilAMetric(t *testing.T) {
	g := &gauge{answers: []any{errors.New("not yet"), []record.Sample{on("a", 9)}, []record.Sample{on("a", 2)}}}
	parts := working(newFake(), &worker{})
	parts.Metrics = func(c cluster.Cluster) (Metrics, error) {
		require.NotNil(t, c)
		return g, nil
	}
	p := planOf()
	p.Baseline = plan.Baseline{Until: measured(t, "<= 3"), Timeout: plan.Duration(10 * time.Second)}
	run, err := jobWith(t, t.Context(), three(), parts, withWorkload(p))
	require.NoError(t, err)
	assert.Equal(t, "in_flight", g.asked)
	assert.Equal(t, 1, g.closed)
	assert.Nil(t, has(run, record.Warning))

	// One that never comes to hold says what was seen last; metrics are ended all the same, and what they lack is known.
	g = &gauge{answers: []any{[]record.Sample{on("a", 9)}}, closing: errors.New("no figures of nodes")}
	p.Baseline.Timeout = plan.Duration(60 * time.Millisecond)
	run, err = jobWith(t, t.Context(), three(), parts, withWorkload(p))
	require.ErrorContains(t, err, "metric in_flight <= 3 did not come to hold within 60ms")
	require.ErrorContains(t, err, "last seen: 9 on a")
	assert.Equal(t, 1, g.closed)
	require.NotNil(t, has(run, record.Warning))
	assert.Equal(t, "no figures of nodes", has(run, record.Warning).Error)

	parts.Metrics = func(cluster.Cluster) (Metrics, error) { return nil, errors.New("no space left") }
	_, err = jobWith(t, t.Context(), three(), parts, withWorkload(p))
	require.ErrorContains(t, err, "record the metrics: no space left")
}
