package assertions

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// curves are the metrics of a run as functions of time, one for each node; every expression is one of their names.
type curves struct {
	of       map[string]map[string]func(time.Duration) (float64, bool)
	gaps     []record.Gap
	interval time.Duration
	err      error // of the gaps
}

func (c curves) At(expr string, at time.Duration) (out []record.Sample, err error) {
	nodes, ok := c.of[expr]
	if !ok {
		return nil, errors.New("no metric is called " + expr + "; there is in_flight")
	}
	for node, f := range nodes {
		if v, ok := f(at); ok {
			out = append(out, record.Sample{Labels: map[string]string{"node": node, "service": "gateway"}, Value: v})
		}
	}
	return out, nil
}

func (c curves) Range(expr string, from, to, step time.Duration) (out []record.Series, err error) {
	nodes, ok := c.of[expr]
	if !ok {
		return nil, errors.New("no metric is called " + expr + "; there is in_flight")
	}
	for node, f := range nodes {
		s := record.Series{Labels: map[string]string{"node": node, "service": "gateway"}}
		for t := from; t <= to; t += step {
			if v, ok := f(t); ok {
				s.Points = append(s.Points, record.Point{T: t, Value: v})
			}
		}
		if len(s.Points) > 0 {
			out = append(out, s)
		}
	}
	return out, nil
}

func (c curves) Names() ([]string, error) { return []string{"in_flight"}, nil }
func (c curves) Interval() time.Duration  { return c.interval }
func (c curves) Gaps(from, to time.Duration) (out []record.Gap, err error) {
	for _, g := range c.gaps {
		if g.To > from && g.From < to {
			out = append(out, g)
		}
	}
	return out, c.err
}

func always(v float64) func(time.Duration) (float64, bool) {
	return func(time.Duration) (float64, bool) { return v, true }
}

// from is 1, and v in [begin, end).
func span(begin, end time.Duration, v float64) func(time.Duration) (float64, bool) {
	return func(t time.Duration) (float64, bool) {
		if t >= begin && t < end {
			return v, true
		}
		return 1, true
	}
}

func only(begin, end time.Duration, v float64) func(time.Duration) (float64, bool) {
	return func(t time.Duration) (float64, bool) { return v, t >= begin && t < end }
}

