package assertions

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// ZeroDrop keeps a ledger of the requests around a fault: what each client knows, joined by the request's id with what the servers
// logged of it and with what was done to their nodes meanwhile.
//
// A request is served when the service answered, also with a plain no; safely refused when its client knows that no server began on
// it, when the answer says that it may be sent again (429 or 503 with Retry-After, UNAVAILABLE or RESOURCE_EXHAUSTED likewise), or
// when it was refused so before any server took it; lost when it was sent and there is no answer that its client could go by: reset,
// too late, or an error of the service. That no server took a request that was sent and reset does not save it: its client cannot know.
// That none took one is believed where the service that its connection went to logs requests, and its node was not killed meanwhile.
//
// It was duplicated when its effect was made twice: stored twice by the service's own words, or, of a request that is not the
// same done twice, done by two replicas of one service. An attempt that was aborted before another was done is not.
type ZeroDrop struct {
	Load       string       `json:"load" jsonschema:"required" desc:"The load whose requests are counted."`
	Request    string       `json:"request,omitempty" desc:"Only this one: the id of a request of the load. Left out: all."`
	During     string       `json:"during,omitempty" desc:"A fault or phase; requests in hand from its start to its end plus the load's timeout count. Left out: from the first fault to the end of the last."`
	Log        *LogPatterns `json:"log,omitempty" desc:"How the servers log requests. Left out: as hasvc does; where no server does so, the clients' word is all there is, which shows no duplicates."`
	Lost       plan.Bound   `json:"lost,omitzero" desc:"A bound on the requests that were lost, such as <= 0.1%. Default = 0."`
	Duplicated plan.Bound   `json:"duplicated,omitzero" desc:"Likewise on those whose effect was made twice. Default = 0; where it is written out, the servers must log."`
}

var none = plan.Bound{Op: "=", Unit: plan.Count}

// Validate returns every error.
func (a *ZeroDrop) Validate(s Scope) error {
	errs := []error{a.source().validate(s), duringNamed(a.During, s)}
	if a.Log != nil {
		_, err := a.Log.compile()
		errs = append(errs, err)
	}
	for _, b := range []struct {
		name  string
		bound plan.Bound
	}{{"lost", a.Lost}, {"duplicated", a.Duplicated}} {
		if !b.bound.IsZero() && b.bound.Unit != plan.Count && b.bound.Unit != plan.Ratio {
			errs = append(errs, fmt.Errorf("%s %q: write it as \"= 0\" or as a share such as \"<= 0.1%%\"", b.name, b.bound))
		}
	}
	// What is left out is not left unasked, so that whoever asks for one alone writes the other so that every value meets it. Duplicates
	// are asked for without fail only where that is written.
	if a.Lost.Always() && (a.Duplicated.IsZero() || a.Duplicated.Always()) {
		errs = append(errs, asks("lost", a.Lost))
	}
	return errors.Join(errs...)
}

func (a *ZeroDrop) source() Source { return Source{Load: a.Load, Request: a.Request} }

func (a *ZeroDrop) measures() measured { return measured{src: a.source()} }

// Judge balances the ledger.
func (a *ZeroDrop) Judge(ctx context.Context, p *plan.Plan, r *record.Round) Finding {
	i := slices.IndexFunc(p.Loads, func(l plan.Load) bool { return l.Name == a.Load })
	if i < 0 {
		return invalid("the plan has no load called %q", a.Load)
	}
	load := p.Loads[i]
	ws, err := a.windows(load.Timeout.D(), r)
	if err != nil {
		return invalid("%v", err)
	}
	reqs, err := inHandOf(a.source(), r, ws)
	if err != nil {
		return invalid("%v", err)
	}
	if len(reqs) == 0 {
		return invalid("no %s were in hand %s", a.source(), a.when())
	}
	logs, err := readLogs(ctx, r, a.Log)
	if err != nil {
		return invalid("%v", err)
	}
	b := balance{asked: a, load: load, reqs: reqs, logs: logs, logged: logs.tells(), windows: ws}
	b.entries = ledger(reqs, logs.byID, terms{b.logged, logs.tellsOf(r, load.To), repeatableIn(load), expectedIn(load)})
	b.signals = signals(r, ws)
	for i := range b.signals {
		b.signals[i].count(reqs, logs, r.Run().Meta.Nodes)
	}
	return b.finding(r)
}

func (a *ZeroDrop) when() string {
	if a.During != "" {
		return "in " + a.During
	}
	return "around the faults"
}

