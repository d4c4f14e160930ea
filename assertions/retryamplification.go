package assertions

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sort"
	"strings"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// RetryAmplification bounds the calls that cross a link for each request of a load: what retries, of all hops before it together,
// multiply the load by.
//
// A request keeps its id on its way, so that the calls of one request are known, whenever they cross. Only requests that
// reached the link are counted. Where no call carries an id the requests sent are set against the calls of the same time, and
// only a bound relative to the baseline has a meaning.
type RetryAmplification struct {
	Load     string     `json:"load" jsonschema:"required" desc:"Whose requests."`
	From     string     `json:"from" jsonschema:"required" desc:"The near end of the link: a service, a group or a node."`
	To       string     `json:"to" jsonschema:"required" desc:"Its far end."`
	Method   string     `json:"method,omitempty" desc:"Only calls whose path (of gRPC /package.Service/Method) matches this regular expression. Health checks never count."`
	Attempts plan.Bound `json:"attempts" jsonschema:"required" desc:"Calls on the link for each request that reached it, such as <= 1.2, or <= 1.2x baseline."`
	During   string     `json:"during,omitempty" desc:"baseline, fault, recovery, or the id of a fault: requests due then. Left out: all the time under load."`
}

// amplifiable is how many requests it takes to say how often they were repeated.
const amplifiable = 10

// lessCalls is the share of the baseline's calls for each request below which requests did not reach the link, where they have no ids: chance
// makes less of a difference.
const lessCalls = 0.9

// unknownCallers is the share of calls without an id, of those that begin in what is judged, beyond which nobody can say whose they are.
const unknownCallers = 0.01

// Observes is the link on which calls are counted.
func (a *RetryAmplification) Observes() []plan.LinkEnds {
	return []plan.LinkEnds{{From: a.From, To: a.To}}
}

func (a *RetryAmplification) measures() measured {
	return measured{src: Source{Load: a.Load}, baselineOnly: a.During == plan.PhaseBaseline}
}

// Validate returns every error.
func (a *RetryAmplification) Validate(s Scope) error {
	return errors.Join(loadNamed(a.Load, s), endNamed("from", a.From, s), endNamed("to", a.To, s), pathNamed(a.Method), a.shape(), duringNamed(a.During, s))
}

func (a *RetryAmplification) shape() error {
	switch b := a.Attempts; {
	case b.IsZero():
		return errors.New("attempts is missing: calls for each request, such as <= 1.2")
	case (b.Unit != plan.Count && b.Unit != plan.Times) || b.Op == "=":
		return fmt.Errorf(`attempts %q: write it as "<= 1.2" or "<= 1.2x baseline"`, b)
	case b.Unit == plan.Times && a.During == plan.PhaseBaseline:
		return errors.New("attempts: a bound relative to the baseline means nothing in the baseline")
	}
	return asks("attempts", a.Attempts)
}

// attempts are the calls that requests led to.
type attempts struct {
	requests  int // that reached the link, or that were sent where calls have no ids
	calls     int
	foreign   int // calls with the id of no request of the load that was due then
	begun     int // calls that began then, whoever made them
	anonymous int // of these, without an id
	byID      bool
	worst     stretch
}

// stretch is the second in which most calls crossed for each request.
type stretch struct {
	Window
	calls, requests int
}

func (x attempts) ratio() float64 { return float64(x.calls) / float64(x.requests) }

// known is that the calls can be set against requests, as far as their ids go.
func (x attempts) known() error {
	if x.byID && float64(x.anonymous) > unknownCallers*float64(x.begun) {
		return fmt.Errorf("%d of %s carry no request id: nobody can say whose they are", x.anonymous, plural(x.begun, "call"))
	}
	return nil
}

// count sets the calls on a link against the requests due in windows.
func count(calls []record.Call, reqs []record.Request, ws []Window) attempts {
	var x attempts
	for i := range calls {
		named := calls[i].RequestID != ""
		x.byID = x.byID || named
		if within(ws, calls[i].Begin) {
			x.begun++
			if !named {
				x.anonymous++
			}
		}
	}
	if !x.byID {
		for i := range reqs {
			if within(ws, reqs[i].Due) {
				x.requests++
			}
		}
		x.calls = x.begun
		return x
	}
	due := map[string]bool{}
	for i := range reqs {
		if within(ws, reqs[i].Due) {
			due[reqs[i].ID] = true
		}
	}
	reached := map[string]bool{}
	var mine []record.Call
	for _, c := range calls {
		switch {
		case due[c.RequestID]:
			reached[c.RequestID] = true
			mine = append(mine, c)
		case within(ws, c.Begin):
			x.foreign++
		}
	}
	x.calls, x.requests = len(mine), len(reached)
	x.worst = worstSecond(mine)
	return x
}

// worstSecond finds the second, of those that begin with a call, in which most calls crossed for each request. A second with few
// requests says little.
func worstSecond(calls []record.Call) stretch {
	var worst stretch
	ids := map[string]int{}
	end := 0
	for i := range calls {
		to := calls[i].Begin + time.Second
		for ; end < len(calls) && calls[end].Begin < to; end++ {
			ids[calls[end].RequestID]++
		}
		n, r := end-i, len(ids)
		if r >= amplifiable && (worst.requests == 0 || n*worst.requests > worst.calls*r) {
			worst = stretch{Window{calls[i].Begin, to}, n, r}
		}
		if id := calls[i].RequestID; ids[id] == 1 {
			delete(ids, id)
		} else {
			ids[id]--
		}
	}
	return worst
}