// TestPromQL: baseline 0 to 3 s, the fault kill 3 to 7 s, recovery 7 to 12 s; a value every 200 ms.
func TestPromQL(t *testing.T) {
	const s = time.Second
	type nodes = map[string]func(time.Duration) (float64, bool)
	ask := func(a PromQL, is string) PromQL {
		a.Query, a.Is = "in_flight", bound(t, is)
		return a
	}
	for name, c := range map[string]struct {
		ask   PromQL
		nodes nodes
		gaps  []record.Gap
		spoil func(*story)
		want  Verdict
		says  string
	}{
		"throughout a phase": {ask(PromQL{During: "recovery"}, "<= 1"), nodes{"gateway-1": span(0, 7*s, 50), "gateway-2": always(1)}, nil, nil, Pass,
			"in_flight was between 1 and 1 throughout recovery (50 values of 2 series), wanted <= 1"},
		"one node, one moment": {ask(PromQL{During: "recovery"}, "<= 1"), nodes{"gateway-1": span(9*s, 9*s+200*ms, 2), "gateway-2": always(1)}, nil, nil, Fail,
			"in_flight was 2 at 9s on gateway-1, wanted <= 1 throughout recovery; it broke that at 1 of 25 moments"},
		"while a fault holds":        {ask(PromQL{During: "kill"}, "<= 1"), nodes{"gateway-1": span(0, 3*s, 9)}, nil, nil, Pass, "throughout kill (20 values of 1 series)"},
		"not while it holds":         {ask(PromQL{During: "kill"}, "<= 1"), nodes{"gateway-1": span(7*s, 7*s+100*ms, 9)}, nil, nil, Fail, "was 9 at 7s"},
		"always":                     {ask(PromQL{Always: true}, "= 1"), nodes{"gateway-1": always(1)}, nil, nil, Pass, "throughout all phases under load"},
		"not always":                 {ask(PromQL{Always: true}, "= 1"), nodes{"gateway-1": span(0, 300*ms, 0)}, nil, nil, Fail, "was 0 at 200ms"},
		"the first breach":           {ask(PromQL{Always: true}, "= 1"), nodes{"a": span(5*s, 6*s, 3), "b": span(4*s, 6*s, 2)}, nil, nil, Fail, "was 2 at 4s on b"},
		"at the end":                 {ask(PromQL{AtEnd: true}, "<= 1"), nodes{"gateway-1": span(0, 12*s, 9)}, nil, nil, Pass, "in_flight was 1 at the end of recovery (1 series)"},
		"not at the end":             {ask(PromQL{AtEnd: true}, "<= 1"), nodes{"gateway-1": span(12*s, 13*s, 9), "gateway-2": always(1)}, nil, nil, Fail, "was 9 at the end of recovery on gateway-1"},
		"the last scrape was missed": {ask(PromQL{AtEnd: true}, "<= 1"), nodes{"a": only(0, 11*s+500*ms, 1)}, nil, nil, Pass, ""},
		"no more than that":          {ask(PromQL{AtEnd: true}, "<= 1"), nodes{"a": only(0, 11*s+500*ms, 9), "b": always(1)}, nil, nil, Fail, "was 9 at the end of recovery on a"},
		"within":                     {ask(PromQL{After: "kill.undone", Within: plan.Duration(2 * s)}, "= 1"), nodes{"a": span(0, 8*s, 9), "b": always(1)}, nil, nil, Pass, "was = 1 1s after kill.undone, wanted within 2s"},
		"only later":                 {ask(PromQL{After: "kill.undone", Within: plan.Duration(2 * s)}, "= 1"), nodes{"a": span(0, 9*s+100*ms, 9), "b": always(1)}, nil, nil, Fail, "never was = 1 within 2s of kill.undone: it was between 1 and 9"},
		"at its last moment":         {ask(PromQL{After: "kill.undone", Within: plan.Duration(2 * s)}, "= 1"), nodes{"a": span(0, 9*s, 9)}, nil, nil, Pass, "2s after kill.undone"},

		"met only while one is missing": {ask(PromQL{After: "kill.undone", Within: plan.Duration(2 * s)}, "= 1"),
			nodes{"a": func(t time.Duration) (float64, bool) { return 9, t != 7*s+400*ms }, "b": always(1)}, nil, nil, Invalid, "in_flight was = 1 only where a value was missing, first 400ms after kill.undone on a"},
		"met at the end, where one has just gone": {ask(PromQL{After: "kill.undone", Within: plan.Duration(2 * s)}, "= 1"), nodes{"a": only(0, 8*s+500*ms, 9), "b": always(1)}, nil, nil, Invalid, "first 1.6s after kill.undone on a"},
		"met after one has ended":                 {ask(PromQL{After: "kill.undone", Within: plan.Duration(2 * s)}, "= 1"), nodes{"a": only(0, 7*s+300*ms, 9), "b": always(1)}, nil, nil, Pass, "was = 1 1s after kill.undone"},
		"met before one has begun":                {ask(PromQL{After: "kill.undone", Within: plan.Duration(2 * s)}, "= 1"), nodes{"a": only(8*s, 13*s, 9), "b": always(1)}, nil, nil, Pass, "was = 1 200ms after kill.undone"},
		"met while one is not back yet":           {ask(PromQL{After: "kill.undone", Within: plan.Duration(2 * s)}, "= 1"), nodes{"a": func(t time.Duration) (float64, bool) { return 9, t < 3*s || t >= 8*s }, "b": always(1)}, nil, nil, Invalid, "in_flight was = 1 only where a value was missing, first 200ms after kill.undone on a"},
		"met when all are back":                   {ask(PromQL{After: "kill.undone", Within: plan.Duration(2 * s)}, "= 1"), nodes{"a": func(t time.Duration) (float64, bool) { return 1, t < 3*s || t >= 8*s }, "b": always(1)}, nil, nil, Pass, "was = 1 1s after kill.undone"},
		"met while one has nothing to say yet":    {ask(PromQL{After: "kill.undone", Within: plan.Duration(2 * s)}, "= 1"), nodes{"a": span(7*s, 8*s, math.NaN()), "b": always(1)}, nil, nil, Pass, "was = 1 1s after kill.undone"},
		"met before one says the first thing": {ask(PromQL{After: "kill.undone", Within: plan.Duration(2 * s)}, "= 1"), nodes{"a": func(t time.Duration) (float64, bool) {
			return map[bool]float64{true: math.NaN(), false: 9}[t < 8*s], true
		}, "b": always(1)}, nil, nil, Pass, "was = 1 200ms after kill.undone"},
		"met without one that never comes back": {ask(PromQL{After: "kill.undone", Within: plan.Duration(2 * s)}, "= 1"), nodes{"a": only(0, 3*s, 9), "b": always(1)}, nil, nil, Pass, "was = 1 200ms after kill.undone"},
		"one of several times is too short": {ask(PromQL{During: "kill"}, "<= 1"), nodes{"a": always(1)}, nil, func(st *story) {
			for i, k := range []record.EventKind{record.FaultStarted, record.FaultInEffect, record.FaultUndone, record.FaultGone} {
				st.event(record.Event{T: 8*s + []time.Duration{0, 0, 200 * ms, 200 * ms}[i], Kind: k, Fault: "kill", Occurrence: 2})
			}
		}, Invalid, "kill, time 2 of 2, is 200ms long, less than four scrapes, 800ms"},

		"gaps are stated": {ask(PromQL{During: "recovery"}, "<= 1"), nodes{"gateway-1": always(1)},
			[]record.Gap{{Node: "gateway-1", From: 6 * s, To: 8 * s}, {Node: "gateway-1", From: 1 * s, To: 2 * s}}, nil, Pass, "; 1 gap without a scrape, 2s at most"},
		"NaN is no value": {ask(PromQL{During: "recovery"}, "<= 1"), nodes{"a": span(7*s, 9*s, math.NaN())}, nil, nil, Pass, "(16 values of 1 series)"},

		"a ratio to nothing":     {ask(PromQL{During: "recovery"}, "<= 3"), nodes{"a": span(7*s, 7*s+300*ms, math.Inf(1))}, nil, nil, Fail, "in_flight was +Inf at 7.2s on a, wanted <= 3 throughout recovery"},
		"is more than any bound": {ask(PromQL{During: "recovery"}, ">= 1"), nodes{"a": span(7*s, 9*s, math.Inf(1))}, nil, nil, Pass, "in_flight was between 1 and +Inf throughout recovery"},
		"is less than any bound": {ask(PromQL{AtEnd: true}, ">= 1"), nodes{"a": always(math.Inf(-1))}, nil, nil, Fail, "was -Inf at the end of recovery on a"},

		"nothing but NaN":           {ask(PromQL{During: "recovery"}, "<= 1"), nodes{"a": always(math.NaN())}, nil, nil, Invalid, "there is no value in recovery"},
		"no series":                 {ask(PromQL{During: "recovery"}, "<= 1"), nodes{}, nil, nil, Invalid, "there is no value in recovery"},
		"nothing at the end":        {ask(PromQL{AtEnd: true}, "<= 1"), nodes{"a": only(0, 11*s, 1)}, nil, nil, Invalid, "has no value at the end of recovery"},
		"three values":              {ask(PromQL{During: "recovery"}, "<= 1"), nodes{"a": only(7*s, 7*s+700*ms, 1)}, nil, nil, Invalid, "there are values at 3 moments only"},
		"less than half":            {ask(PromQL{During: "recovery"}, "<= 1"), nodes{"a": only(7*s, 9*s+500*ms, 1)}, nil, nil, Invalid, "at only 12 of 25 moments"},
		"half":                      {ask(PromQL{During: "recovery"}, "<= 1"), nodes{"a": only(7*s, 9*s+700*ms, 1)}, nil, nil, Pass, ""},
		"an unknown metric":         {PromQL{Query: "in_fligth", Is: bound(t, "<= 1"), Always: true}, nodes{}, nil, nil, Invalid, "no metric is called in_fligth; there is in_flight"},
		"an unknown one at the end": {PromQL{Query: "in_fligth", Is: bound(t, "<= 1"), AtEnd: true}, nodes{}, nil, nil, Invalid, "there is in_flight"},
		"four values":               {ask(PromQL{After: "kill.undone", Within: plan.Duration(s)}, "= 1"), nodes{"a": only(7*s, 7*s+900*ms, 1)}, nil, nil, Pass, ""},
		"a window of four scrapes":  {ask(PromQL{After: "kill.undone", Within: plan.Duration(800 * ms)}, "= 1"), nodes{"a": always(1)}, nil, nil, Pass, ""},
		"a window of three scrapes": {ask(PromQL{After: "kill.undone", Within: plan.Duration(600 * ms)}, "= 1"), nodes{"a": always(1)}, nil, nil, Invalid, "is 600ms long, less than four scrapes, 800ms"},
		"the moment never came":     {ask(PromQL{After: "kill.undone", Within: plan.Duration(s)}, "= 1"), nodes{"a": always(1)}, nil, func(s *story) { s.drop(func(e record.Event) bool { return e.Kind == record.FaultUndone }) }, Invalid, "kill.undone never came"},
		"the round is over then":    {ask(PromQL{After: "kill.undone", Within: plan.Duration(5 * s)}, "= 1"), nodes{"a": always(1)}, nil, nil, Pass, ""},
		"the round is over before":  {ask(PromQL{After: "kill.undone", Within: plan.Duration(6 * s)}, "= 1"), nodes{"a": always(1)}, nil, nil, Invalid, "the round ended 5s after kill.undone"},
		"a fault that was not proved": {ask(PromQL{During: "kill"}, "<= 1"), nodes{"a": always(1)}, nil, func(s *story) {
			s.drop(func(e record.Event) bool { return e.Kind == record.FaultInEffect })
		}, Invalid, "it would be PASS, but fault kill was not proved"},
		"the baseline rests on no fault": {ask(PromQL{During: "baseline"}, "<= 1"), nodes{"a": always(1)}, nil, func(s *story) {
			s.drop(func(e record.Event) bool { return e.Kind == record.FaultInEffect })
		}, Pass, ""},
		"no recovery": {ask(PromQL{AtEnd: true}, "<= 1"), nodes{"a": always(1)}, nil, func(s *story) {
			s.drop(func(e record.Event) bool { return e.Phase == plan.PhaseRecovery })
		}, Invalid, "did not come to the end of recovery"},
		"recovery was cut off": {ask(PromQL{AtEnd: true}, "<= 1"), nodes{"a": always(1)}, nil, func(s *story) {
			s.drop(func(e record.Event) bool { return e.Phase == plan.PhaseRecovery && e.Kind == record.PhaseEnd })
		}, Invalid, "did not come to the end of recovery"},
		"no recovery to come back in": {ask(PromQL{After: "kill.undone", Within: plan.Duration(s)}, "<= 1"), nodes{"a": always(1)}, nil, func(s *story) {
			s.drop(func(e record.Event) bool { return e.Phase == plan.PhaseRecovery })
		}, Invalid, "the round did not get through its phases under load"},
		"two whens": {ask(PromQL{AtEnd: true, Always: true}, "<= 1"), nodes{"a": always(1)}, nil, nil, Invalid, "exclude each other"},
	} {
		t.Run(name, func(t *testing.T) {
			st := newStory()
			if c.spoil != nil {
				c.spoil(st)
			}
			st.ask(t, "promql", &c.ask)
			run := st.write(t)
			run.Metrics = curves{of: map[string]map[string]func(time.Duration) (float64, bool){"in_flight": c.nodes}, gaps: c.gaps, interval: 200 * ms}
			f := finding(t, run)
			require.Equal(t, c.want.String(), f.Verdict.String(), "%s / %s", f.Summary, f.Reason)
			require.Contains(t, f.Summary+" / "+f.Reason, c.says)
			if f.Verdict != Invalid {
				require.NotEmpty(t, f.Evidence)
				require.Equal(t, record.MetricsDir, f.Evidence[0].File)
				require.NotNil(t, f.Evidence[0].Window)
			}
		})
	}
}

