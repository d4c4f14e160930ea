package assertions

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// Leaks compares what nodes hold after the last fault with what they held in the baseline: the median of each figure in each
// window, node by node. A level in the baseline that is not reached again is a leak, or is not given back yet: hence within.
//
// The rate of requests must be the baseline's again, since what a busier service holds is no leak. Nor is what is held under a fault: all
// must be gone.
type Leaks struct {
	Nodes       string        `json:"nodes" jsonschema:"required" desc:"A service, group or node."`
	Goroutines  plan.Bound    `json:"goroutines,omitzero" desc:"A bound on how many more there are than in the baseline, such as <= 10."`
	Descriptors plan.Bound    `json:"descriptors,omitzero" desc:"Likewise, open file descriptors."`
	Memory      plan.Bound    `json:"memory,omitzero" desc:"Likewise, resident memory in MiB."`
	Within      plan.Duration `json:"within" jsonschema:"required" desc:"How long after the last fault is gone the level must be reached; it is judged from then to the end of recovery."`
	Load        string        `json:"load,omitempty" desc:"The load whose rate must be the baseline's. Left out: every one."`
	Metrics     LeakMetrics   `json:"metrics,omitzero" desc:"The metrics, for services that do not have Go's: gauntlet_node_threads and the like are there for every node."`
}

// LeakMetrics are the names of metrics, or expressions, that have a value for each node.
type LeakMetrics struct {
	Goroutines  string `json:"goroutines,omitempty" desc:"Default go_goroutines."`
	Descriptors string `json:"descriptors,omitempty" desc:"Default process_open_fds."`
	Memory      string `json:"memory,omitempty" desc:"In bytes. Default process_resident_memory_bytes."`
}

// leakFigure is one of the figures that were asked for.
type leakFigure struct {
	name, expr string
	bound      plan.Bound
	unit       float64 // what a value is divided by
	suffix     string
}

func (a *Leaks) figures() []leakFigure {
	or := func(s, d string) string {
		if s == "" {
			return d
		}
		return s
	}
	var out []leakFigure
	for _, f := range []leakFigure{
		{"goroutines", or(a.Metrics.Goroutines, "go_goroutines"), a.Goroutines, 1, ""},
		{"descriptors", or(a.Metrics.Descriptors, "process_open_fds"), a.Descriptors, 1, ""},
		{"memory", or(a.Metrics.Memory, "process_resident_memory_bytes"), a.Memory, 1 << 20, " MiB"},
	} {
		if !f.bound.IsZero() {
			out = append(out, f)
		}
	}
	return out
}

// Validate returns every error.
func (a *Leaks) Validate(s Scope) error {
	var errs []error
	switch {
	case a.Nodes == "":
		errs = append(errs, errors.New("nodes is missing: a service, group or node"))
	case !slices.Contains(s.Groups, a.Nodes) && !slices.ContainsFunc(s.Services, func(svc string) bool { return belongs(a.Nodes, svc) }):
		errs = append(errs, oneOf("service, group or node", a.Nodes, append(slices.Clone(s.Services), s.Groups...)))
	}
	if len(a.figures()) == 0 {
		errs = append(errs, errors.New("no bound is given: one of goroutines, descriptors, memory"))
	}
	for _, f := range a.figures() {
		if f.bound.Unit != plan.Count || f.bound.Op[0] != '<' {
			errs = append(errs, fmt.Errorf("%s %q: write it as \"<= 10\", how many more than in the baseline", f.name, f.bound))
		}
	}
	if a.Within <= 0 {
		errs = append(errs, errors.New("within is missing: how long it may take, such as 3s"))
	}
	if a.Load != "" {
		errs = append(errs, oneOf("load", a.Load, loadNames(s.Plan)))
	}
	for _, id := range heldFaults(s.Plan) {
		errs = append(errs, fmt.Errorf("the fault %s is held to the end (for: end): what nodes hold after it is not seen", id))
	}
	return errors.Join(errs...)
}

func (a *Leaks) measures() measured { return measured{src: Source{Load: a.Load}} }

// minScrapes is how many scrapes a window needs of each node.
const minScrapes = 4

// rateSlack is how far the rate of a load may be from the baseline's.
const rateSlack = 0.1