// Judge counts.
func (a *RetryAmplification) Judge(_ context.Context, _ *plan.Plan, r *record.Round) Finding {
	if err := a.shape(); err != nil {
		return invalid("%v", err)
	}
	ends := plan.LinkEnds{From: a.From, To: a.To}
	calls, err := onLink(r, ends, a.Method)
	if err != nil {
		return invalid("%v", err)
	}
	reqs, err := r.Requests(a.Load)
	if err != nil {
		return invalid("%v", err)
	}
	base, err := phase(r, plan.PhaseBaseline)
	if err != nil {
		return invalid("%v", err)
	}
	ws, err := during(a.During, r)
	if err != nil {
		return invalid("%v", err)
	}
	link := fmt.Sprintf("%s -> %s", a.From, a.To)
	before := count(calls, reqs, []Window{base})
	if before.calls == 0 {
		return invalid("no call crossed %s for a request of %s in the baseline", link, a.Load)
	}
	x := count(calls, reqs, ws)
	judged := []attempts{x}
	relative := a.Attempts.Unit == plan.Times
	if relative {
		judged = append(judged, before)
	}
	for _, n := range judged {
		if err := n.known(); err != nil {
			return invalid("%s: %v", link, err)
		}
	}
	when := a.During
	if when == "" {
		when = "all phases under load"
	}
	what := fmt.Sprintf("requests of %s due in %s", a.Load, when)
	f := Finding{Evidence: []Evidence{
		{What: "calls on " + link + " for " + what + ofAll(ws), File: record.CallsFile(), Window: &ws[0], Count: x.calls, Values: map[string]float64{"calls": float64(x.calls), "requests": float64(x.requests), "calls of others": float64(x.foreign), "windows": float64(len(ws))}},
		{What: "calls on " + link + " for requests of " + a.Load + " due in baseline", File: record.CallsFile(), Window: &base, Count: before.calls, Values: map[string]float64{"calls": float64(before.calls), "requests": float64(before.requests)}},
	}}
	switch {
	case x.requests < amplifiable:
		f.Reason = fmt.Sprintf("%s reached %s in %s, and it takes %d", plural(x.requests, "request"), link, when, amplifiable)
	case !x.byID && !relative:
		f.Reason = fmt.Sprintf("no call on %s carries a request id, so that which of the requests reached it is not known: bound the attempts relative to the baseline", link)
	case relative && before.requests < amplifiable:
		f.Reason = fmt.Sprintf("%s reached %s in the baseline, and it takes %d", plural(before.requests, "request"), link, amplifiable)
	case !x.byID && min(x.calls, before.calls) < amplifiable:
		f.Reason = fmt.Sprintf("%s crossed %s in %s and %d in the baseline, and it takes %d each", plural(x.calls, "call"), link, when, before.calls, amplifiable)
	case !x.byID && x.ratio() < lessCalls*before.ratio():
		f.Reason = fmt.Sprintf("%s calls on %s for each request, %.2fx the baseline's %s: not every request reached it, and without ids nobody can tell how often those were repeated that did",
			number(x.ratio()), link, x.ratio()/before.ratio(), number(before.ratio()))
	}
	if f.Reason != "" {
		f.Summary = f.Reason
		return f
	}
	v, said := x.ratio(), fmt.Sprintf("%s calls on %s for each request", number(x.ratio()), link)
	if relative {
		said += fmt.Sprintf(", %.2fx the baseline's %s", v/before.ratio(), number(before.ratio()))
		v = math.Round(v/before.ratio()*1e9) / 1e9 // 0.6/0.2 is less than 3 in floating point
	}
	f.Verdict = Fail
	if a.Attempts.Holds(v) {
		f.Verdict = Pass
	}
	said += fmt.Sprintf(", wanted %s (%s of %s for %s", a.Attempts, plural(x.calls, "call"), plural(x.requests, "request"), strings.TrimPrefix(what, "requests of "))
	if s := x.worst; s.requests > 0 {
		said += fmt.Sprintf("; %s in the worst second", number(float64(s.calls)/float64(s.requests)))
		f.Evidence = append(f.Evidence, Evidence{What: "the second with most calls for each request", File: record.CallsFile(), Window: &s.Window, Count: s.calls,
			Values: map[string]float64{"calls": float64(s.calls), "requests": float64(s.requests)}, Detail: repeated(calls, s.Window)})
	}
	f.Summary = said + ")"
	return f
}

// repeated shows the request that was repeated most in a window.
func repeated(calls []record.Call, w Window) string {
	n := map[string][]record.Call{}
	most := ""
	from := sort.Search(len(calls), func(i int) bool { return calls[i].Begin >= w.From })
	for _, c := range calls[from:] {
		if c.Begin >= w.To {
			break
		}
		if c.RequestID == "" {
			continue
		}
		n[c.RequestID] = append(n[c.RequestID], c)
		if len(n[c.RequestID]) > len(n[most]) {
			most = c.RequestID
		}
	}
	var at []string
	for _, c := range n[most][:min(len(n[most]), maxDetails)] {
		at = append(at, fmt.Sprintf("%s %s -> %s at %s", c.Path, c.From, c.To, seconds(c.Begin)))
	}
	return fmt.Sprintf("request %s: %s: %s", most, plural(len(n[most]), "call"), strings.Join(at, ", "))
}