// finding is the one of the assertion "it".
func finding(t *testing.T, run *record.Run) Finding {
	t.Helper()
	fs, _ := Judge(context.Background(), run)
	for _, f := range fs {
		if f.ID == "it" {
			return f
		}
	}
	require.Fail(t, "no finding")
	return Finding{}
}

// TestTheEvidenceOfPromQL: what the values were, where there were any, and where nobody looked.
func TestTheEvidenceOfPromQL(t *testing.T) {
	const s = time.Second
	type nodes = map[string]func(time.Duration) (float64, bool)
	two := nodes{"a": span(9*s, 9*s+200*ms, 2), "b": always(1)}
	recovery := Window{7 * s, 12 * s}
	var gaps []record.Gap
	var lines []string
	for i := range 11 {
		g := record.Gap{Node: "b", From: 8*s + time.Duration(i)*100*ms, To: 8*s + time.Duration(i)*100*ms + 50*ms}
		if i > 0 {
			g.Node = "a"
		}
		gaps = append(gaps, g)
		lines = append(lines, fmt.Sprintf("%s was not scraped from %s to %s", g.Node, seconds(g.From), seconds(g.To)))
	}
	gaps[3].To = 9 * s
	lines[3] = "a was not scraped from 8.3s to 9s"
	seen := func(v ...float64) map[string]float64 {
		m := map[string]float64{"series": v[0], "moments": v[1], "moments with values": v[2]}
		if len(v) > 3 {
			m["least"], m["greatest"] = v[3], v[4]
		}
		return m
	}
	within := Evidence{What: "in_flight in recovery", File: "metrics", Window: &recovery, Count: 50, Values: seen(2, 25, 25, 1, 2)}
	end := Evidence{What: "in_flight at the end of recovery", File: "metrics", Window: &Window{11200 * ms, 12 * s}}
	with := func(e Evidence, count int, values map[string]float64) Evidence {
		e.Count, e.Values = count, values
		return e
	}
	for name, c := range map[string]struct {
		ask   PromQL
		nodes nodes
		gaps  []record.Gap
		err   error
		want  Verdict
		ev    []Evidence
	}{
		"values":          {PromQL{During: "recovery"}, two, nil, nil, Fail, []Evidence{within}},
		"one value":       {PromQL{During: "recovery"}, nodes{"a": only(8*s, 8*s+100*ms, 3)}, nil, nil, Invalid, []Evidence{with(within, 1, seen(1, 25, 1, 3, 3))}},
		"no value":        {PromQL{During: "recovery"}, nodes{}, nil, nil, Invalid, []Evidence{with(within, 0, seen(0, 25, 0))}},
		"at the end":      {PromQL{AtEnd: true}, nodes{"a": always(1)}, nil, nil, Pass, []Evidence{with(end, 1, map[string]float64{"series": 1, "least": 1, "greatest": 1})}},
		"none at the end": {PromQL{AtEnd: true}, nodes{}, nil, nil, Invalid, []Evidence{with(end, 0, map[string]float64{"series": 0})}},
		"many gaps": {PromQL{During: "recovery"}, two, gaps, nil, Fail, []Evidence{within,
			{What: "gaps between scrapes longer than two and a half intervals", File: "metrics", Count: 11, Nodes: []string{"b", "a"}, Values: map[string]float64{"longest": 0.7}, Detail: strings.Join(lines[:10], "\n")}}},
		"gaps that cannot be read": {PromQL{AtEnd: true}, nodes{"a": always(1)}, nil, errors.New("torn"), Pass, []Evidence{
			with(end, 1, map[string]float64{"series": 1, "least": 1, "greatest": 1}), {What: "gaps between scrapes", Detail: "torn"}}},
	} {
		t.Run(name, func(t *testing.T) {
			st := newStory()
			c.ask.Query, c.ask.Is = "in_flight", bound(t, "<= 1")
			st.ask(t, "promql", &c.ask)
			st.metrics = curves{of: map[string]nodes{"in_flight": c.nodes}, gaps: c.gaps, interval: 200 * ms, err: c.err}
			f := st.want(t, c.want)
			require.Equal(t, c.ev, f.Evidence)
			require.Equal(t, len(c.gaps) > 0, strings.Contains(f.Summary, "without a scrape"))
		})
	}
}

