package assertions

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// breakerState is what a scrape said.
type breakerState int

const (
	closed breakerState = iota
	halfOpen
	opened
)

func (s breakerState) String() string { return [...]string{"closed", "half-open", "open"}[s] }

// stateAt is the state of a breaker at a scrape, and how many transitions had been counted by then.
type stateAt struct {
	at    time.Duration
	state breakerState
	moves float64
}

// life is what is known of one breaker: its state at each scrape of a round, and the calls of its node.
type life struct {
	states []stateAt // at least one
	calls  []record.Call
	died   []time.Duration // when its node's program ended: what began after is another breaker, which is closed
	step   time.Duration   // two scrapes further apart than this say nothing about the time between
}

// watch is what is known of the breakers of a round.
type watch struct {
	base     Window
	faults   []Window      // its occurrences, the first from when it was in effect
	start    time.Duration // the fault is in effect
	faultEnd time.Duration // of its first occurrence
	undone   time.Duration // of its last one
	healed   bool          // it was undone
	end      time.Duration // of recovery
	interval time.Duration // of scrapes
	asked    time.Duration // settle, as the scenario says
	counted  bool          // there is a counter of transitions
	calls    []record.Call // of all nodes
	lives    map[string]*life
	idle     []string // nodes that made no calls
}

// watch reads what the record knows of the breakers.
func (a *Breaker) watch(r *record.Round) (*watch, error) {
	w := &watch{asked: a.Settle.D(), lives: map[string]*life{}}
	if err := w.times(a.Fault, r); err != nil {
		return nil, err
	}
	run := r.Run()
	if run.Metrics == nil {
		return nil, fmt.Errorf("the run has no metrics, which tell the state of a breaker")
	}
	w.interval = run.Metrics.Interval()
	if w.faultEnd-w.start < 4*w.interval {
		return nil, fmt.Errorf("the %s of %s are shorter than four scrapes, one each %s", seconds(w.faultEnd-w.start), orAll(a.Fault), seconds(w.interval))
	}
	names, err := run.Metrics.Names()
	if err != nil {
		return nil, fmt.Errorf("reading the names of metrics: %w", err)
	}
	m := a.names()
	if !slices.Contains(names, m.State) {
		return nil, fmt.Errorf("no metric %s was scraped, which tells the state of a breaker; there are %d others", m.State, len(names))
	}
	if w.calls, err = onLink(r, plan.LinkEnds{From: a.In, To: a.Of}, a.Method); err != nil {
		return nil, err
	}
	if begunIn(w.calls, w.base.From, w.base.To) == 0 {
		return nil, fmt.Errorf("no call from %s to %s crossed the link in the baseline", a.In, a.Of)
	}
	callers := nodesOf(run, a.In)
	if err := gaps(run, callers, w.base.From, w.end); err != nil {
		return nil, err
	}
	selector := fmt.Sprintf("{%s=%q}", m.Label, m.Value)
	states, err := scrapes(run, m.State+selector, w.base.From, w.end)
	if err != nil {
		return nil, err
	}
	moves := map[string]map[string][]scrape{}
	w.counted = m.Transitions != "" && slices.Contains(names, m.Transitions)
	if !w.counted && a.Metrics.Transitions != "" {
		return nil, fmt.Errorf("no metric %s was scraped, which counts the transitions of a breaker; there are %d others", m.Transitions, len(names))
	}
	if w.counted {
		all, err := run.Metrics.Range(m.Transitions, w.base.From, w.end, w.interval)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", m.Transitions, err)
		}
		if len(all) > 0 && !slices.ContainsFunc(all, func(s record.Series) bool { return s.Labels[m.Label] != "" }) {
			return nil, fmt.Errorf("%s has no label %s, by which its breakers are told apart", m.Transitions, m.Label)
		}
		if moves, err = scraped(run, m.Transitions+selector, w.base.From, w.end); err != nil {
			return nil, err
		}
	}
	byNode := map[string][]record.Call{}
	for _, c := range w.calls {
		byNode[c.From] = append(byNode[c.From], c)
	}
	for _, n := range run.Meta.Nodes {
		if callers(n.Name) && len(byNode[n.Name]) == 0 {
			w.idle = append(w.idle, n.Name)
		}
	}
	for _, node := range slices.Sorted(maps.Keys(byNode)) {
		l := &life{calls: byNode[node], step: time.Duration(record.LongestStep * float64(w.interval))}
		for _, s := range states[node] {
			at := stateAt{at: s.at, state: halfOpen}
			switch s.value {
			case *m.Open:
				at.state = opened
			case *m.Closed:
				at.state = closed
			}
			l.states = append(l.states, at)
		}
		for _, e := range r.Events {
			if e.Kind == record.NodeExited && e.Node == node {
				l.died = append(l.died, e.T)
			}
		}
		l.count(moves[node])
		if err := l.watched(node, m.State+selector, w); err != nil {
			return nil, err
		}
		w.lives[node] = l
	}
	return w, nil
}

