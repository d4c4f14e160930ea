package assertions

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// PromQL bounds the value of an expression over the metrics of the run.
//
// The expression is evaluated at every scrape interval of the window, for the first time one interval after its beginning: what a moment
// sees is the scrape before it. Each value of each series must meet the bound. A range such as [1s] looks back from there, before the
// beginning of the window too. NaN is no value: it is what a quantile or a ratio of nothing is.
type PromQL struct {
	Query  string        `json:"query" jsonschema:"required" desc:"A PromQL expression over the run's metrics. Series carry the labels node, service, group and zone. A range spans four scrapes (800ms) or more. increase and rate see the first value of a counter only where its program says when it began (protobuf or OpenMetrics, as Prometheus's clients do); in plain text the counter must be there with 0 before."`
	Is     plan.Bound    `json:"is" jsonschema:"required" desc:"The bound that every value must meet, such as <= 3 or >= 50%; in the unit of the expression, seconds where it is a time."`
	During string        `json:"during,omitempty" desc:"It holds throughout this phase (baseline, fault, recovery), or while this fault holds (its id)."`
	Always bool          `json:"always,omitempty" desc:"It holds all the time under load."`
	AtEnd  bool          `json:"at-end,omitempty" desc:"It holds at the end of recovery: the last value of each series counts, of the last four scrapes."`
	After  string        `json:"after,omitempty" desc:"With within: the moment from which the time counts, FAULT.started, FAULT.in-effect, FAULT.undone or FAULT.gone."`
	Damage bool          `json:"damage,omitempty" desc:"With during: what it asks for is what the faults do, such as requests that are turned away. The run without faults (--controls) is not asked then."`
	Within plan.Duration `json:"within,omitempty" desc:"It comes to hold within this time of after; it need not stay."`
}

// leastScrapes is how many scrapes a window, or a range, must span: a rate of fewer is that of two values or of none.
const leastScrapes = 4

// MetricScope is what is known of the metrics of a run before it.
type MetricScope struct {
	// Parse returns the metrics that an expression names, or says what is wrong with it. nil: nobody can.
	Parse func(expr string) (metrics []string, err error)
	// Interval between two scrapes.
	Interval time.Duration
	// Exposed says that a service of the topology exposes metrics of its own.
	Exposed bool
}

// Check says what is wrong with an expression before a run.
func (s MetricScope) Check(expr string) error {
	if s.Parse == nil {
		return nil
	}
	metrics, err := s.Parse(expr)
	if err != nil {
		return err
	}
	for _, m := range metrics {
		if !s.Exposed && !ofHarness(m) {
			return fmt.Errorf("no service of the topology exposes metrics, so there is no %s: give the service x-gauntlet: {metrics: \":PORT/metrics\"}", m)
		}
	}
	return nil
}

// ofHarness reports whether a metric is there in every run.
func ofHarness(metric string) bool {
	return strings.HasPrefix(metric, "gauntlet_") || strings.HasPrefix(metric, "scrape_") || metric == "up"
}

func (a *PromQL) moment() plan.EventRef {
	id, event, _ := strings.Cut(a.After, ".")
	return plan.EventRef{Fault: id, Event: plan.FaultEvent(event)}
}

// Validate returns every error.
func (a *PromQL) Validate(s Scope) error {
	errs := []error{a.whole()}
	if strings.TrimSpace(a.Query) != "" {
		if err := s.Metrics.Check(a.Query); err != nil {
			errs = append(errs, fmt.Errorf("query: %w", err))
		}
	}
	if a.During != "" && !slices.Contains(phases, a.During) {
		errs = append(errs, oneOf("phase or fault", a.During, append(slices.Clone(phases), faultNames(s.Plan)...)))
	}
	if a.After != "" {
		events := []plan.FaultEvent{plan.Started, plan.InEffect, plan.Undone, plan.Gone}
		if ref := a.moment(); !slices.Contains(events, ref.Event) {
			errs = append(errs, fmt.Errorf("after %q: write it as FAULT.started, FAULT.in-effect, FAULT.undone or FAULT.gone", a.After))
		} else {
			errs = append(errs, oneOf("fault", ref.Fault, faultNames(s.Plan)))
		}
	}
	least := leastScrapes * s.Metrics.Interval
	if a.Within > 0 && a.Within.D() < least {
		errs = append(errs, fmt.Errorf("within %s is shorter than four scrapes, %s", a.Within, seconds(least)))
	}
	if d, ok := planned(a.During, s.Plan); ok && d < least {
		errs = append(errs, fmt.Errorf("during %q: it lasts %s, less than four scrapes, %s", a.During, seconds(d), seconds(least)))
	}
	return errors.Join(errs...)
}