// Of breaches at the same moment that of the first series is told, so that the finding is the same each time.
func TestTheFirstBreach(t *testing.T) {
	at := func(node string, v float64) record.Series {
		return record.Series{Labels: map[string]string{"node": node}, Points: []record.Point{{T: 4 * time.Second, Value: v}}}
	}
	x := tally{bound: bound(t, "<= 1")}
	x.add([]record.Series{at("a", 3), at("b", 2)}, Window{0, 5 * time.Second}, time.Second)
	require.Equal(t, breach{4 * time.Second, 3, " on a"}, x.first)
	require.Len(t, x.bad, 1)
}

// What a moment sees is the scrape before it: a window begins with the first scrape that lies within.
func TestWhatWasScrapedBeforeTheWindow(t *testing.T) {
	for name, c := range map[string]struct {
		ask   PromQL
		value func(time.Duration) float64
		want  Verdict
	}{
		"bad before": {PromQL{During: "recovery"}, func(t time.Duration) float64 {
			if t < 6900*ms {
				return 50
			}
			return 1
		}, Pass},
		"good before": {PromQL{After: "kill.undone", Within: plan.Duration(2 * time.Second)}, func(t time.Duration) float64 {
			if t < 6900*ms {
				return 1
			}
			return 50
		}, Fail},
	} {
		st := newStory()
		c.ask.Query, c.ask.Is = "in_flight", bound(t, "= 1")
		st.ask(t, "promql", &c.ask)
		st.scrape = &fakeMetrics{interval: 200 * ms}
		// Scraped at 6.85 s and at 7.05 s; what it was at 6.85 s is what it was when the phase began.
		st.scrape.gauge("in_flight", "a", nil, 50*ms, 13*time.Second, c.value)
		for i := range st.scrape.series[0].Points {
			if p := &st.scrape.series[0].Points[i]; p.T == 6850*ms {
				require.Equal(t, c.value(0), p.Value)
			}
		}
		require.Equal(t, c.want.String(), st.want(t, c.want).Verdict.String(), name)
	}
}