func orAll(fault string) string {
	if fault == "" {
		return "the time under load"
	}
	return fault
}

// times are the moments that a breaker's are compared with.
func (w *watch) times(fault string, r *record.Round) error {
	var err error
	if w.base, err = phase(r, plan.PhaseBaseline); err != nil {
		return err
	}
	all, err := loaded(r)
	if err != nil {
		return err
	}
	w.start, w.faultEnd, w.end = all.From, all.To, all.To
	ws, err := during(fault, r)
	if err != nil {
		return err
	}
	w.start, w.faultEnd = ws[0].From, ws[0].To
	if at, ok := r.Moment(plan.EventRef{Fault: fault, Event: plan.InEffect}); ok {
		w.start = at
	}
	last := ws[len(ws)-1]
	w.undone, w.healed = last.To, last.To < w.end
	w.faults = slices.Clone(ws)
	w.faults[0].From = w.start
	return nil
}

// made is how many of a breaker's calls began while the fault held.
func (w *watch) made(l *life) (n int) {
	for _, f := range w.faults {
		n += begunIn(l.calls, f.From, f.To)
	}
	return n
}

// dead reports whether the program ended in (from, to].
func (l *life) dead(from, to time.Duration) bool {
	return slices.ContainsFunc(l.died, func(t time.Duration) bool { return t > from && t <= to })
}

// count adds what counters say to the states. Each of them, one for each kind of change, begins with the first change of its kind, and
// anew when the program does: their sum would fall then and rise again, with every kind that comes back.
func (l *life) count(moves map[string][]scrape) {
	for _, own := range moves {
		sum, last, k := 0.0, scrape{}, 0
		for i := range l.states {
			for ; k < len(own) && own[k].at <= l.states[i].at; k++ {
				if own[k].value < last.value || l.dead(last.at, own[k].at) {
					last.value = 0
				}
				sum += own[k].value - last.value
				last = own[k]
			}
			l.states[i].moves += sum
		}
	}
}

// watched is that the state was scraped without a gap from the baseline to the end of recovery, but for when the program was down.
func (l *life) watched(node, selector string, w *watch) error {
	if len(l.states) == 0 {
		return fmt.Errorf("%s makes calls and has no %s", node, selector)
	}
	at := []time.Duration{w.base.From}
	for _, s := range l.states {
		at = append(at, s.at)
	}
	at = append(at, w.end)
	for i := 1; i < len(at); i++ {
		if at[i]-at[i-1] <= l.step {
			continue
		}
		if !l.dead(at[i-1], at[i]) {
			return fmt.Errorf("%s of %s was not scraped from %s to %s", selector, node, seconds(at[i-1]), seconds(at[i]))
		}
	}
	return nil
}

// away returns the interval between two scrapes in which the breaker left the state closed first, of those that end in (from, to].
func (l *life) away(from, to time.Duration) (Window, bool) {
	for i, s := range l.states {
		if s.at <= from || s.at > to {
			continue
		}
		before := from
		if i > 0 {
			before = l.states[i-1].at
		}
		if s.state != closed || (i > 0 && s.moves > l.states[i-1].moves) {
			return Window{before, s.at}, true
		}
	}
	return Window{}, false
}

// closedFrom returns the interval in which the breaker closed for good, or false with the last scrape when it did not.
func (l *life) closedFrom() (Window, bool) {
	for i := len(l.states) - 1; i >= 0; i-- {
		s := l.states[i]
		switch {
		case s.state != closed && i == len(l.states)-1:
			return Window{s.at, s.at}, false
		case s.state != closed:
			return Window{s.at, l.states[i+1].at}, true
		case i > 0 && s.moves > l.states[i-1].moves:
			return Window{l.states[i-1].at, s.at}, true
		}
	}
	return Window{}, true // it was never anything else
}

// nextAfter is the first scrape at t or later, or t.
func (l *life) nextAfter(t time.Duration) time.Duration {
	for _, s := range l.states {
		if s.at >= t {
			return s.at
		}
	}
	return t
}

// lastBy is the last scrape at t or earlier, or t.
func (l *life) lastBy(t time.Duration) time.Duration {
	out := t
	for _, s := range l.states {
		if s.at <= t {
			out = s.at
		}
	}
	return out
}