// planned is how long a phase lasts by the plan, at most, where the plan says so.
func planned(phase string, p *plan.Plan) (time.Duration, bool) {
	switch {
	case phase == plan.PhaseBaseline && p.Baseline.Until == nil:
		return p.Baseline.AtLeast.D(), p.Baseline.AtLeast > 0
	case phase == plan.PhaseRecovery && p.RecoveryUntil == nil:
		return p.Recovery.D(), p.Recovery > 0
	}
	return 0, false
}

// whole says what is wrong with the parameters among themselves.
func (a *PromQL) whole() error {
	var errs []error
	if strings.TrimSpace(a.Query) == "" {
		errs = append(errs, errors.New("query is missing: a PromQL expression"))
	}
	switch {
	case a.Is.IsZero():
		errs = append(errs, errors.New("is is missing: a bound such as <= 3"))
	case a.Is.Unit == plan.Times:
		errs = append(errs, fmt.Errorf("is %q: a multiple of the baseline is not known here; write it into the query, with offset", a.Is))
	}
	var when []string
	for _, w := range []struct {
		name string
		is   bool
	}{{"during", a.During != ""}, {"always", a.Always}, {"at-end", a.AtEnd}, {"within", a.Within != 0 || a.After != ""}} {
		if w.is {
			when = append(when, w.name)
		}
	}
	switch {
	case len(when) == 0:
		errs = append(errs, errors.New("when? give it one of during, always, at-end, or within and after"))
	case len(when) > 1:
		errs = append(errs, fmt.Errorf("%s exclude each other", strings.Join(when, " and ")))
	case a.Damage && (a.During == "" || a.During == plan.PhaseBaseline):
		errs = append(errs, errors.New("damage is done during a fault: give it during, a fault, or the phase fault or recovery"))
	case when[0] == "within" && (a.Within <= 0 || a.After == ""):
		errs = append(errs, errors.New("within and after belong together: the longest time, and the moment from which it counts"))
	}
	return errors.Join(errs...)
}

// asksForDamage: what comes within a time of a fault's begin is what the fault does; what comes after its end is as it was before.
// Of what holds while a fault does, nobody can tell by the expression.
func (a *PromQL) asksForDamage() bool {
	return a.Damage || strings.HasSuffix(a.After, ".started") || strings.HasSuffix(a.After, ".in-effect")
}

// measures says what the finding rests on: the run and its faults, and no load in particular.
func (a *PromQL) measures() measured { return measured{baselineOnly: a.During == plan.PhaseBaseline} }

