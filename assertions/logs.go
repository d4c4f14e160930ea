package assertions

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// Logs follows requests through the logs of the services on their way, as a person with one id in hand does.
//
// A request is followed when every hop logged that it took or had done it, under the request's id, and every line with that id, of whatever
// hop, goroutine and attempt, has one and the same trace id, which no other request has. Only requests that were answered as
// expected count: of the others nobody can say how far they had to come.
type Logs struct {
	Load    string       `json:"load" jsonschema:"required" desc:"The load whose requests are followed."`
	Request string       `json:"request,omitempty" desc:"Only this one: the id of a request of the load that goes through all of the hops. Left out: all."`
	Hops    []string     `json:"hops" jsonschema:"required" desc:"The services on the way, from the edge on."`
	During  string       `json:"during,omitempty" desc:"baseline, fault, recovery, or the id of a fault. Left out: all the time under load."`
	Share   plan.Bound   `json:"share,omitzero" desc:"A bound on the share of requests that can be followed. Default = 100%."`
	Log     *LogPatterns `json:"log,omitempty" desc:"How the services log requests, with a group called trace. Left out: as hasvc does."`
}

// Validate returns every error.
func (a *Logs) Validate(s Scope) error {
	errs := []error{a.source().validate(s), duringNamed(a.During, s)}
	if len(a.Hops) == 0 {
		errs = append(errs, errors.New("hops is missing: the services on the way, such as [edge, gateway, orders]"))
	}
	for _, h := range a.Hops {
		errs = append(errs, oneOf("service", h, s.Services))
	}
	if !a.Share.IsZero() && a.Share.Unit != plan.Ratio {
		errs = append(errs, fmt.Errorf("share %q: write it as \"= 100%%\" or \">= 99%%\"", a.Share))
	}
	errs = append(errs, asks("share", a.Share))
	if a.Log != nil {
		_, err := a.Log.compile()
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (a *Logs) source() Source { return Source{Load: a.Load, Request: a.Request} }

func (a *Logs) measures() measured {
	return measured{src: a.source(), baselineOnly: a.During == plan.PhaseBaseline}
}

// share is the bound as a figure, whose needs of samples are those of a success.
func (a *Logs) share() figure {
	b := a.Share
	if b.IsZero() {
		b = plan.Bound{Op: "=", Value: 1, Unit: plan.Ratio}
	}
	return figure{name: "success", bound: b}
}

// Judge follows.
func (a *Logs) Judge(ctx context.Context, _ *plan.Plan, r *record.Round) Finding {
	ws, err := during(a.During, r)
	if err != nil {
		return invalid("%v", err)
	}
	reqs, err := a.answered(r, ws)
	if err != nil {
		return invalid("%v", err)
	}
	logs, err := readLogs(ctx, r, a.Log)
	if err != nil {
		return invalid("%v", err)
	}
	users := map[string]int{} // trace id -> requests that have it
	for _, ls := range logs.byID {
		for _, t := range traces(ls) {
			users[t]++
		}
	}
	joined, followed := 0, 0
	seen := map[string]int{} // hop -> requests that it logged
	f := Finding{}
	for _, q := range reqs {
		ls := logs.byID[q.ID] // none has the empty id
		if len(ls) > 0 {
			joined++
		}
		for _, h := range a.Hops {
			if passed(ls, h) {
				seen[h]++
			}
		}
		why := a.astray(ls, users)
		if why == "" {
			followed++
		} else if len(f.Evidence) < maxStories {
			f.Evidence = append(f.Evidence, Evidence{What: "a request that cannot be followed", File: "logs", Detail: fmt.Sprintf("%s, sent at %s: %s", strings.TrimSpace(q.Request+" "+q.ID), seconds(q.Sent), why)})
		}
	}
	when := a.During
	if when == "" {
		when = "all phases under load"
	}
	values := map[string]float64{"followed": float64(followed), "requests with lines": float64(joined)}
	for _, h := range a.Hops {
		values["logged by "+h] = float64(seen[h])
	}
	head := []Evidence{{What: fmt.Sprintf("%s answered in %s", a.source(), when), File: record.RequestFile(a.Load), Window: &Window{ws[0].From, ws[len(ws)-1].To}, Count: len(reqs), Values: values},
		{What: "lines of the logs", File: "logs", Count: logs.lines, Nodes: logs.nodes}}
	f.Evidence = append(head, f.Evidence...)
	g := a.share()
	n := len(reqs)
	share := float64(followed) / float64(max(1, n))
	switch why := logs.clocks(r, reqs); {
	case n < g.need():
		f.Reason = fmt.Sprintf("%s of %s were answered in %s, and it takes %d to judge a share", plural(n, "request"), a.Load, when, g.need())
	case joined == 0:
		f.Reason = fmt.Sprintf("none of the %s of %s has the id of one of %s", plural(logs.lines, "line"), list(logs.nodes), plural(n, "request"))
	case len(why) > 0:
		f.Reason = strings.Join(why, "; ")
	case g.bound.Holds(share):
		f.Verdict = Pass
	default:
		f.Verdict = Fail
	}
	f.Summary = fmt.Sprintf("%s of %d %s can be followed through %s by one trace id", percent(share), n, a.source(), strings.Join(a.Hops, ", "))
	if !a.Share.IsZero() {
		f.Summary += ", wanted " + a.Share.String()
	}
	return f
}

// answered are the requests that count, each once.
func (a *Logs) answered(r *record.Round, ws []Window) ([]*record.Request, error) {
	all, err := r.Requests(a.Load)
	if err != nil {
		return nil, err
	}
	var out []*record.Request
	for i := range all {
		q := &all[i]
		if q.OK && (a.Request == "" || q.Request == a.Request) && slices.ContainsFunc(ws, func(w Window) bool { return q.Due >= w.From && q.Due < w.To }) {
			out = append(out, q)
		}
	}
	return out, nil
}

// passed reports whether a hop logged that it took or had done a request.
func passed(ls []*logLine, hop string) bool {
	return slices.ContainsFunc(ls, func(l *logLine) bool { return l.service == hop && (l.what == accepted || l.what == done) })
}

// traces are the different trace ids of lines, without the empty one.
func traces(ls []*logLine) []string {
	var ts []string
	for _, l := range ls {
		if l.trace != "" && !slices.Contains(ts, l.trace) {
			ts = append(ts, l.trace)
		}
	}
	return ts
}

// astray is why a request cannot be followed; empty when it can.
func (a *Logs) astray(ls []*logLine, users map[string]int) string {
	if len(ls) == 0 {
		return "no line has its id"
	}
	var missing []string
	for _, h := range a.Hops {
		if !passed(ls, h) {
			missing = append(missing, h)
		}
	}
	if len(missing) > 0 {
		return "not logged by " + list(missing)
	}
	for _, l := range ls {
		if l.trace == "" {
			return l.where() + " has no trace id"
		}
	}
	switch ts := traces(ls); {
	case len(ts) > 1:
		return "its lines have different trace ids: " + list(ts)
	case users[ts[0]] > 1:
		return fmt.Sprintf("%s have the trace id %s", plural(users[ts[0]], "request"), ts[0])
	}
	return ""
}
