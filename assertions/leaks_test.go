package assertions

import (
	"errors"
	"maps"
	"math"
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
	fails map[string]error // by what was asked: gaps, names or an expression
}

// levelGauges are those of a run in which nothing rises.
func levelGauges() *gauges {
	return &gauges{every: 200 * ms, nodes: []string{"store-1", "store-2", "store-3", "edge-1"}, fails: map[string]error{}, value: map[string]func(string, time.Duration) (float64, bool){
		"go_goroutines": leveled(50, 50, 0, 0), "process_resident_memory_bytes": leveled(20<<20, 0, 0, 0),
	}}
}

func (g *gauges) At(string, time.Duration) ([]record.Sample, error) {
	return nil, errors.New("not asked")
}
func (g *gauges) Names() ([]string, error) {
	return slices.Sorted(maps.Keys(g.value)), g.fails["names"]
}
func (g *gauges) Interval() time.Duration { return g.every }

func (g *gauges) Gaps(from, to time.Duration) ([]record.Gap, error) {
	var out []record.Gap
	for _, x := range g.gaps {
		if x.From < to && x.To > from {
			out = append(out, x)
		}
	}
	return out, g.fails["gaps"]
}

func (g *gauges) Range(expr string, from, to, step time.Duration) ([]record.Series, error) {
	value := g.value[expr]
	if value == nil || g.fails[expr] != nil {
		return nil, g.fails[expr]
	}
	if step <= 0 {
		return nil, errors.New("a step that leads nowhere")
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
		// 15 scrapes.
		"high in most scrapes": {ask(), func(_ *story, g *gauges) { g.value["go_goroutines"] = leveled(50, 500, 10500*ms, time.Hour) }, Fail, "450 goroutines more"},
		"high in nearly half":  {ask(), func(_ *story, g *gauges) { g.value["go_goroutines"] = leveled(50, 500, 10600*ms, time.Hour) }, Pass, ""},
		"four scrapes, two of them high": {ask(), func(_ *story, g *gauges) {
			g.every = 900 * ms
			g.value["go_goroutines"] = leveled(50, 500, 10500*ms, time.Hour)
		}, Pass, ""},
		"nothing was broken": {ask(), func(s *story, g *gauges) {
			s.plan.Rounds[0].Faults = nil
			s.drop(func(e record.Event) bool { return e.Fault != "" })
			g.value["go_goroutines"] = leveled(50, 500, 3*time.Second, 9*time.Second) // judged from two seconds of recovery on
		}, Pass, ""},
		"memory": {ask(), func(_ *story, g *gauges) {
			g.value["process_resident_memory_bytes"] = leveled(20<<20, 53<<20, 3*time.Second, time.Hour)
		}, Fail, "store-2 holds 33 MiB memory more"},
		"of one node":            {&Leaks{Nodes: "store-3", Goroutines: bound(t, "<= 10"), Within: plan.Duration(time.Second)}, func(_ *story, g *gauges) { g.value["go_goroutines"] = leveled(50, 500, 3*time.Second, time.Hour) }, Pass, ""},
		"of one that was killed": {&Leaks{Nodes: "store-1", Goroutines: bound(t, "<= 10"), Within: plan.Duration(time.Second)}, nil, Invalid, "store-1 ended between the baseline and the end, and what it held is gone with it"},
		"of the same, had it not been killed": {&Leaks{Nodes: "store-1", Goroutines: bound(t, "<= 10"), Within: plan.Duration(time.Second)}, func(s *story, _ *gauges) {
			s.drop(func(e record.Event) bool { return e.Kind == record.NodeExited && e.Node == "store-1" })
		}, Pass, "at most 0 above"},
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
		"gone as recovery ends": {ask(), func(s *story, _ *gauges) {
			s.drop(func(e record.Event) bool { return e.Kind == record.FaultGone })
			s.event(record.Event{T: 12 * time.Second, Kind: record.FaultGone, Fault: "kill", Occurrence: 1})
		}, Invalid, "the fault kill was not gone before the end of recovery"},
		"under another fault": {ask(), func(s *story, _ *gauges) {
			s.event(record.Event{T: 4 * time.Second, Kind: record.FaultStarted, Fault: "cut", Occurrence: 1})
		}, Invalid, "the fault cut was not gone before the end of recovery"},
		"under another occurrence": {ask(), func(s *story, _ *gauges) {
			s.event(record.Event{T: 4 * time.Second, Kind: record.FaultStarted, Fault: "kill", Occurrence: 2})
		}, Invalid, "the fault kill was not gone before the end of recovery"},
		"no bound":   {&Leaks{Nodes: "store", Within: plan.Duration(time.Second)}, nil, Invalid, "no bound is given"},
		"no metrics": {ask(), func(s *story, _ *gauges) { s.metrics = nil }, Invalid, "the run has no metrics"},
		"no such metric": {ask(), func(_ *story, g *gauges) {
			g.value["go_goroutine"] = g.value["go_goroutines"]
			delete(g.value, "go_goroutines")
		}, Invalid, "there is no metric go_goroutines"},
		"a metric that cannot be read": {ask(), func(_ *story, g *gauges) { g.fails["go_goroutines"] = errors.New("no such block") }, Invalid, "go_goroutines: no such block"},
		"names that cannot be told": {ask(), func(_ *story, g *gauges) {
			g.fails["names"] = errors.New("no such block")
			delete(g.value, "go_goroutines")
		}, Invalid, "/ no such block"},
		"scrapes without an interval": {ask(), func(_ *story, g *gauges) { g.every = 0 }, Invalid, "do not say how often they were scraped"},
		"no such node":                {&Leaks{Nodes: "orders", Goroutines: bound(t, "<= 10"), Within: 1}, nil, Invalid, "no node belongs to orders"},
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
		"a gap of what the harness counts, which is not asked for": {ask(), func(_ *story, g *gauges) {
			g.gaps = []record.Gap{{Node: record.OfHarness, From: 10 * time.Second, To: 11 * time.Second}}
		}, Pass, ""},
		"a gap of what the harness counts, beside what nodes use": {&Leaks{Nodes: "store", Descriptors: bound(t, "<= 5"), Within: plan.Duration(time.Second), Metrics: LeakMetrics{Descriptors: "gauntlet_node_fds"}}, func(_ *story, g *gauges) {
			g.value["gauntlet_node_fds"] = leveled(9, 9, 3*time.Second, time.Hour)
			g.gaps = []record.Gap{{Node: record.OfHarness, From: 10 * time.Second, To: 11 * time.Second}}
		}, Pass, ""},
		"a gap of what the harness counts": {&Leaks{Nodes: "store", Descriptors: bound(t, "<= 5"), Within: plan.Duration(time.Second), Metrics: LeakMetrics{Descriptors: "gauntlet_load_open"}}, func(_ *story, g *gauges) {
			g.value["gauntlet_load_open"] = leveled(9, 9, 3*time.Second, time.Hour)
			g.gaps = []record.Gap{{Node: record.OfHarness, From: 10 * time.Second, To: 11 * time.Second}}
		}, Invalid, "was not scraped"},
		"a gap and a leak": {ask(), func(_ *story, g *gauges) {
			g.value["go_goroutines"] = leveled(50, 500, 3*time.Second, time.Hour)
			g.gaps = []record.Gap{{Node: "store-2", From: 10 * time.Second, To: 11 * time.Second}}
		}, Invalid, "was not scraped"},
		"gaps that cannot be told": {ask(), func(_ *story, g *gauges) { g.fails["gaps"] = errors.New("no such block") }, Invalid, "no such block"},
		"three scrapes":            {ask(), func(_ *story, g *gauges) { g.every = time.Second }, Invalid, "each takes 4"},
		"four scrapes":             {ask(), func(_ *story, g *gauges) { g.every = 900 * ms }, Pass, ""},
		"three scrapes in the end": {ask(), func(_ *story, g *gauges) {
			g.value["go_goroutines"] = func(_ string, t time.Duration) (float64, bool) { return 50, t < 9700*ms }
		}, Invalid, "go_goroutines of store-1: 15 scrapes in the baseline and 3 after it, and each takes 4"},
		"three scrapes in the baseline": {ask(), func(_ *story, g *gauges) {
			g.value["go_goroutines"] = func(_ string, t time.Duration) (float64, bool) { return 50, t < 600*ms || t > 3*time.Second }
		}, Invalid, "go_goroutines of store-1: 3 scrapes in the baseline and 15 after it, and each takes 4"},
		"values that are no numbers": {ask(), func(_ *story, g *gauges) {
			g.value["go_goroutines"] = func(n string, _ time.Duration) (float64, bool) {
				if n == "store-3" {
					return math.NaN(), true
				}
				return 50, true
			}
		}, Invalid, "go_goroutines of store-3: 0 scrapes in the baseline"},
		"a node without a value": {ask(), func(_ *story, g *gauges) {
			g.value["go_goroutines"] = func(n string, _ time.Duration) (float64, bool) { return 50, n != "store-3" }
		}, Invalid, "go_goroutines of store-3: 0 scrapes in the baseline"},
		"too short":      {&Leaks{Nodes: "store", Goroutines: bound(t, "<= 10"), Within: plan.Duration(5 * time.Second)}, nil, Invalid, "recovery ends 4.9s after the last fault"},
		"just too short": {&Leaks{Nodes: "store", Goroutines: bound(t, "<= 10"), Within: plan.Duration(4900 * ms)}, nil, Invalid, "recovery ends 4.9s after the last fault, and the level is judged from 4.9s on"},
		"a tenth less load": {ask(), func(s *story, _ *gauges) {
			begin(s, plan.PhaseBaseline, 900*ms) // 400 requests in two seconds
			s.thin(9100*ms, 12*time.Second, 10)  // 522 in 2.9
		}, Pass, ""},
		"another load that is silent": {&Leaks{Nodes: "store", Load: "orders", Goroutines: bound(t, "<= 10"), Within: plan.Duration(2 * time.Second)}, func(s *story, _ *gauges) {
			s.plan.Loads = append(s.plan.Loads, plan.Load{Name: "others", To: "gateway"})
		}, Pass, ""},
		"the load that is named, less than before": {&Leaks{Nodes: "store", Load: "orders", Goroutines: bound(t, "<= 10"), Within: plan.Duration(2 * time.Second)}, func(s *story, _ *gauges) {
			s.reqs = s.reqs[:2200]
		}, Invalid, "load orders is not back at the baseline's rate"},
		"more load than before": {ask(), func(s *story, _ *gauges) {
			for _, q := range slices.Clone(s.reqs) {
				if q.Due > 9*time.Second && q.Seq%5 == 0 {
					s.reqs = append(s.reqs, q)
				}
			}
		}, Invalid, "load orders is not back at the baseline's rate"},
		"less load than before":          {ask(), func(s *story, _ *gauges) { s.reqs = s.reqs[:2200] }, Invalid, "not back at the baseline's rate: 131/s after the fault, 199.7/s before"},
		"several series of a node":       {ask(), func(_ *story, g *gauges) { g.nodes = append(g.nodes, "store-1") }, Invalid, "several series of store-1"},
		"several series of another node": {ask(), func(_ *story, g *gauges) { g.nodes = append(g.nodes, "edge-1") }, Pass, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory()
			g := levelGauges()
			s.metrics = g
			s.ask(t, "leaks", c.ask)
			if c.spoil != nil {
				c.spoil(s, g)
			}
			f := s.want(t, c.want, c.says)
			switch name {
			case "above it":
				assert.Equal(t, "store-2 holds 11 goroutines more than in the baseline (50, then 61), wanted <= 10; memory at most 0 MiB above the baseline, wanted <= 32; store-1 ended in between, so that what it held before is not seen", f.Summary)
			case "no such node":
				assert.Equal(t, "no node belongs to orders", f.Summary)
			}
		})
	}
}

// Whoever misspelt a metric is shown those that share a word of some length with it, five at most.
func TestNearestMetrics(t *testing.T) {
	assert.Equal(t, "; there is process_fds, open_now_open", nearest("process_open_fds", []string{"go_goroutines", "process_fds", "max_fds", "open_now_open"}))
	assert.Equal(t, "; there is open1, open2, open3, open4, open5", nearest("x_open", []string{"open1", "open2", "open3", "open4", "open5", "open6"}))
	assert.Equal(t, "; there is open1", nearest("x_open", []string{"open1"}))
	assert.Empty(t, nearest("x_open", []string{"close", "x"}))
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
