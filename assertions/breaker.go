package assertions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// Breaker judges a circuit breaker from outside: by its state at each scrape, and by the calls that reached its dependency,
// which are counted on the link. Each replica that calls has a breaker of its own and is judged by itself; the worst speaks.
//
// Between two scrapes the state is known only when both say the same and no transition was counted between them. What happened in
// other intervals is not held against a breaker, and a bound that lies within one is not decided: INVALID.
type Breaker struct {
	Of          string          `json:"of" jsonschema:"required" desc:"The dependency that the breaker guards: a service, a group or a node."`
	In          string          `json:"in" jsonschema:"required" desc:"Who calls it and has the breaker: a service, a group or a node."`
	Fault       string          `json:"fault,omitempty" desc:"The fault that opens it. Left out, where nothing should: all the time under load."`
	Opens       plan.Bound      `json:"opens,omitzero" desc:"How soon it opens once the fault is in effect: a time, such as <= 2s, or a number of calls on the link, such as <= 20."`
	Rejects     *BreakerRejects `json:"rejects,omitempty" desc:"What the callers of the service are answered while the breaker is open."`
	WhileOpen   plan.Bound      `json:"while-open,omitzero" desc:"Calls that cross the link while it is open, such as = 0."`
	Probes      plan.Bound      `json:"probes,omitzero" desc:"Calls that cross the link in a half-open episode, from open to open or closed, such as <= 3."`
	Closes      plan.Bound      `json:"closes,omitzero" desc:"How soon after the fault was undone it closes and stays closed until the end of recovery, such as <= 3s."`
	StaysClosed bool            `json:"stays-closed,omitempty" desc:"It never opens: the fault is none of its business, or callers gave up."`
	Transitions plan.Bound      `json:"transitions,omitzero" desc:"Changes of state from the start of the fault to the end of recovery, such as <= 4."`
	Method      string          `json:"method,omitempty" desc:"Only calls whose path (of gRPC /package.Service/Method) matches this regular expression. Health checks never count."`
	Settle      plan.Duration   `json:"settle,omitempty" desc:"How long after it opened, and after the fault was undone, calls that were sent before may still cross the link, such as one with latency. Default and least: the interval of scrapes."`
	Metrics     BreakerMetrics  `json:"metrics,omitzero" desc:"How a service that is not hasvc tells its breaker's state."`
}

// BreakerMetrics are the names by which a breaker is known. The zero value is hasvc's.
type BreakerMetrics struct {
	State       string   `json:"state,omitempty" desc:"A gauge. Default hasvc_breaker_state."`
	Open        *float64 `json:"open,omitempty" desc:"Its value when open. Default 2."`
	Closed      *float64 `json:"closed,omitempty" desc:"Its value when closed. Default 0. Any other is half-open."`
	Transitions string   `json:"transitions,omitempty" desc:"A counter of changes, which tells of those between two scrapes. Default hasvc_breaker_transitions_total where the gauge is hasvc's."`
	Label       string   `json:"label,omitempty" desc:"The label of both that names the dependency. Default service."`
	Value       string   `json:"value,omitempty" desc:"Its value. Default: of."`
}

// BreakerRejects bounds answers to requests that were due while the breakers were open.
type BreakerRejects struct {
	Load    string     `json:"load,omitempty" desc:"Whose requests. May be left out where there is one load."`
	Request string     `json:"request,omitempty" desc:"Only this request of the load: one that needs the dependency."`
	Status  []int      `json:"status,omitempty" desc:"Every answer must have one of these statuses, such as [503], or [200, 202] with a fallback."`
	P50     plan.Bound `json:"p50,omitzero" desc:"The median latency, such as <= 20ms."`
	P90     plan.Bound `json:"p90,omitzero" desc:"Likewise; it takes 100 answers."`
	P95     plan.Bound `json:"p95,omitzero" desc:"Likewise; it takes 200 answers."`
	P99     plan.Bound `json:"p99,omitzero" desc:"Likewise; it takes 1000 answers."`
}