// windows are the fault's, or the phase's, each prolonged by the longest that a request may take.
func (a *ZeroDrop) windows(timeout time.Duration, r *record.Round) ([]Window, error) {
	all, err := loaded(r)
	if err != nil {
		return nil, err
	}
	var ws []Window
	if a.During != "" {
		if ws, err = during(a.During, r); err != nil {
			return nil, err
		}
	} else {
		var w Window
		begun := false
		for _, e := range r.Events {
			switch e.Kind {
			case record.FaultStarted:
				if !begun {
					begun, w.From = true, e.T
				}
				w.To = max(w.To, e.T)
			case record.FaultInEffect, record.FaultUndone, record.FaultGone:
				w.To = max(w.To, e.T)
			}
		}
		if !begun {
			w = all // nothing was broken: all the time under load
		}
		ws = []Window{w}
	}
	for i := range ws {
		ws[i].To = min(ws[i].To+timeout, all.To)
	}
	return union(ws), nil
}

// inHandOf are the requests that were due or under way in the windows, each once, in the order of their due times.
func inHandOf(s Source, r *record.Round, ws []Window) ([]*record.Request, error) {
	all, err := r.Requests(s.Load)
	if err != nil {
		return nil, err
	}
	var out []*record.Request
	for i := range all {
		q := &all[i]
		if s.Request != "" && q.Request != s.Request {
			continue
		}
		if slices.ContainsFunc(ws, func(w Window) bool { return q.Due < w.To && q.Done >= w.From }) {
			out = append(out, q)
		}
	}
	return out, nil
}

// balance is a ledger with what it takes to judge it.
type balance struct {
	asked   *ZeroDrop
	load    plan.Load
	reqs    []*record.Request
	logs    *serverLog
	logged  bool // the servers tell of requests
	windows []Window
	entries []entry
	signals []signal
}

// sum of a ledger.
type sum struct {
	fates                                                    map[fate]int
	twice, ambiguous, unlogged, contradict, named, withLines int
}

func (b *balance) sum() sum {
	s := sum{fates: map[fate]int{}}
	seen := map[string]bool{}
	for i := range b.entries {
		e := &b.entries[i]
		s.fates[e.fate]++
		if e.req.ID != "" && !seen[e.req.ID] {
			seen[e.req.ID] = true
			s.named++
		}
		for _, x := range []struct {
			n  *int
			is bool
		}{{&s.twice, e.twice != ""}, {&s.ambiguous, e.ambiguous != "" && e.twice == ""}, {&s.unlogged, e.unlogged}, {&s.contradict, e.contradict}, {&s.withLines, len(e.lines) > 0}} {
			if x.is {
				*x.n++
			}
		}
	}
	return s
}

func (b *balance) finding(r *record.Round) Finding {
	a, s, n := b.asked, b.sum(), len(b.entries)
	lostBound, twiceBound := a.Lost, a.Duplicated
	if lostBound.IsZero() {
		lostBound = none
	}
	if twiceBound.IsZero() {
		twiceBound = none
	}
	holds := func(bound plan.Bound, k int) bool {
		if bound.Unit == plan.Ratio {
			return bound.Holds(float64(k) / float64(n))
		}
		return bound.Holds(float64(k))
	}
	f := Finding{Evidence: b.evidence(s, r)}
	f.Summary = fmt.Sprintf("%d %s in hand %s: %d served, %d safely refused, %d lost", n, a.source(), a.when(), s.fates[served], s.fates[safelyRefused], s.fates[lost])
	switch {
	case b.tellsTwice():
		f.Summary += fmt.Sprintf(", %d duplicated; by their clients and the logs of %s", s.twice, list(b.telling()))
	case b.logged:
		f.Summary += fmt.Sprintf("; by their clients and the logs of %s, which do not say when a request was done, so that duplicates cannot be seen", list(b.telling()))
	default:
		f.Summary += "; by their clients alone: no server logs requests, so that duplicates cannot be seen"
	}
	broken := b.broken(r, s)
	switch {
	case len(broken) > 0:
		f.Reason = strings.Join(broken, "; ")
	case b.logged && !holds(twiceBound, s.twice):
		// Nothing about the generator, the machine or the fault makes a service do a thing twice.
		f.Verdict, f.proven = Fail, true
	case !holds(lostBound, s.fates[lost]):
		f.Verdict = Fail
	default:
		if why := b.undecided(s); len(why) > 0 {
			f.Reason = strings.Join(why, "; ")
		} else {
			f.Verdict = Pass
		}
	}
	return f
}

// tellsTwice reports whether a request that was done twice would show.
func (b *balance) tellsTwice() bool { return b.logged && b.logs.said[done]+b.logs.said[stored] > 0 }

// telling are the services whose logs tell of requests.
func (b *balance) telling() []string {
	var out []string
	for svc := range b.logs.services {
		out = append(out, svc)
	}
	slices.Sort(out)
	return out
}