// Two series of a node that differ in a label of the program's own, though it is called as one of the harness's, are two.
func TestSeriesOfOneNode(t *testing.T) {
	of := func(service string, at ...time.Duration) record.Series {
		s := record.Series{Labels: map[string]string{"__name__": "state", "node": "orders-1", "service": service}}
		for _, t := range at {
			s.Points = append(s.Points, record.Point{T: t, Value: 9})
		}
		return s
	}
	x := tally{bound: bound(t, "= 9")}
	x.add([]record.Series{of("inventory", 0, 1, 2, 3, 4), of("store", 0, 1, 3, 4)}, Window{0, 4}, 1)
	require.Len(t, x.series, 2)
	require.Equal(t, " on orders-1, service=store", x.holes(2))
	require.Empty(t, x.holes(3))
}

// A series is named by its node and by what else tells it from others.
func TestWhoseAValueIs(t *testing.T) {
	of := func(pairs ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	for _, c := range []struct {
		labels map[string]string
		want   string
	}{
		{nil, ""},
		{of("__name__", "up"), ""},
		{of("instance", "10.0.0.2:80"), ""},
		{of("job", "nodes"), ""},
		{of("node", "gateway-1"), " on gateway-1"},
		{of("__name__", "up", "group", "edge", "instance", "10.0.0.2:80", "job", "nodes", "node", "gateway-1", "service", "gateway", "zone", "a"), " on gateway-1"},
		{of("code", "500", "node", "gateway-1", "quantile", "0.9"), " on gateway-1, code=500, quantile=0.9"},
		{of("service", "gateway"), " on service=gateway"}, // of a sum by service
		{of("group", "edge", "zone", "a"), " on group=edge, zone=a"},
	} {
		require.Equal(t, c.want, labelled(c.labels, false))
	}
}

// TestPromQLWithoutMetrics: a run that recorded none.
func TestPromQLWithoutMetrics(t *testing.T) {
	s := newStory()
	s.ask(t, "promql", &PromQL{Query: "up", Is: bound(t, "= 1"), Always: true})
	s.want(t, Invalid, "the run recorded no metrics")
}

func TestPromQLValidate(t *testing.T) {
	scope := Scope{Plan: &newStory().plan, Metrics: MetricScope{
		Interval: 200 * ms, Exposed: true, Parse: func(expr string) ([]string, error) {
			if strings.Contains(expr, "(") {
				return nil, errors.New("unclosed left parenthesis")
			}
			return []string{expr}, nil
		},
	}}
	scope.Plan.Baseline.AtLeast = plan.Duration(700 * ms)
	good := PromQL{Query: "up", Is: bound(t, "= 1"), Always: true}
	require.NoError(t, good.Validate(scope))
	for name, c := range map[string]struct {
		spoil func(*PromQL)
		says  string
	}{
		"no query":          {func(a *PromQL) { a.Query = " " }, "query is missing"},
		"no bound":          {func(a *PromQL) { a.Is = plan.Bound{} }, "is is missing"},
		"a multiple":        {func(a *PromQL) { a.Is = bound(t, "<= 3x baseline") }, "write it into the query"},
		"no PromQL":         {func(a *PromQL) { a.Query = "rate(" }, "query: unclosed left parenthesis"},
		"no when":           {func(a *PromQL) { a.Always = false }, "give it one of during, always"},
		"two whens":         {func(a *PromQL) { a.During = "fault" }, "during and always exclude each other"},
		"no such phase":     {func(a *PromQL) { a.Always, a.During = false, "fualt" }, `no phase or fault is called "fualt"`},
		"no such fault":     {func(a *PromQL) { a.Always, a.Within, a.After = false, plan.Duration(time.Second), "kil.undone" }, `no fault is called "kil"`},
		"no such event":     {func(a *PromQL) { a.Always, a.Within, a.After = false, plan.Duration(time.Second), "kill.over" }, `after "kill.over"`},
		"within alone":      {func(a *PromQL) { a.Always, a.Within = false, plan.Duration(time.Second) }, "belong together"},
		"after alone":       {func(a *PromQL) { a.Always, a.After = false, "kill.undone" }, "belong together"},
		"too short":         {func(a *PromQL) { a.Always, a.Within, a.After = false, plan.Duration(799*ms), "kill.undone" }, "shorter than four scrapes, 800ms"},
		"damage when":       {func(a *PromQL) { a.Damage = true }, "damage is done during a fault"},
		"damage too early":  {func(a *PromQL) { a.Always, a.During, a.Damage = false, "baseline", true }, "damage is done during a fault"},
		"too short a phase": {func(a *PromQL) { a.Always, a.During = false, "baseline" }, "it lasts 700ms, less than four scrapes"},
	} {
		t.Run(name, func(t *testing.T) {
			a := good
			c.spoil(&a)
			require.ErrorContains(t, a.Validate(scope), c.says)
		})
	}
	a := good
	a.Always, a.Within, a.After = false, plan.Duration(800*ms), "kill.undone"
	require.NoError(t, a.Validate(scope))

	// A phase is too short where the plan says how long it lasts at most.
	for name, c := range map[string]struct {
		spoil func(*plan.Plan)
		phase string
		says  string
	}{
		"baseline at the bound":           {func(p *plan.Plan) { p.Baseline.AtLeast = plan.Duration(800 * ms) }, plan.PhaseBaseline, ""},
		"no time for the baseline":        {func(p *plan.Plan) { p.Baseline.AtLeast = 0 }, plan.PhaseBaseline, ""},
		"baseline until something is so":  {func(p *plan.Plan) { p.Baseline.AtLeast, p.Baseline.Until = 1, &plan.Condition{} }, plan.PhaseBaseline, ""},
		"short recovery":                  {func(p *plan.Plan) { p.Recovery = plan.Duration(799 * ms) }, plan.PhaseRecovery, `during "recovery": it lasts 799ms, less than four scrapes, 800ms`},
		"recovery at the bound":           {func(p *plan.Plan) { p.Recovery = plan.Duration(800 * ms) }, plan.PhaseRecovery, ""},
		"no time for recovery":            {func(p *plan.Plan) { p.Recovery = 0 }, plan.PhaseRecovery, ""},
		"recovery until something is so":  {func(p *plan.Plan) { p.Recovery, p.RecoveryUntil = 1, &plan.Condition{} }, plan.PhaseRecovery, ""},
		"a fault beside a short recovery": {func(p *plan.Plan) { p.Recovery = 1 }, plan.PhaseFault, ""},
		"a fault beside a short baseline": {func(p *plan.Plan) { p.Baseline.AtLeast = 1 }, plan.PhaseFault, ""},
	} {
		t.Run(name, func(t *testing.T) {
			short := scope
			short.Plan = &newStory().plan
			c.spoil(short.Plan)
			a := good
			a.Always, a.During = false, c.phase
			if c.says == "" {
				require.NoError(t, a.Validate(short))
			} else {
				require.ErrorContains(t, a.Validate(short), c.says)
			}
		})
	}

	// Where nobody can parse an expression it is not found wrong.
	blind := scope
	blind.Metrics.Parse = nil
	a = good
	a.Query = "rate("
	require.NoError(t, a.Validate(blind))

	// A topology without metrics has those of the harness.
	scope.Metrics.Exposed = false
	a = good
	for _, own := range []string{"up", "gauntlet_node_threads", "scrape_duration_seconds"} {
		a.Query = own
		require.NoError(t, a.Validate(scope))
	}
	a.Query = "go_goroutines"
	require.ErrorContains(t, a.Validate(scope), "no service of the topology exposes metrics, so there is no go_goroutines")
}