// Judge evaluates.
func (a *PromQL) Judge(_ context.Context, _ *plan.Plan, r *record.Round) Finding {
	if err := a.whole(); err != nil {
		return invalid("%v", err) // a plan may come from elsewhere than our own validation
	}
	m := r.Run().Metrics
	if m == nil {
		return invalid("the run recorded no metrics")
	}
	if a.AtEnd {
		return a.atEnd(m, r)
	}
	ws, when, err := a.windows(r)
	if err != nil {
		return invalid("%v", err)
	}
	least := leastScrapes * m.Interval()
	for i, w := range ws {
		if d := w.To - w.From; d < least {
			which := when
			if len(ws) > 1 {
				which = fmt.Sprintf("%s, time %d of %d,", when, i+1, len(ws))
			}
			return invalid("%s is %s long, less than four scrapes, %s", which, seconds(d), seconds(least))
		}
	}
	t := tally{bound: a.Is}
	for _, w := range ws {
		w.From += m.Interval()
		series, err := m.Range(a.Query, w.From, w.To, m.Interval())
		if err != nil {
			return invalid("%v", err)
		}
		t.add(series, w, m.Interval())
	}
	if a.Within > 0 {
		if err := t.remember(a.Query, m, r, ws[0].From); err != nil {
			return invalid("%v", err)
		}
	}
	ev := Evidence{What: fmt.Sprintf("%s in %s", a.Query, when), File: record.MetricsDir, Count: t.values, Values: map[string]float64{
		"series": float64(len(t.series)), "moments": float64(t.moments), "moments with values": float64(len(t.at)),
	}}
	if t.values > 0 {
		ev.Values["least"], ev.Values["greatest"] = t.least, t.greatest
	}
	f := Finding{}
	switch few := t.tooFew(); {
	case few != "":
		f = invalid("%s: %s in %s", a.Query, few, when)
	case a.Within > 0:
		f = a.reached(&t, ws[0].From)
	default:
		f.Verdict, f.Summary = a.held(&t, when)
	}
	return a.stated(f, ev, m, ws)
}

// windows are the stretches that are looked at, and their name.
func (a *PromQL) windows(r *record.Round) ([]Window, string, error) {
	switch {
	case a.Within > 0:
		from, ok := r.Moment(a.moment())
		if !ok {
			return nil, "", fmt.Errorf("%s never came", a.After)
		}
		to := from + a.Within.D()
		if all, err := loaded(r); err != nil {
			return nil, "", err
		} else if to > all.To {
			return nil, "", fmt.Errorf("the round ended %s after %s, before the %s were over", seconds(all.To-from), a.After, a.Within)
		}
		return []Window{{from, to}}, fmt.Sprintf("the %s after %s", a.Within, a.After), nil
	case a.Always:
		w, err := loaded(r)
		return []Window{w}, "all phases under load", err
	}
	ws, err := during(a.During, r)
	return ws, a.During, err
}

// held is that every value met the bound.
func (a *PromQL) held(t *tally, when string) (Verdict, string) {
	between := fmt.Sprintf("between %s and %s", number(t.least), number(t.greatest))
	if len(t.bad) == 0 {
		return Pass, fmt.Sprintf("%s was %s throughout %s (%s of %d series), wanted %s", a.Query, between, when, plural(t.values, "value"), len(t.series), a.Is)
	}
	b := t.first
	return Fail, fmt.Sprintf("%s was %s at %s%s, wanted %s throughout %s; it broke that at %d of %d moments, and was %s",
		a.Query, number(b.value), seconds(b.at), b.whose, a.Is, when, len(t.bad), len(t.at), between)
}

// reached is that there was a moment at which all values met the bound, and none was missing.
func (a *PromQL) reached(t *tally, from time.Duration) Finding {
	holed := time.Duration(-1)
	for _, at := range slices.Sorted(maps.Keys(t.at)) {
		switch {
		case t.bad[at]:
		case t.holes(at) != "":
			if holed < 0 {
				holed = at
			}
		default:
			return Finding{Verdict: Pass, Summary: fmt.Sprintf("%s was %s %s after %s, wanted within %s", a.Query, a.Is, seconds(at-from), a.After, a.Within)}
		}
	}
	if holed >= 0 {
		return invalid("%s was %s only where a value was missing, first %s after %s%s", a.Query, a.Is, seconds(holed-from), a.After, t.holes(holed))
	}
	return Finding{Verdict: Fail, Summary: fmt.Sprintf("%s never was %s within %s of %s: it was between %s and %s", a.Query, a.Is, a.Within, a.After, number(t.least), number(t.greatest))}
}