// moves counts the changes of state since a moment: seen at scrapes, and by the counter. A program that begins anew is no change.
func (l *life) moves(from time.Duration) (seen int, counted float64) {
	for i := 1; i < len(l.states); i++ {
		if l.states[i].at <= from {
			continue
		}
		if l.states[i].state != l.states[i-1].state && !l.dead(l.states[i-1].at, l.states[i].at) {
			seen++
		}
		counted += l.states[i].moves - l.states[i-1].moves
	}
	return seen, counted
}

// open returns when the breaker was open throughout: between scrapes that both say so, without a transition between them. Of each
// stretch the first part (settle) and the last (trim) are left out.
func (l *life) open(settle, trim time.Duration) []Window {
	var out []Window
	for i := 1; i < len(l.states); i++ {
		a, b := l.states[i-1], l.states[i]
		if a.state != opened || b.state != opened || a.moves != b.moves || b.at-a.at > l.step {
			continue
		}
		if n := len(out); n > 0 && out[n-1].To == a.at {
			out[n-1].To = b.at
		} else {
			out = append(out, Window{a.at, b.at})
		}
	}
	for i := range out {
		out[i].From += settle
		out[i].To -= trim
	}
	return slices.DeleteFunc(out, func(w Window) bool { return w.To <= w.From })
}

// episode is a stretch in which calls are probes.
type episode struct {
	Window
	episodes int           // half-open episodes in it
	hidden   bool          // its probes cannot be told from the calls that followed when it closed
	by       time.Duration // where it ended closed: when that was seen, up to which there may have been more probes
}

// episodes returns the half-open episodes since a moment. One that ended open again is known from scrape to scrape, since no other
// call crosses then. One that ended closed is known up to the last scrape that was half-open.
func (l *life) episodes(from time.Duration) []episode {
	var out []episode
	for i := 0; i < len(l.states); i++ {
		if l.states[i].state != opened {
			continue
		}
		j, by := i+1, time.Duration(0)
		for j < len(l.states) && l.states[j].state == halfOpen {
			j++
		}
		if j == len(l.states) {
			if j-1 == i {
				continue
			}
			j--
		} else if l.states[j].state == closed {
			by = l.states[j].at
			j--
		}
		if l.states[j].at <= from {
			continue
		}
		moved := int(l.states[j].moves - l.states[i].moves)
		e := episode{Window{l.states[i].at, l.states[j].at}, max(1, (moved+1)/2), false, by}
		switch {
		case j == i:
			e.hidden = true // open at one scrape and closed at the next
		case l.states[j].state == opened && j == i+1 && moved == 0:
			continue // open throughout
		case l.states[j].state == opened && moved%2 == 1:
			e.hidden, e.To = true, e.From // closed in between, unseen
		}
		out = append(out, e)
	}
	return out
}

// evidence shows what is known of one breaker.
func (l *life) evidence(w *watch, node string, parts []part) Evidence {
	e := Evidence{What: "state of the breaker at each scrape", File: "metrics", Window: &Window{w.base.From, w.end}, Count: len(l.states), Nodes: []string{node}, Values: map[string]float64{}}
	for _, p := range parts {
		if p.value != unbounded {
			e.Values[p.name] = p.value
		}
	}
	e.Values["calls"] = float64(begunIn(l.calls, w.base.From, w.end))
	e.Values["open, seconds"] = length(l.open(0, 0)).Seconds()
	seen, counted := l.moves(w.start)
	e.Values["changes seen"] = float64(seen)
	if w.counted {
		e.Values["transitions"] = counted
	}
	var told []string
	for i, s := range l.states {
		if i == 0 || s.state != l.states[i-1].state {
			told = append(told, fmt.Sprintf("%s at %s", s.state, seconds(s.at)))
		}
	}
	if more := len(told) - 2*maxDetails; more > 0 {
		told = append(told[:2*maxDetails], fmt.Sprintf("%d more", more))
	}
	e.Detail = strings.Join(told, ", ")
	return e
}

// settle is how long calls that were sent before may still cross the link.
func (w *watch) settle() time.Duration { return max(w.asked, w.interval) }

// afterHeal takes the time just after the fault was undone, each time, out of windows: what the fault held back crosses then.
func (w *watch) afterHeal(ws []Window) []Window {
	var kept []Window
	from := time.Duration(0)
	for _, f := range w.faults {
		kept = append(kept, Window{from, f.To})
		from = f.To + w.settle()
	}
	return both(ws, append(kept, Window{from, max(from, w.end)}))
}
