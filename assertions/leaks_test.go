package assertions

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// gauges are metrics of which each has a value for each node at each moment.
type gauges struct {
	every time.Duration
	value map[string]func(node string, t time.Duration) (float64, bool)
	nodes []string
	gaps  []record.Gap
	err   error
}

func (g *gauges) At(string, time.Duration) ([]record.Sample, error) {
	return nil, errors.New("not asked")
}
func (g *gauges) Names() ([]string, error) { return slices.Sorted(maps.Keys(g.value)), nil }
func (g *gauges) Interval() time.Duration  { return g.every }

func (g *gauges) Gaps(from, to time.Duration) ([]record.Gap, error) {
	var out []record.Gap
	for _, x := range g.gaps {
		if x.From < to && x.To > from {
			out = append(out, x)
		}
	}
	return out, g.err
}

func (g *gauges) Range(expr string, from, to, step time.Duration) ([]record.Series, error) {
	value := g.value[expr]
	if value == nil {
		return nil, nil
	}
	var out []record.Series
	for _, n := range g.nodes {
		s := record.Series{Labels: map[string]string{"node": n}}
		for t := from; t <= to; t += step {
			if v, ok := value(n, t); ok {
				s.Points = append(s.Points, record.Point{T: t, Value: v})
			}
		}
		out = append(out, s)
	}
	return out, nil
}

// level is a figure that is low, and high between two moments; while it is high at one node.
func leveled(low, high float64, from, to time.Duration) func(string, time.Duration) (float64, bool) {
	return func(n string, t time.Duration) (float64, bool) {
		if n == "store-2" && t >= from && t < to {
			return high, true
		}
		return low, true
	}
}