// atEnd looks at one moment.
func (a *PromQL) atEnd(m record.Metrics, r *record.Round) Finding {
	_, end, ok := r.Phase(plan.PhaseRecovery)
	if !ok || !r.Ended(plan.PhaseRecovery) {
		return invalid("the round did not come to the end of recovery")
	}
	// One scrape that a busy machine missed must not take the answer away: of each series the last value counts, of a
	// node that went down before that none.
	window := Window{max(0, end-leastScrapes*m.Interval()), end}
	series, err := m.Range(a.Query, window.From, window.To, m.Interval())
	if err != nil {
		return invalid("%v", err)
	}
	t := tally{bound: a.Is}
	for i, s := range series {
		points := slices.DeleteFunc(slices.Clone(s.Points), func(p record.Point) bool { return math.IsNaN(p.Value) })
		series[i].Points = points[max(0, len(points)-1):]
	}
	t.add(series, window, m.Interval())
	ev := Evidence{What: a.Query + " at the end of recovery", File: record.MetricsDir, Count: t.values, Values: map[string]float64{"series": float64(len(t.series))}}
	f := Finding{}
	switch {
	case t.values == 0:
		f = invalid("%s has no value at the end of recovery", a.Query)
	case len(t.bad) > 0:
		f.Verdict, f.Summary = Fail, fmt.Sprintf("%s was %s at the end of recovery%s, wanted %s", a.Query, number(t.first.value), t.first.whose, a.Is)
	default:
		f.Verdict, f.Summary = Pass, fmt.Sprintf("%s was %s at the end of recovery (%d series), wanted %s", a.Query, spread(&t), len(t.series), a.Is)
	}
	if t.values > 0 {
		ev.Values["least"], ev.Values["greatest"] = t.least, t.greatest
	}
	return a.stated(f, ev, m, []Window{window})
}

func spread(t *tally) string {
	if t.least == t.greatest {
		return number(t.least)
	}
	return "between " + number(t.least) + " and " + number(t.greatest)
}

// stated adds the evidence, and the stretches in which a node was not scraped: whoever reads the finding must know.
func (a *PromQL) stated(f Finding, ev Evidence, m record.Metrics, ws []Window) Finding {
	for i := range ws[:min(len(ws), maxDetails)] {
		e := ev
		e.Window = &ws[i]
		f.Evidence = append(f.Evidence, e)
	}
	return withGaps(f, m, ws)
}

// withGaps adds to a finding on metrics the stretches of its windows in which a node that ran was not scraped.
func withGaps(f Finding, m record.Metrics, ws []Window) Finding {
	var all []record.Gap
	for _, w := range ws {
		gaps, err := m.Gaps(w.From, w.To)
		if err != nil {
			f.Evidence = append(f.Evidence, Evidence{What: "gaps between scrapes", Detail: err.Error()})
			return f
		}
		all = append(all, gaps...)
	}
	if len(all) == 0 {
		return f
	}
	var nodes, lines []string
	longest := time.Duration(0)
	for i, g := range all {
		if !slices.Contains(nodes, g.Node) {
			nodes = append(nodes, g.Node)
		}
		longest = max(longest, g.To-g.From)
		if i < maxDetails {
			lines = append(lines, fmt.Sprintf("%s was not scraped from %s to %s", g.Node, seconds(g.From), seconds(g.To)))
		}
	}
	f.Evidence = append(f.Evidence, Evidence{What: "gaps between scrapes longer than two and a half intervals", File: record.MetricsDir, Count: len(all), Nodes: nodes,
		Values: map[string]float64{"longest": longest.Seconds()}, Detail: strings.Join(lines, "\n")})
	f.Summary += fmt.Sprintf("; %s without a scrape, %s at most", plural(len(all), "gap"), seconds(longest))
	return f
}

// tally counts the values of an expression.
type tally struct {
	bound plan.Bound

	values          int // NaN apart
	moments         int // at which it was evaluated
	step            time.Duration
	series          map[string][]time.Duration // the moments of each with a value, in order, by its name
	whose           map[string]string          // what it is called in a finding
	before          map[string]bool            // those that there were before the window
	at              map[time.Duration]bool     // moments with a value
	bad             map[time.Duration]bool     // of these, those with one that breaks the bound
	first           breach                     // the earliest of these
	least, greatest float64
}