// Judge compares.
func (a *Leaks) Judge(_ context.Context, p *plan.Plan, r *record.Round) Finding {
	m := r.Run().Metrics
	if m == nil {
		return invalid("the run has no metrics")
	}
	figs := a.figures()
	if len(figs) == 0 {
		return invalid("no bound is given")
	}
	base, after, err := a.windows(r)
	if err != nil {
		return invalid("%v", err)
	}
	if why := a.rates(p, r, base, after); len(why) > 0 {
		return invalid("%s", strings.Join(why, "; "))
	}
	nodes := a.nodes(r)
	f := Finding{Verdict: Pass}
	var said, why []string
	for _, g := range []Window{base, after} {
		gaps, err := m.Gaps(g.From, g.To)
		if err != nil {
			return invalid("%v", err)
		}
		for _, x := range gaps {
			if a.has(r, x.Node) || readByHarness(x.Node, figs) {
				why = append(why, fmt.Sprintf("%s was not scraped from %s to %s", x.Node, seconds(x.From), seconds(x.To)))
			}
		}
	}
	for _, g := range figs {
		levels := [2]map[string]level{}
		for i, w := range []Window{base, after} {
			if levels[i], err = a.levels(m, r, g, w); err != nil {
				return invalid("%v", err)
			}
		}
		worst := math.Inf(-1)
		ev := Evidence{What: fmt.Sprintf("%s of %s: how much higher the median of %s is from %s on than in the baseline", g.name, a.Nodes, g.expr, seconds(after.From)), File: "metrics", Window: &after, Values: map[string]float64{}}
		for _, n := range nodes {
			was, is := levels[0][n], levels[1][n]
			if was.n < minScrapes || is.n < minScrapes {
				why = append(why, fmt.Sprintf("%s of %s: %s in the baseline and %d after it, and each takes %d", g.expr, n, plural(was.n, "scrape"), is.n, minScrapes))
				continue
			}
			more := (is.median - was.median) / g.unit
			ev.Values[n+" in the baseline"], ev.Values[n+" after"] = was.median/g.unit, is.median/g.unit
			ev.Nodes, ev.Count = append(ev.Nodes, n), ev.Count+is.n
			worst = max(worst, more)
			if !g.bound.Holds(more) {
				f.Verdict = Fail
				said = append(said, fmt.Sprintf("%s holds %s%s %s more than in the baseline (%s, then %s), wanted %s", n, number(more), g.suffix, g.name, number(was.median/g.unit), number(is.median/g.unit), g.bound))
			}
		}
		if len(ev.Nodes) > 0 && g.bound.Holds(worst) {
			said = append(said, fmt.Sprintf("%s at most %s%s above the baseline, wanted %s", g.name, number(worst), g.suffix, g.bound))
		}
		f.Evidence = append(f.Evidence, ev)
	}
	anew := startedAnew(r, nodes, Window{base.From, after.To})
	switch {
	case len(anew) > 0 && len(anew) == len(nodes):
		why = append(why, fmt.Sprintf("%s ended between the baseline and the end, and what it held is gone with it", list(anew)))
	case len(anew) > 0:
		said = append(said, list(anew)+" ended in between, so that what it held before is not seen")
	}
	if len(nodes) == 0 {
		why = append(why, "no node belongs to "+a.Nodes)
	}
	if len(why) > 0 {
		f.Verdict, f.Reason = Invalid, strings.Join(why, "; ")
		said = append(said, f.Reason)
	}
	f.Summary = strings.Join(said, "; ")
	return f
}

// startedAnew are the nodes whose program ended in a window.
func startedAnew(r *record.Round, nodes []string, w Window) []string {
	return slices.DeleteFunc(slices.Clone(nodes), func(n string) bool {
		return !slices.ContainsFunc(r.Events, func(e record.Event) bool {
			return e.Kind == record.NodeExited && e.Node == n && e.T > w.From && e.T < w.To
		})
	})
}

// windows are the baseline, and the time from within after the last fault was gone to the end of recovery.
func (a *Leaks) windows(r *record.Round) (base, after Window, err error) {
	if base, err = phase(r, plan.PhaseBaseline); err != nil {
		return base, after, err
	}
	from, to, ok := r.Phase(plan.PhaseRecovery)
	if !ok {
		return base, after, errors.New("the round did not reach the phase recovery")
	}
	var lasting []record.Event // the beginnings of what is not gone
	last := time.Duration(0)
	for _, e := range r.Events {
		if e.T >= to {
			break
		}
		switch e.Kind {
		case record.FaultStarted:
			lasting = append(lasting, e)
		case record.FaultInEffect, record.FaultUndone:
		case record.FaultGone:
			lasting = slices.DeleteFunc(lasting, func(x record.Event) bool { return x.Fault == e.Fault && x.Occurrence == e.Occurrence })
		default:
			continue
		}
		last = max(last, e.T)
	}
	if len(lasting) > 0 {
		return base, after, fmt.Errorf("the fault %s was not gone before the end of recovery, and what nodes hold under a fault is no leak", lasting[0].Fault)
	}
	if last == 0 {
		last = from // nothing was broken
	}
	after = Window{last + a.Within.D(), to}
	if after.From >= after.To {
		return base, after, fmt.Errorf("recovery ends %s after the last fault, and the level is judged from %s on", seconds(to-last), seconds(a.Within.D()))
	}
	return base, after, nil
}