// broken is why the ledger means nothing, whatever it says.
func (b *balance) broken(r *record.Round, s sum) []string {
	why := b.logs.clocks(r, b.reqs)
	if b.asked.Log != nil && !b.logged {
		why = append(why, fmt.Sprintf("the patterns of log match none of the %s of %s", plural(b.logs.lines, "line"), list(b.logs.nodes)))
	}
	if !b.logged {
		return why
	}
	if b.asked.Log != nil {
		for _, x := range b.asked.Log.patterns() {
			// In a good run nothing is aborted.
			if x.text != "" && x.what != aborted && b.logs.said[x.what] == 0 {
				why = append(why, fmt.Sprintf("the pattern of log for %s matches none of the %s of %s that the patterns before it (stored, accepted, done, aborted) leave", x.what, plural(b.logs.lines, "line"), list(b.logs.nodes)))
			}
		}
	}
	switch {
	case s.named < len(b.entries):
		why = append(why, fmt.Sprintf("%s in hand, and %d different ids: they cannot be told apart in logs", plural(len(b.entries), "request"), s.named))
	case s.withLines == 0:
		why = append(why, "the servers log requests, and none with the id of one of these: does the service take X-Request-ID and log it?")
	}
	if s.contradict > 0 {
		why = append(why, fmt.Sprintf("by the word of its client no server began on %s, and servers logged that they took them: the ids are not those of the load alone, or a server turns away what it has begun on", plural(s.contradict, "request")))
	}
	return why
}

// undecided is why a ledger against which nothing was found shows nothing all the same.
func (b *balance) undecided(s sum) []string {
	var why []string
	if s.fates[unsent] > 0 {
		why = append(why, fmt.Sprintf("%s were never sent", plural(s.fates[unsent], "request")))
	}
	switch {
	case b.asked.Duplicated.IsZero():
	case !b.logged:
		why = append(why, "no server logs requests, and without that no duplicate can be seen")
	case !b.tellsTwice():
		why = append(why, "no server logs when a request was done or stored, and without that no duplicate can be seen")
	}
	if s.ambiguous > 0 {
		why = append(why, fmt.Sprintf("%s may have been done twice", plural(s.ambiguous, "request")))
	}
	if s.unlogged > 0 {
		why = append(why, fmt.Sprintf("%s were served and no server logged that it took them: the logs are not whole", plural(s.unlogged, "request")))
	}
	then, sent := 0, 0
	for i := range b.signals {
		x := &b.signals[i]
		if x.node != "" { // a fault that comes into effect has no one moment that matters
			sent, then = sent+1, then+x.then
		}
		if x.until == 0 {
			why = append(why, fmt.Sprintf("%s had no request in hand when %s at %s: that it dropped none shows nothing", x.node, x.what, seconds(x.at.From)))
		}
	}
	if sent > 0 && then == 0 && len(why) == 0 {
		why = append(why, fmt.Sprintf("at none of %s, such as when %s at %s, was a request in hand: those that came after it were told", plural(sent, "moment"), b.signals[0].what, seconds(b.signals[0].at.From)))
	}
	return why
}

// maxStories bounds the requests whose story is told, of each kind.
const maxStories = 5

func (b *balance) evidence(s sum, r *record.Round) []Evidence {
	a := b.asked
	var ev []Evidence
	for i := range b.windows {
		ev = append(ev, Evidence{What: fmt.Sprintf("%s in hand %s", a.source(), a.when()), File: record.RequestFile(a.Load), Window: &b.windows[i], Count: len(b.entries), Values: map[string]float64{
			"served": float64(s.fates[served]), "safely refused": float64(s.fates[safelyRefused]), "lost": float64(s.fates[lost]),
			"never sent": float64(s.fates[unsent]), "duplicated": float64(s.twice), "perhaps duplicated": float64(s.ambiguous),
		}})
		if len(b.windows) > 1 {
			ev[i].What += fmt.Sprintf(", window %d of %d; count and values are of all", i+1, len(b.windows))
		}
	}
	lines := Evidence{What: "lines of the logs that tell of requests", File: "logs", Count: b.logs.said[accepted] + b.logs.said[done] + b.logs.said[aborted] + b.logs.said[stored], Nodes: b.logs.nodes, Values: map[string]float64{
		"accepted": float64(b.logs.said[accepted]), "done": float64(b.logs.said[done]), "aborted": float64(b.logs.said[aborted]), "stored": float64(b.logs.said[stored]),
		"requests joined": float64(s.withLines), "served and not logged": float64(s.unlogged),
	}}
	ev = append(ev, lines)
	for i := range b.signals {
		x := &b.signals[i]
		if i >= maxDetails {
			break
		}
		e := Evidence{What: "requests in hand when " + x.what, File: record.EventsFile(), Window: &x.at, Count: x.until, Values: map[string]float64{"at that moment": float64(x.then)}}
		if x.node != "" {
			e.Nodes = []string{x.node}
		}
		ev = append(ev, e)
	}
	tell := func(what string, is func(*entry) bool) {
		told := 0
		for i := range b.entries {
			if e := &b.entries[i]; is(e) && told < maxStories {
				told++
				ev = append(ev, Evidence{What: what, File: record.RequestFile(a.Load), Detail: b.story(e, r)})
			}
		}
	}
	tell("a request that was lost", func(e *entry) bool { return e.fate == lost })
	tell("a request that was duplicated", func(e *entry) bool { return e.twice != "" })
	tell("a request that may have been duplicated", func(e *entry) bool { return e.twice == "" && e.ambiguous != "" })
	tell("a request that no server logged", func(e *entry) bool { return e.unlogged })
	tell("a request that was not begun on and was taken", func(e *entry) bool { return e.contradict })
	return ev
}