// breach is a value that breaks the bound.
type breach struct {
	at    time.Duration
	value float64
	whose string // " on gateway-2"
}

func (t *tally) add(series []record.Series, w Window, step time.Duration) {
	if t.series == nil {
		t.series, t.whose = map[string][]time.Duration{}, map[string]string{}
		t.at, t.bad = map[time.Duration]bool{}, map[time.Duration]bool{}
	}
	t.step = step
	t.moments += int((w.To-w.From)/step) + 1
	alike := map[string]int{}
	for _, s := range series {
		alike[labelled(s.Labels, false)]++
	}
	for _, s := range series {
		name, whose := named(s.Labels), labelled(s.Labels, false)
		if alike[whose] > 1 {
			whose = labelled(s.Labels, true)
		}
		t.whose[name] = whose
		for _, p := range s.Points {
			if math.IsNaN(p.Value) {
				continue
			}
			if t.values == 0 {
				t.least, t.greatest = p.Value, p.Value
			}
			t.values++
			t.least, t.greatest = min(t.least, p.Value), max(t.greatest, p.Value)
			t.series[name] = append(t.series[name], p.T)
			t.at[p.T] = true
			if t.bound.Holds(p.Value) {
				continue
			}
			if len(t.bad) == 0 || p.T < t.first.at {
				t.first = breach{p.T, p.Value, whose}
			}
			t.bad[p.T] = true
		}
	}
}

// remember notes which series there were before a moment, from when the load began.
func (t *tally) remember(query string, m record.Metrics, r *record.Round, moment time.Duration) error {
	all, err := loaded(r)
	if err != nil {
		return err
	}
	series, err := m.Range(query, all.From, moment, m.Interval())
	if err != nil {
		return err
	}
	t.before = map[string]bool{}
	for _, s := range series {
		t.before[named(s.Labels)] = slices.ContainsFunc(s.Points, func(p record.Point) bool { return !math.IsNaN(p.Value) })
	}
	return nil
}

// holes names a series that has no value at a moment and is not over: it has one later, or had one fewer than leastScrapes scrapes ago.
// One scrape that failed hides what the series was; so does a node that is not back yet, whose series there was before.
func (t *tally) holes(at time.Duration) string {
	for _, name := range slices.Sorted(maps.Keys(t.series)) {
		all := t.series[name]
		i, has := slices.BinarySearch(all, at)
		if has || (i == 0 && !t.before[name]) {
			continue // not begun yet
		}
		if i < len(all) || at-all[i-1] < leastScrapes*t.step {
			return t.whose[name]
		}
	}
	return ""
}

// tooFew says why the values do not bear a verdict.
func (t *tally) tooFew() string {
	switch n := len(t.at); {
	case n == 0:
		return "there is no value"
	case n < leastScrapes:
		return fmt.Sprintf("there are values at %s only, and it takes four", plural(n, "moment"))
	case 2*n < t.moments:
		return fmt.Sprintf("there are values at only %d of %d moments", n, t.moments)
	}
	return ""
}

// named is what tells a series from all others.
func named(m map[string]string) string { return m["__name__"] + "{" + seriesName(m) + "}" }

// labelled is what a series is called, by its node where that is all that it takes: service, group and zone are then the node's. fully: they
// may be the program's own, and tell it from others of the node.
func labelled(m map[string]string, fully bool) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if k == "__name__" || k == "instance" || k == "job" || (k == "service" || k == "group" || k == "zone") && m["node"] != "" && !fully {
			continue
		}
		if k == "node" {
			parts = append([]string{m[k]}, parts...)
			continue
		}
		parts = append(parts, k+"="+m[k])
	}
	if len(parts) == 0 {
		return ""
	}
	return " on " + strings.Join(parts, ", ")
}