// rates says of which loads the rate after the fault is not the baseline's.
func (a *Leaks) rates(p *plan.Plan, r *record.Round, base, after Window) []string {
	var why []string
	for _, l := range p.Loads {
		if a.Load != "" && l.Name != a.Load {
			continue
		}
		all, err := r.Requests(l.Name)
		if err != nil {
			return []string{err.Error()}
		}
		rate := func(w Window) float64 {
			from := sort.Search(len(all), func(i int) bool { return all[i].Due >= w.From })
			to := sort.Search(len(all), func(i int) bool { return all[i].Due >= w.To })
			return float64(to-from) / (w.To - w.From).Seconds()
		}
		was, is := rate(base), rate(after)
		if was == 0 || math.Abs(is-was) > rateSlack*was {
			why = append(why, fmt.Sprintf("load %s is not back at the baseline's rate: %s/s after the fault, %s/s before", l.Name, number(is), number(was)))
		}
	}
	return why
}

// readByHarness reports whether a gap is of figures that are asked for and that the harness reads itself.
func readByHarness(gap string, figs []leakFigure) bool {
	return slices.ContainsFunc(figs, func(f leakFigure) bool {
		switch of := strings.Contains(f.expr, "gauntlet_node_"); gap {
		case record.OfNodes:
			return of
		case record.OfHarness:
			return !of && strings.Contains(f.expr, "gauntlet_")
		}
		return false
	})
}

// has reports whether a node is one of those that are judged.
func (a *Leaks) has(r *record.Round, node string) bool {
	if belongs(node, a.Nodes) {
		return true
	}
	return slices.ContainsFunc(r.Run().Meta.Nodes, func(n record.Node) bool { return n.Name == node && n.Group == a.Nodes })
}

func (a *Leaks) nodes(r *record.Round) []string {
	var out []string
	for _, n := range r.Run().Meta.Nodes {
		if a.has(r, n.Name) {
			out = append(out, n.Name)
		}
	}
	return out
}

// level of a figure in a window.
type level struct {
	n      int
	median float64
}

// levels are those of every node of which there is one.
func (a *Leaks) levels(m record.Metrics, r *record.Round, g leakFigure, w Window) (map[string]level, error) {
	step := m.Interval()
	if step <= 0 {
		return nil, errors.New("the metrics do not say how often they were scraped")
	}
	series, err := m.Range(g.expr, w.From, w.To, step)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", g.expr, err)
	}
	out := map[string]level{}
	for _, s := range series {
		n := s.Labels[nodeLabel]
		if !a.has(r, n) {
			continue
		}
		if _, twice := out[n]; twice {
			return nil, fmt.Errorf("%s has several series of %s: write an expression that has one for each node", g.expr, n)
		}
		var vs []float64
		for _, p := range s.Points {
			if !math.IsNaN(p.Value) {
				vs = append(vs, p.Value)
			}
		}
		slices.Sort(vs)
		l := level{n: len(vs)}
		if l.n > 0 {
			l.median = vs[(l.n-1)/2]
		}
		out[n] = l
	}
	if len(out) == 0 {
		names, err := m.Names()
		if err != nil {
			return nil, err
		}
		if !slices.Contains(names, g.expr) {
			return nil, fmt.Errorf("there is no metric %s%s", g.expr, nearest(g.expr, names))
		}
	}
	return out, nil
}

// nearest names what may have been meant: those that share a word.
func nearest(name string, names []string) string {
	var near []string
	for _, n := range names {
		for _, w := range strings.Split(name, "_") {
			if len(w) > 3 && strings.Contains(n, w) && !slices.Contains(near, n) {
				near = append(near, n)
			}
		}
	}
	if len(near) == 0 {
		return ""
	}
	return "; there is " + list(near[:min(len(near), 5)])
}