func TestLeaks(t *testing.T) {
	ask := func() *Leaks {
		return &Leaks{Nodes: "store", Goroutines: bound(t, "<= 10"), Memory: bound(t, "<= 32"), Within: plan.Duration(2 * time.Second)}
	}
	// The fault is gone at 7.1 s: what is judged begins at 9.1 s and ends with recovery at 12 s.
	for name, c := range map[string]struct {
		ask   *Leaks
		spoil func(*story, *gauges)
		want  Verdict
		says  string
	}{
		"level":        {ask(), nil, Pass, "goroutines at most 0 above the baseline, wanted <= 10; memory at most 0 MiB above"},
		"back in time": {ask(), func(_ *story, g *gauges) { g.value["go_goroutines"] = leveled(50, 500, 3*time.Second, 9*time.Second) }, Pass, ""},
		"at the bound": {ask(), func(_ *story, g *gauges) { g.value["go_goroutines"] = leveled(50, 60, 3*time.Second, time.Hour) }, Pass, "at most 10 above"},
		"above it":     {ask(), func(_ *story, g *gauges) { g.value["go_goroutines"] = leveled(50, 61, 3*time.Second, time.Hour) }, Fail, "store-2 holds 11 goroutines more than in the baseline (50, then 61), wanted <= 10"},
		"too late":     {ask(), func(_ *story, g *gauges) { g.value["go_goroutines"] = leveled(50, 500, 3*time.Second, 11*time.Second) }, Fail, "450 goroutines more"},
		"a peak of one scrape is no level": {ask(), func(_ *story, g *gauges) {
			g.value["go_goroutines"] = leveled(50, 500, 10*time.Second, 10200*ms)
		}, Pass, ""},
		"memory": {ask(), func(_ *story, g *gauges) {
			g.value["process_resident_memory_bytes"] = leveled(20<<20, 53<<20, 3*time.Second, time.Hour)
		}, Fail, "store-2 holds 33 MiB memory more"},
		"of one node": {&Leaks{Nodes: "store-1", Goroutines: bound(t, "<= 10"), Within: plan.Duration(time.Second)}, func(_ *story, g *gauges) { g.value["go_goroutines"] = leveled(50, 500, 3*time.Second, time.Hour) }, Pass, ""},
		"another metric": {&Leaks{Nodes: "store", Descriptors: bound(t, "<= 5"), Within: plan.Duration(time.Second), Metrics: LeakMetrics{Descriptors: "gauntlet_node_fds"}}, func(_ *story, g *gauges) {
			g.value["gauntlet_node_fds"] = leveled(9, 15, 3*time.Second, time.Hour)
		}, Fail, "6 descriptors more"},

		"under a fault that is held": {ask(), func(s *story, g *gauges) {
			g.value["go_goroutines"] = leveled(50, 500, 3*time.Second, time.Hour)
			s.plan.Rounds[0].Faults[0].Held = true
			s.drop(func(e record.Event) bool { return e.Kind == record.FaultUndone || e.Kind == record.FaultGone })
			for _, k := range []record.EventKind{record.FaultUndone, record.FaultGone} {
				s.event(record.Event{T: 13500 * ms, Kind: k, Fault: "kill", Occurrence: 1})
			}
		}, Invalid, "the fault kill was not gone before the end of recovery"},
		"no metrics": {ask(), func(s *story, _ *gauges) { s.metrics = nil }, Invalid, "the run has no metrics"},
		"no such metric": {ask(), func(_ *story, g *gauges) {
			g.value["go_goroutine"] = g.value["go_goroutines"]
			delete(g.value, "go_goroutines")
		}, Invalid, "there is no metric go_goroutines"},
		"no such node": {&Leaks{Nodes: "orders", Goroutines: bound(t, "<= 10"), Within: 1}, nil, Invalid, "no node belongs to orders"},
		"a gap in the end": {ask(), func(_ *story, g *gauges) {
			g.gaps = []record.Gap{{Node: "store-2", From: 10 * time.Second, To: 11 * time.Second}}
		}, Invalid, "store-2 was not scraped from 10s to 11s"},
		"a gap in the baseline": {ask(), func(_ *story, g *gauges) {
			g.gaps = []record.Gap{{Node: "store-2", From: time.Second, To: 2 * time.Second}}
		}, Invalid, "store-2 was not scraped"},
		"a gap between": {ask(), func(_ *story, g *gauges) {
			g.gaps = []record.Gap{{Node: "store-2", From: 3 * time.Second, To: 7 * time.Second}}
		}, Pass, ""},
		"a gap of another node": {ask(), func(_ *story, g *gauges) {
			g.gaps = []record.Gap{{Node: "orders-2", From: 10 * time.Second, To: 11 * time.Second}}
		}, Pass, ""},
		"a gap of what nodes use, which is not asked for": {ask(), func(_ *story, g *gauges) {
			g.gaps = []record.Gap{{Node: record.OfNodes, From: 10 * time.Second, To: 11 * time.Second}}
		}, Pass, ""},
		"a gap of what nodes use": {&Leaks{Nodes: "store", Descriptors: bound(t, "<= 5"), Within: plan.Duration(time.Second), Metrics: LeakMetrics{Descriptors: "gauntlet_node_fds"}}, func(_ *story, g *gauges) {
			g.value["gauntlet_node_fds"] = leveled(9, 9, 3*time.Second, time.Hour)
			g.gaps = []record.Gap{{Node: record.OfNodes, From: 10 * time.Second, To: 11 * time.Second}}
		}, Invalid, "(nodes) was not scraped"},
		"a gap and a leak": {ask(), func(_ *story, g *gauges) {
			g.value["go_goroutines"] = leveled(50, 500, 3*time.Second, time.Hour)
			g.gaps = []record.Gap{{Node: "store-2", From: 10 * time.Second, To: 11 * time.Second}}
		}, Invalid, "was not scraped"},
		"gaps that cannot be told": {ask(), func(_ *story, g *gauges) { g.err = errors.New("no such block") }, Invalid, "no such block"},
		"three scrapes":            {ask(), func(_ *story, g *gauges) { g.every = time.Second }, Invalid, "each takes 4"},
		"a node without a value": {ask(), func(_ *story, g *gauges) {
			g.value["go_goroutines"] = func(n string, _ time.Duration) (float64, bool) { return 50, n != "store-3" }
		}, Invalid, "go_goroutines of store-3: 0 scrapes in the baseline"},
		"too short": {&Leaks{Nodes: "store", Goroutines: bound(t, "<= 10"), Within: plan.Duration(5 * time.Second)}, nil, Invalid, "recovery ends 4.9s after the last fault"},
		"more load than before": {ask(), func(s *story, _ *gauges) {
			for _, q := range slices.Clone(s.reqs) {
				if q.Due > 9*time.Second && q.Seq%5 == 0 {
					s.reqs = append(s.reqs, q)
				}
			}
		}, Invalid, "load orders is not back at the baseline's rate"},
		"less load than before":    {ask(), func(s *story, _ *gauges) { s.reqs = s.reqs[:2200] }, Invalid, "not back at the baseline's rate"},
		"several series of a node": {ask(), func(_ *story, g *gauges) { g.nodes = append(g.nodes, "store-1") }, Invalid, "several series of store-1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory()
			g := &gauges{every: 200 * ms, nodes: []string{"store-1", "store-2", "store-3", "edge-1"}, value: map[string]func(string, time.Duration) (float64, bool){
				"go_goroutines": leveled(50, 50, 0, 0), "process_resident_memory_bytes": leveled(20<<20, 0, 0, 0),
			}}
			s.metrics = g
			s.ask(t, "leaks", c.ask)
			if c.spoil != nil {
				c.spoil(s, g)
			}
			s.want(t, c.want, c.says)
		})
	}
}

func TestValidateLeaks(t *testing.T) {
	scope := Scope{Plan: &newStory().plan, Services: []string{"edge"}, Groups: []string{"store"}}
	for _, c := range []struct {
		a    Leaks
		says []string
	}{
		{Leaks{Nodes: "edge", Goroutines: bound(t, "<= 10"), Within: 1, Load: "orders"}, nil},
		{Leaks{Nodes: "edge-2", Descriptors: bound(t, "< 10"), Within: 1}, nil},
		{Leaks{Nodes: "store", Memory: bound(t, "<= 32"), Within: 1}, nil},
		{Leaks{}, []string{"nodes is missing", "no bound is given", "within is missing"}},
		{Leaks{Nodes: "egde", Goroutines: bound(t, ">= 10"), Memory: bound(t, "<= 10%"), Within: -1, Load: "x"}, []string{`"egde"; there is edge, store`, `goroutines ">= 10"`, `memory "<= 10%"`, "within is missing", `no load is called "x"`}},
	} {
		err := c.a.Validate(scope)
		if c.says == nil {
			assert.NoError(t, err)
		}
		for _, x := range c.says {
			assert.ErrorContains(t, err, x)
		}
	}
	scope.Plan.Rounds[0].Faults[0].Held = true
	err := (&Leaks{Nodes: "edge", Goroutines: bound(t, "<= 10"), Within: 1}).Validate(scope)
	assert.ErrorContains(t, err, "the fault kill is held to the end (for: end)")
}