func (a *BreakerRejects) bounds() Bounds {
	return Bounds{P50: a.P50, P90: a.P90, P95: a.P95, P99: a.P99}
}

// hasvc's names.
const (
	hasvcState       = "hasvc_breaker_state"
	hasvcTransitions = "hasvc_breaker_transitions_total"
)

func (a *Breaker) names() BreakerMetrics {
	m := a.Metrics
	if m.Transitions == "" && (m.State == "" || m.State == hasvcState) {
		m.Transitions = hasvcTransitions
	}
	m.State = cmp.Or(m.State, hasvcState)
	m.Label = cmp.Or(m.Label, "service")
	m.Value = cmp.Or(m.Value, a.Of)
	if m.Open == nil {
		m.Open = new(float64)
		*m.Open = 2
	}
	if m.Closed == nil {
		m.Closed = new(float64)
	}
	return m
}

// Observes is the link on which calls are counted.
func (a *Breaker) Observes() []plan.LinkEnds { return []plan.LinkEnds{{From: a.In, To: a.Of}} }

// measures says that the finding rests on all loads, whose requests lead to the calls.
func (a *Breaker) measures() measured { return measured{} }

// Validate returns every error.
func (a *Breaker) Validate(s Scope) error {
	errs := []error{endNamed("of", a.Of, s), endNamed("in", a.In, s), pathNamed(a.Method)}
	needs := a.Opens.IsZero() && a.Rejects == nil && a.WhileOpen.IsZero() && a.Probes.IsZero() && a.Closes.IsZero()
	switch {
	case needs && !a.StaysClosed && a.Transitions.IsZero():
		errs = append(errs, errors.New("nothing is asked of the breaker: one of opens, rejects, while-open, probes, closes, stays-closed, transitions"))
	case !needs && a.StaysClosed:
		errs = append(errs, errors.New("stays-closed excludes opens, rejects, while-open, probes and closes: what stays closed does not open"))
	case !needs && a.Fault == "":
		errs = append(errs, errors.New("fault is missing: the fault that opens the breaker"))
	}
	if a.Fault != "" {
		errs = append(errs, oneOf("fault", a.Fault, faultNames(s.Plan)))
	}
	errs = append(errs, a.shapes())
	if a.Settle < 0 {
		errs = append(errs, errors.New("settle is negative"))
	}
	if m := a.names(); *m.Open == *m.Closed {
		errs = append(errs, fmt.Errorf("metrics.open: %g means both open and closed", *m.Open))
	}
	if a.Rejects != nil {
		_, err := a.source(s.Plan)
		if err == nil && a.Rejects.Load != "" {
			err = Source{Load: a.Rejects.Load, Request: a.Rejects.Request}.validate(s)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// shapes checks the bounds themselves.
func (a *Breaker) shapes() error {
	var errs []error
	atMost := func(name string, b plan.Bound, such string, units ...plan.Unit) {
		if b.IsZero() {
			return
		}
		if !slices.Contains(units, b.Unit) || !(b.Op == "<" || b.Op == "<=" || (b.Op == "=" && b.Unit == plan.Count)) {
			errs = append(errs, fmt.Errorf("%s %q: write it as %s", name, b, such))
		}
	}
	atMost("opens", a.Opens, `"<= 2s" or, in calls, "<= 20"`, plan.Seconds, plan.Count)
	if a.Opens.Op == "=" {
		errs = append(errs, fmt.Errorf("opens %q: no breaker opens exactly then; use <=", a.Opens))
	}
	atMost("while-open", a.WhileOpen, `"= 0"`, plan.Count)
	atMost("probes", a.Probes, `"<= 3"`, plan.Count)
	atMost("closes", a.Closes, `"<= 3s"`, plan.Seconds)
	atMost("transitions", a.Transitions, `"<= 4"`, plan.Count)
	if r := a.Rejects; r != nil {
		if len(r.bounds().figures()) == 0 && len(r.Status) == 0 {
			errs = append(errs, errors.New("rejects: no bound is given: one of p50, p90, p95, p99, status"))
		}
		for _, f := range r.bounds().figures() {
			atMost("rejects."+f.name, f.bound, `"<= 20ms"`, plan.Seconds)
		}
		for _, s := range r.Status {
			if s < 100 || s > 599 {
				errs = append(errs, fmt.Errorf("rejects.status: %d is no status of HTTP", s))
			}
		}
	}
	return errors.Join(errs...)
}

// source is whose answers are looked at while the breaker is open.
func (a *Breaker) source(p *plan.Plan) (Source, error) {
	src := Source{Load: a.Rejects.Load, Request: a.Rejects.Request}
	if src.Load == "" {
		names := loadNames(p)
		if len(names) != 1 {
			return src, fmt.Errorf("rejects: load is missing: there is %s", list(names))
		}
		src.Load = names[0]
	}
	return src, nil
}

// Judge looks at the breaker of each caller.
func (a *Breaker) Judge(_ context.Context, p *plan.Plan, r *record.Round) Finding {
	if err := a.shapes(); err != nil {
		return invalid("%v", err)
	}
	w, err := a.watch(r)
	if err != nil {
		return invalid("%v", err)
	}
	var parts []part
	var ev []Evidence
	for _, node := range slices.Sorted(maps.Keys(w.lives)) {
		l := w.lives[node]
		mine := a.node(w, node, l)
		parts = append(parts, mine...)
		if len(ev) < maxDetails {
			ev = append(ev, l.evidence(w, node, mine))
		}
	}
	if a.Rejects != nil {
		rejected, e := a.rejects(p, r, w)
		parts = append(parts, rejected...)
		ev = append(ev, e...)
	}
	f := merge(parts)
	f.Summary += fmt.Sprintf(" (breaker of %s in %s)", a.Of, list(slices.Sorted(maps.Keys(w.lives))))
	if len(w.idle) > 0 {
		f.Summary += fmt.Sprintf("; %s made no calls and was left out", list(w.idle))
	}
	f.Evidence = append(f.Evidence, ev...)
	f.Evidence = append(f.Evidence, Evidence{What: fmt.Sprintf("calls from %s to %s", a.In, a.Of), File: record.CallsFile(), Window: &Window{w.base.From, w.end}, Count: begunIn(w.calls, w.base.From, w.end),
		Values: map[string]float64{"in the baseline": float64(begunIn(w.calls, w.base.From, w.base.To)), "scrape interval": w.interval.Seconds()}})
	return f
}

// node judges one caller's breaker.
func (a *Breaker) node(w *watch, node string, l *life) []part {
	if l.states[0].state != closed {
		return []part{{name: "before", node: node, verdict: Invalid, text: fmt.Sprintf("the breaker of %s was not closed when the baseline began", node)}}
	}
	if at, away := l.away(w.base.From, w.start); away {
		return []part{{name: "before", node: node, verdict: Invalid, text: fmt.Sprintf("the breaker of %s opened before the fault, by %s", node, seconds(at.To))}}
	}
	var parts []part
	for _, q := range []struct {
		asked bool
		judge func(*watch, string, *life) part
	}{
		{!a.Opens.IsZero(), a.opens}, {!a.WhileOpen.IsZero(), a.whileOpen}, {!a.Probes.IsZero(), a.probes}, {!a.Closes.IsZero(), a.closes},
		{a.StaysClosed, a.staysClosed}, {!a.Transitions.IsZero(), a.transitions},
	} {
		if q.asked {
			x := q.judge(w, node, l)
			x.node = node
			parts = append(parts, x)
		}
	}
	return parts
}

// opens: how soon after the fault was in effect.
func (a *Breaker) opens(w *watch, node string, l *life) part {
	x := part{name: "opens"}
	inCalls := a.Opens.Unit == plan.Count
	made := begunIn(l.calls, w.start, w.faultEnd)
	when, did := l.away(w.start, l.nextAfter(w.faultEnd))
	if !did {
		x.value = unbounded
		watched := l.lastBy(w.faultEnd) - w.start
		lo, for_ := watched.Seconds(), seconds(watched)
		if inCalls {
			lo, for_ = float64(made), plural(made, "call")
		}
		x.verdict = between(a.Opens, lo, unbounded)
		x.text = fmt.Sprintf("%s did not open in %s of %s, wanted %s", node, for_, a.Fault, a.Opens)
		if made == 0 {
			x.verdict = Invalid
			x.text = fmt.Sprintf("%s did not open, but made no call in %s that could have opened it", node, a.Fault)
		} else if x.verdict == Invalid {
			x.text += ": too short to see"
		}
		return x
	}
	lo, hi := max(0, when.From-w.start), when.To-w.start
	x.value = hi.Seconds()
	said := fmt.Sprintf("%s opened %s to %s after %s was in effect", node, seconds(lo), seconds(hi), a.Fault)
	if inCalls {
		few, many := begunIn(l.calls, w.start, when.From), begunIn(l.calls, w.start, when.To)
		x.value = float64(many)
		x.verdict = between(a.Opens, float64(few), float64(many))
		said = fmt.Sprintf("%s opened after %d to %d calls", node, few, many)
	} else {
		x.verdict = between(a.Opens, lo.Seconds(), hi.Seconds())
	}
	x.text = fmt.Sprintf("%s, wanted %s", said, a.Opens)
	if x.verdict == Invalid {
		x.text += ": the scrapes are too far apart to tell"
	}
	return x
}

// whileOpen: calls that crossed the link in intervals in which the breaker was open throughout.
func (a *Breaker) whileOpen(w *watch, node string, l *life) part {
	x := part{name: "while-open"}
	spans := w.afterHeal(l.open(w.settle(), 0))
	n, most := 0, 0
	for _, s := range spans {
		n += begunIn(l.calls, s.From, s.To)
	}
	for i := 1; i < len(l.states); i++ {
		for _, s := range spans {
			most = max(most, begunIn(l.calls, max(s.From, l.states[i-1].at), min(s.To, l.states[i].at)))
		}
	}
	x.value = float64(n)
	x.text = fmt.Sprintf("%s in the %s in which %s was seen open, wanted %s", plural(n, "call"), seconds(length(spans)), node, a.WhileOpen)
	switch {
	case len(spans) == 0:
		x.verdict = Invalid
		x.text = fmt.Sprintf("%s was never seen open for longer than %s", node, seconds(w.settle()))
	case a.WhileOpen.Holds(float64(n)):
		x.verdict = Pass
	case !w.counted && (a.Probes.IsZero() || a.Probes.Holds(float64(most))):
		// Half-open and open again between two scrapes cannot be told from open throughout.
		x.verdict = Invalid
		x.text += ": without a counter of transitions they may have been probes"
	default:
		x.verdict = Fail
	}
	return x
}

// probes: calls that crossed the link in each half-open episode.
func (a *Breaker) probes(w *watch, node string, l *life) part {
	x := part{name: "probes"}
	all := l.episodes(w.start)
	whole := 0
	most := 0.0 // that one may have let through, where several lie between two scrapes
	for _, e := range all {
		n := float64(begunIn(l.calls, e.From, e.To))
		x.value = max(x.value, n/float64(e.episodes))
		most = max(most, n-float64(e.episodes-1))
		// What ended closed is known up to the last scrape that was half-open: the probes after it cannot be told from the calls that
		// followed, unless all of them together keep the bound.
		if !e.hidden && (e.by == 0 || a.Probes.Holds(float64(begunIn(l.calls, e.From, e.by))/float64(e.episodes))) {
			whole++
		}
	}
	switch {
	case len(all) == 0:
		x.verdict, x.text = Invalid, fmt.Sprintf("%s was not half-open once", node)
	case !a.Probes.Holds(x.value):
		x.verdict, x.text = Fail, fmt.Sprintf("%s let %s calls through in a half-open episode, wanted %s", node, number(x.value), a.Probes)
	case !a.Probes.Holds(most):
		x.verdict = Invalid
		x.text = fmt.Sprintf("%s let %s calls through in half-open episodes between two scrapes, perhaps as many in one, wanted %s", node, number(most), a.Probes)
	case whole == 0:
		x.verdict = Invalid
		x.text = fmt.Sprintf("%s closed after each time that it was half-open: its probes cannot be told from the calls that came after", node)
	default:
		x.verdict, x.text = Pass, fmt.Sprintf("%s let at most %s calls through in each of %s, wanted %s", node, number(x.value), plural(len(all), "half-open episode"), a.Probes)
	}
	return x
}

// closes: how soon after the fault was undone, for good.
func (a *Breaker) closes(w *watch, node string, l *life) part {
	x := part{name: "closes", verdict: Invalid}
	if _, away := l.away(w.start, w.end); !away {
		x.text = node + " never opened, so that nothing had to close"
		return x
	}
	if !w.healed {
		x.text = fmt.Sprintf("%s was not undone before the end of recovery", a.Fault)
		return x
	}
	when, ok := l.closedFrom()
	lo, hi := max(0, when.From-w.undone).Seconds(), max(0, when.To-w.undone).Seconds()
	if !ok {
		hi = unbounded
	}
	x.value = hi
	x.verdict = between(a.Closes, lo, hi)
	switch {
	case !ok:
		x.text = fmt.Sprintf("%s was still not closed %s after %s was undone, wanted %s", node, seconds(max(0, when.From-w.undone)), a.Fault, a.Closes)
		if x.verdict == Invalid {
			x.text += ": the recovery is too short to see"
		}
	default:
		x.text = fmt.Sprintf("%s closed for good %s to %s after %s was undone, wanted %s", node, seconds(max(0, when.From-w.undone)), seconds(max(0, when.To-w.undone)), a.Fault, a.Closes)
		switch {
		case l.dead(when.From, when.To) && x.verdict != Fail:
			x.verdict = Invalid
			x.text += ": its program ended then, and the next one began closed"
		case x.verdict == Invalid:
			x.text += ": the scrapes are too far apart to tell"
		}
	}
	return x
}

// staysClosed: no other state at any scrape, and no transition counted.
func (a *Breaker) staysClosed(w *watch, node string, l *life) part {
	x := part{name: "stays-closed", verdict: Pass}
	made := w.made(l)
	when, away := l.away(w.start, w.end)
	switch {
	case away:
		x.verdict = Fail
		x.text = fmt.Sprintf("%s opened between %s and %s after the start, and should not have", node, seconds(max(0, when.From-w.start)), seconds(when.To-w.start))
	case made == 0:
		x.verdict = Invalid
		x.text = fmt.Sprintf("%s made no call in %s that could have opened it", node, orAll(a.Fault))
	default:
		x.text = fmt.Sprintf("%s stayed closed for %s under %s", node, seconds(w.end-w.start), plural(begunIn(l.calls, w.start, w.end), "call"))
		if !w.counted {
			x.text += " as far as scrapes tell"
		}
	}
	return x
}

// transitions: how often it changed.
func (a *Breaker) transitions(w *watch, node string, l *life) part {
	x := part{name: "transitions"}
	seen, counted := l.moves(w.start)
	n := max(float64(seen), counted)
	x.value = n
	x.text = fmt.Sprintf("%s changed its state %s times, wanted %s", node, number(n), a.Transitions)
	hi := n
	if !w.counted && seen > 0 {
		hi = unbounded
		x.text = fmt.Sprintf("%s was seen to change its state %s times, wanted %s", node, number(n), a.Transitions)
	}
	x.verdict = between(a.Transitions, n, hi)
	switch {
	case x.verdict == Pass && n == 0 && w.made(l) == 0:
		x.verdict = Invalid
		x.text = fmt.Sprintf("%s made no call in %s that could have changed it", node, orAll(a.Fault))
	case x.verdict == Invalid:
		x.text += ": without a counter of transitions there may have been more"
	}
	return x
}

// rejects: the answers to requests that were due while the breakers were open. Where the load's connections tell which replica
// they went to, and that is the caller, each replica's own; else those that were due while all breakers were open.
func (a *Breaker) rejects(p *plan.Plan, r *record.Round, w *watch) ([]part, []Evidence) {
	bad := func(format string, v ...any) ([]part, []Evidence) {
		return []part{{name: "rejects", verdict: Invalid, text: fmt.Sprintf(format, v...)}}, nil
	}
	src, err := a.source(p)
	if err != nil {
		return bad("%v", err)
	}
	reqs, err := r.Requests(src.Load)
	if err != nil {
		return bad("%v", err)
	}
	spans := map[string][]Window{}
	var everywhere []Window
	for i, node := range slices.Sorted(maps.Keys(w.lives)) {
		// A request that is due just before it lets probes through may be one of them.
		spans[node] = w.lives[node].open(w.settle(), w.interval)
		if i == 0 {
			everywhere = spans[node]
		} else {
			everywhere = both(everywhere, spans[node])
		}
	}
	var ss, late []sample // late: sent when it was not open any more, and answered accordingly
	others := map[int]int{}
	for i := range reqs {
		q := &reqs[i]
		in, own := spans[q.Node]
		if !own {
			in = everywhere
		}
		open := func(t time.Duration) bool {
			return slices.ContainsFunc(in, func(s Window) bool { return t > s.From && t <= s.To })
		}
		if (src.Request != "" && q.Request != src.Request) || !open(q.Due) {
			continue
		}
		s := sampleOf(q)
		ss = append(ss, s)
		switch {
		case slices.Contains(a.Rejects.Status, q.Code):
		case open(s.due + s.lag):
			others[q.Code]++
		default:
			late = append(late, s)
		}
	}
	sum := summarise(ss, 0)
	ev := Evidence{What: src.String() + " due while the breakers were open", File: record.RequestFile(src.Load), Count: len(ss), Values: map[string]float64{}}
	var parts []part
	if len(a.Rejects.Status) > 0 {
		n := 0
		for code, k := range others {
			n += k
			ev.Values[fmt.Sprintf("status %d", code)] = float64(k)
		}
		x := part{name: "rejects.status", verdict: Pass, text: fmt.Sprintf("%s of %s due while open had another status than %v", plural(n, "answer"), plural(len(ss), "request"), a.Rejects.Status)}
		switch {
		case len(ss) < statusSamples:
			x.verdict = Invalid
			x.text = fmt.Sprintf("%s were due while the breakers were open, and it takes %d", plural(len(ss), "request"), statusSamples)
		case n > 0:
			x.verdict = Fail
		case len(late) > 0:
			x.verdict = Invalid
			x.text += fmt.Sprintf(", and %s that were sent when it was not open any more: %s", plural(len(late), "request"), lateness(late))
		}
		parts = append(parts, x)
	}
	for _, g := range a.Rejects.bounds().figures() {
		x := part{name: "rejects." + g.name, verdict: Fail}
		v, err := sum.figure(g)
		switch {
		case err != nil:
			x.verdict, x.text = Invalid, "of requests due while the breakers were open "+err.Error()
		default:
			ev.Values[g.name] = v
			x.text = fmt.Sprintf("%s %s of %s due while open, wanted %s", g.name, g.show(v), plural(len(ss), "request"), g.bound)
			if g.bound.Holds(v) {
				x.verdict = Pass
			} else if why := g.late(ss, 0); why != "" {
				x.verdict = Invalid
				x.text += ": " + why
			}
		}
		parts = append(parts, x)
	}
	return parts, []Evidence{ev}
}

// statusSamples is how many answers it takes to say something about their statuses.
const statusSamples = 10

// both returns where two lists of windows overlap.
func both(a, b []Window) []Window {
	var out []Window
	for _, x := range a {
		for _, y := range b {
			if w := (Window{max(x.From, y.From), min(x.To, y.To)}); w.From < w.To {
				out = append(out, w)
			}
		}
	}
	return out
}

// asksForDamage: what opens, or closes again, does so for a fault.
func (a *Breaker) asksForDamage() bool {
	return !a.Opens.IsZero() || a.Rejects != nil || !a.WhileOpen.IsZero() || !a.Probes.IsZero() || !a.Closes.IsZero()
}
