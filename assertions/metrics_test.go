package assertions

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/record"
)

// fakeMetrics answers what the judges ask: a selector of one label, or timestamp() of it, over a range.
type fakeMetrics struct {
	start    time.Time // of the run
	interval time.Duration
	series   []record.Series // points are scrapes
	gaps     []record.Gap
	shift    time.Duration // of timestamps, to be wrong
	err      error
	of       string // what cannot be answered, where err is set: names, gaps, or what an expression begins with; empty: nothing can
}

// fails is err where it concerns a question.
func (m *fakeMetrics) fails(question string) error {
	if strings.HasPrefix(question, m.of) {
		return m.err
	}
	return nil
}

func (m *fakeMetrics) Interval() time.Duration { return m.interval }

func (m *fakeMetrics) Gaps(from, to time.Duration) ([]record.Gap, error) {
	return m.gaps, m.fails("gaps")
}

func (m *fakeMetrics) Names() ([]string, error) {
	names := map[string]bool{}
	for _, s := range m.series {
		names[s.Labels["__name__"]] = true
	}
	return slices.Sorted(maps.Keys(names)), m.fails("names")
}

func (m *fakeMetrics) At(expr string, at time.Duration) ([]record.Sample, error) {
	series, err := m.Range(expr, at, at, m.interval)
	var out []record.Sample
	for _, s := range series {
		out = append(out, record.Sample{Labels: s.Labels, Value: s.Points[0].Value})
	}
	return out, err
}

// Range looks back no further than three intervals.
func (m *fakeMetrics) Range(expr string, from, to, step time.Duration) ([]record.Series, error) {
	if step <= 0 {
		return nil, fmt.Errorf("a step of %s", step)
	}
	inner, stamp := strings.CutPrefix(expr, "timestamp(")
	if stamp {
		inner = strings.TrimSuffix(inner, ")")
	}
	name, rest, _ := strings.Cut(inner, "{")
	label, value, one := strings.Cut(strings.TrimSuffix(rest, "}"), "=")
	if one {
		var err error
		if value, err = strconv.Unquote(value); err != nil {
			return nil, fmt.Errorf("cannot parse %s: %w", expr, err)
		}
	}
	var out []record.Series
	for _, s := range m.series {
		if s.Labels["__name__"] != name || (one && s.Labels[label] != value) {
			continue
		}
		x := record.Series{Labels: maps.Clone(s.Labels)}
		if stamp {
			delete(x.Labels, "__name__")
		}
		for t := from; t <= to; t += step {
			i, _ := slices.BinarySearchFunc(s.Points, t+1, func(p record.Point, t time.Duration) int { return int(p.T - t) })
			if i == 0 || s.Points[i-1].T < t-3*m.interval {
				continue
			}
			p := record.Point{T: t, Value: s.Points[i-1].Value}
			if stamp {
				p.Value = float64(m.start.Add(s.Points[i-1].T+m.shift).UnixNano()) / 1e9
			}
			x.Points = append(x.Points, p)
		}
		if len(x.Points) > 0 {
			out = append(out, x)
		}
	}
	return out, m.fails(expr)
}

// gauge adds a series that is scraped each interval from the given moment on.
func (m *fakeMetrics) gauge(name, node string, more map[string]string, from, to time.Duration, value func(t time.Duration) float64) {
	s := record.Series{Labels: map[string]string{"__name__": name, "node": node}}
	maps.Copy(s.Labels, more)
	for t := from; t <= to; t += m.interval {
		s.Points = append(s.Points, record.Point{T: t, Value: value(t)})
	}
	m.series = append(m.series, s)
}

func TestScrapes(t *testing.T) {
	m := &fakeMetrics{interval: 200 * ms}
	inventory := map[string]string{"service": "inventory"}
	m.gauge("up", "orders-1", inventory, 50*ms, time.Second, func(t time.Duration) float64 { return t.Seconds() })
	m.gauge("up", "orders-2", inventory, 450*ms, 850*ms, func(time.Duration) float64 { return 1 })
	m.gauge("up", "orders-2", map[string]string{"service": "inventory", "to": "open"}, 650*ms, 850*ms, func(time.Duration) float64 { return 2 })
	m.gauge("up", "orders-3", map[string]string{"service": "orders"}, 0, time.Second, func(time.Duration) float64 { return 3 })
	run := newStory().write(t)
	m.start = run.Meta.Start
	run.Metrics = m
	const up = `up{service="inventory"}`
	got, err := scraped(run, up, 1, time.Second)
	require.NoError(t, err)
	require.Equal(t, map[string]map[string][]scrape{
		"orders-1": {`node="orders-1",service="inventory"`: {{50 * ms, 0.05}, {250 * ms, 0.25}, {450 * ms, 0.45}, {650 * ms, 0.65}, {850 * ms, 0.85}}},
		"orders-2": {
			`node="orders-2",service="inventory"`:           {{450 * ms, 1}, {650 * ms, 1}, {850 * ms, 1}},
			`node="orders-2",service="inventory",to="open"`: {{650 * ms, 2}, {850 * ms, 2}},
		},
	}, got)
	_, err = scrapes(run, up, 1, time.Second)
	require.ErrorContains(t, err, `several series in orders-2, such as {node="orders-2",service="inventory"} and {node="orders-2",service="inventory",to="open"}`)

	for says, spoil := range map[string]func(m *fakeMetrics){
		"not those of the run": func(m *fakeMetrics) { m.shift = time.Second },
		"has no label node":    func(m *fakeMetrics) { delete(m.series[0].Labels, "node") },
		"have no interval":     func(m *fakeMetrics) { m.interval = 0 },
		"reading up{":          func(m *fakeMetrics) { m.err, m.of = fmt.Errorf("torn"), "up" },
		"the times of up{":     func(m *fakeMetrics) { m.err, m.of = fmt.Errorf("torn"), "timestamp" },
		"those of the run":     func(m *fakeMetrics) { m.shift = -2 * time.Hour },
	} {
		broken := *m
		broken.series = nil
		for _, s := range m.series {
			broken.series = append(broken.series, record.Series{Labels: maps.Clone(s.Labels), Points: s.Points})
		}
		spoil(&broken)
		run.Metrics = &broken
		_, err := scrapes(run, up, 1, time.Second)
		require.ErrorContains(t, err, says)
	}
	// Timestamps are rounded; what is further from the moment of the question is of another clock.
	for shift, ok := range map[time.Duration]bool{2 * ms: true, 3 * ms: false, -time.Hour: true, -time.Hour - ms: false} {
		shifted := *m
		shifted.shift = shift
		run.Metrics = &shifted
		got, err := scrapes(run, up, 50*ms, 50*ms)
		if !ok {
			require.ErrorContains(t, err, "not those of the run", shift)
			continue
		}
		require.NoError(t, err, shift)
		require.Equal(t, map[string][]scrape{"orders-1": {{50*ms + shift, 0.05}}}, got)
	}
	run.Metrics = nil
	_, err = scrapes(run, up, 1, time.Second)
	require.ErrorContains(t, err, "the run has no metrics")
}