// maxLines bounds the lines of a story.
const maxLines = 12

// story is what is known of one request: what its client saw, what the servers logged, and what happened to the nodes it touched.
func (b *balance) story(e *entry, r *record.Round) string {
	q := e.req
	to := ""
	if q.Node != "" {
		to = " to " + q.Node
	}
	s := []string{fmt.Sprintf("%s %s: sent at %s%s, %s at %s", strings.TrimSpace(q.Request+" "+q.ID), e.fate, seconds(q.Sent), to, e.why, seconds(q.Done))}
	if q.Error != "" {
		s[0] += " (" + q.Error + ")"
	}
	if e.twice != "" {
		s = append(s, e.twice)
	} else if e.ambiguous != "" {
		s = append(s, e.ambiguous)
	}
	nodes := nonEmpty(q.Node)
	for _, l := range e.lines {
		if !slices.Contains(nodes, l.node) {
			nodes = append(nodes, l.node)
		}
	}
	s = append(s, b.around(q, nodes, r)...)
	for i, l := range e.lines {
		if i == maxLines {
			s = append(s, fmt.Sprintf("and %s more", plural(len(e.lines)-i, "line")))
			break
		}
		at := ""
		if l.timed {
			at = " at " + seconds(l.at)
		}
		what := string(l.what)
		if what == "" {
			what = "says more"
		}
		s = append(s, fmt.Sprintf("%s %s%s [%s]", l.node, what, at, l.where()))
	}
	if len(e.lines) == 0 && b.logged {
		s = append(s, "no server logged it")
	}
	return strings.Join(s, "; ")
}

// aside is how long before and after a request what happened to its nodes belongs to its story.
const aside = time.Second

// around is what happened to the nodes of a request while it was in hand, or shortly before or after: signals, ends, readiness, and
// what they said of themselves, which is where hasvc tells that it drains and leaves the registry.
func (b *balance) around(q *record.Request, nodes []string, r *record.Round) []string {
	type moment struct {
		at   time.Duration
		text string
	}
	var ms []moment
	near := func(t time.Duration) bool { return t >= q.Sent-aside && t <= q.Done+aside }
	for _, e := range r.Events {
		if !near(e.T) || !slices.Contains(nodes, e.Node) {
			continue
		}
		switch e.Kind {
		case record.NodeSignalled:
			ms = append(ms, moment{e.T, e.Node + " was sent " + e.Signal})
		case record.NodeExited:
			ms = append(ms, moment{e.T, e.Node + " ended"})
		case record.NodeStarted:
			ms = append(ms, moment{e.T, e.Node + " started"})
		case record.NodePaused:
			ms = append(ms, moment{e.T, e.Node + " was paused"})
		case record.NodeResumed:
			ms = append(ms, moment{e.T, e.Node + " went on"})
		}
	}
	// An error says that readiness was not recorded; the premise "record" says so.
	changes, _ := r.Readiness()
	for _, c := range changes {
		if near(c.T) && slices.Contains(nodes, c.Node) {
			ms = append(ms, moment{c.T, c.Node + map[bool]string{true: " was seen ready", false: " was seen not ready"}[c.Ready]})
		}
	}
	for _, n := range nodes {
		said := 0
		for _, l := range b.logs.own[n] {
			if near(l.at) && said < 3 {
				said++
				ms = append(ms, moment{l.at, fmt.Sprintf("%s said %q", n, l.says())})
			}
		}
	}
	slices.SortStableFunc(ms, func(a, b moment) int { return int(a.at - b.at) })
	var out []string
	for _, m := range ms {
		out = append(out, m.text+" at "+seconds(m.at))
	}
	return out
}
