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

// Metastable is that a service comes back by itself once what hurt it is gone, under the load that it carried before. A service that
// does not is held down by what it does itself (Bronson et al., Metastable Failures in Distributed Systems, HotOS 2021); the finding
// names what the record knows of: amplification, the age of what is queued, an open breaker.
type Metastable struct {
	Load    string        `json:"load" jsonschema:"required" desc:"The load that the service carried before."`
	After   string        `json:"after" jsonschema:"required" desc:"The moment at which the cause is gone, such as spike.undone."`
	Within  plan.Duration `json:"within" jsonschema:"required" desc:"The longest time until the goodput is back, to stay."`
	Goodput plan.Bound    `json:"goodput" jsonschema:"required" desc:"Good answers a second, by when they were due: a share of those of the baseline, such as >= 90%, or >= 180/s."`
	Window  plan.Duration `json:"window,omitempty" desc:"The length of the sliding window. Default 1s."`
}

// goodputWindow is the sliding window where none is given.
const goodputWindow = time.Second

// What sustains a failure must be this many times what it was in the baseline to be named.
const (
	amplifiedBy = 1.2
	agedBy      = 3.0
)

func (a *Metastable) recovers() Recovers {
	w := a.Window
	if w == 0 {
		w = plan.Duration(goodputWindow)
	}
	return Recovers{Source: Source{Load: a.Load}, After: a.After, Within: a.Within, Window: w, Bounds: Bounds{Throughput: a.bound()}}
}

// bound is the goodput with a share taken for that of the baseline.
func (a *Metastable) bound() plan.Bound {
	b := a.Goodput
	if b.Unit == plan.Ratio {
		b.Unit = plan.Times
	}
	return b
}

func (a *Metastable) measures() measured {
	return measured{src: Source{Load: a.Load}, relative: a.bound().Unit == plan.Times}
}

// Validate returns every error.
func (a *Metastable) Validate(s Scope) error {
	back := a.recovers()
	return errors.Join(loadNamed(a.Load, s), a.shape(), back.times(s))
}

func (a *Metastable) shape() error {
	switch b := a.Goodput; {
	case b.IsZero():
		return errors.New("goodput is missing: a share of the baseline's, such as >= 90%")
	case b.Op != ">=" && b.Op != ">", b.Unit != plan.Ratio && b.Unit != plan.Times && b.Unit != plan.PerSec:
		return fmt.Errorf(`goodput %q: write it as ">= 90%%" of the baseline or ">= 180/s"`, b)
	}
	return asks("goodput", a.Goodput)
}

// Judge looks for the moment from which the goodput is back.
func (a *Metastable) Judge(ctx context.Context, p *plan.Plan, r *record.Round) Finding {
	if err := a.shape(); err != nil {
		return invalid("%v", err)
	}
	base, err := phase(r, plan.PhaseBaseline)
	if err != nil {
		return invalid("%v", err)
	}
	back := a.recovers()
	f := back.Judge(ctx, p, r)
	if f.Verdict == Invalid {
		return f
	}
	from, _ := r.Moment(back.moment())
	_, end, _ := r.Phase(plan.PhaseRecovery)
	tail := Window{max(from, end-back.window()), end}
	reqs, err := r.Requests(a.Load)
	if err != nil {
		return invalid("%v", err)
	}
	before, after, last := serve(reqs, []Window{base}, nil), serve(reqs, []Window{{from, end}}, nil), serve(reqs, []Window{tail}, nil)
	f.Evidence = append(f.Evidence, Evidence{What: "goodput of " + a.Load + " in the last window", File: record.RequestFile(a.Load), Window: &tail, Count: last.sent,
		Values: map[string]float64{"offered": last.offered(), "goodput": last.goodput(), "offered in the baseline": before.offered(), "goodput in the baseline": before.goodput()}})
	if math.Abs(after.offered()-before.offered()) > sameLoad*before.offered() {
		f.Reason = fmt.Sprintf("the load was not what it had been: %s/s offered after %s, %s/s in the baseline", number(after.offered()), a.After, number(before.offered()))
		f.Summary, f.Verdict = f.Reason, Invalid
		return f
	}
	if f.Verdict == Pass {
		hurt := Window{base.To, max(base.To, from)}
		said, ev := a.felt(reqs, base, hurt)
		f.Evidence = append(f.Evidence, ev)
		if said != "" && !(p.Control != nil && p.Control.NoFault) {
			f.Reason = fmt.Sprintf("what came before %s was not felt, so that there was nothing to come back from: %s", a.After, said)
			f.Verdict = Invalid
		}
		return f
	}
	var why []string
	for _, find := range []func(*record.Round, []record.Request, Window, Window) (string, []Evidence){a.amplified, a.aged, a.open} {
		said, ev := find(r, reqs, base, tail)
		if said != "" {
			why = append(why, said)
		}
		f.Evidence = append(f.Evidence, ev...)
	}
	if len(why) == 0 {
		why = []string{"nothing in the record says what: neither calls on links, nor the age of answers, nor a breaker"}
	}
	f.Summary += fmt.Sprintf("; goodput was %s/s at the end, %s/s in the baseline; sustained by: %s", number(last.goodput()), number(before.goodput()), strings.Join(why, "; "))
	return f
}

// feltBy is the share of requests that must fail for a cause to be felt where answers take no longer than before.
const feltBy = 0.01

// felt says why the time before the moment was no worse for the load than the baseline; empty where it was.
func (a *Metastable) felt(reqs []record.Request, base, hurt Window) (string, Evidence) {
	was, _ := age(reqs, base)
	is, n := age(reqs, hurt)
	s := serve(reqs, []Window{hurt}, nil)
	failed := float64(s.sent-s.good) / float64(max(1, s.sent))
	ev := Evidence{What: "requests of " + a.Load + " between the baseline and " + a.After, File: record.RequestFile(a.Load), Window: &hurt, Count: n,
		Values: map[string]float64{"failed": failed, "p50 of all": is.Seconds(), "p50 of all in the baseline": was.Seconds()}}
	switch {
	case n == 0:
		return "none was sent", ev
	case failed >= feltBy || float64(is) > agedBy*float64(was):
		return "", ev
	}
	return fmt.Sprintf("%s of %s failed, and half of them took %s or less, %s in the baseline", percent(failed), plural(n, "request"), seconds(is), seconds(was)), ev
}

// age is how long half of the answers due in a window took at least, the failed ones too, and how many they are.
func age(reqs []record.Request, w Window) (time.Duration, int) {
	var ds []time.Duration
	for i := range reqs {
		if reqs[i].Due >= w.From && reqs[i].Due < w.To {
			ds = append(ds, reqs[i].Latency())
		}
	}
	if len(ds) == 0 {
		return 0, 0
	}
	slices.Sort(ds)
	return ds[rank(500, len(ds))-1], len(ds)
}

// sameLoad is how far the load after the cause may be from the load before.
const sameLoad = 0.1

// amplified compares the calls on each observed link, for each request sent, with the baseline.
func (a *Metastable) amplified(r *record.Round, reqs []record.Request, base, tail Window) (string, []Evidence) {
	calls, err := r.Calls()
	if err != nil || allRead(r) != nil {
		return "", nil
	}
	service := func(node string) string {
		for _, n := range r.Run().Meta.Nodes {
			if n.Name == node {
				return n.Service
			}
		}
		return node
	}
	type counts struct{ before, after int }
	links := map[string]*counts{}
	for i := range calls {
		c := &calls[i]
		if checks.MatchString(c.Path) {
			continue
		}
		name := service(c.From) + " -> " + service(c.To)
		if links[name] == nil {
			links[name] = &counts{}
		}
		switch {
		case c.Begin >= base.From && c.Begin < base.To:
			links[name].before++
		case c.Begin >= tail.From && c.Begin < tail.To:
			links[name].after++
		}
	}
	sent, now := serve(reqs, []Window{base}, nil).sent, serve(reqs, []Window{tail}, nil).sent
	var said []string
	var ev []Evidence
	for _, name := range slices.Sorted(maps.Keys(links)) {
		c := links[name]
		was, is := float64(c.before)/float64(max(1, sent)), float64(c.after)/float64(max(1, now))
		ev = append(ev, Evidence{What: "calls on " + name + " for each request sent", File: record.CallsFile(), Window: &tail, Count: c.after, Values: map[string]float64{"baseline": was, "last window": is}})
		if min(c.before, c.after) >= amplifiable && is > amplifiedBy*was {
			said = append(said, fmt.Sprintf("amplification (%s calls on %s for each request, %s in the baseline)", number(is), name, number(was)))
		}
	}
	return strings.Join(said, "; "), ev
}

// aged compares how old answers are, the failed ones too, with the baseline.
func (a *Metastable) aged(_ *record.Round, reqs []record.Request, base, tail Window) (string, []Evidence) {
	was, _ := age(reqs, base)
	is, n := age(reqs, tail)
	inFlight := func(t time.Duration) (n int) {
		for i := range reqs {
			if reqs[i].Sent <= t && reqs[i].Done > t {
				n++
			}
		}
		return n
	}
	before, after := inFlight(base.To), inFlight(tail.To-1)
	ev := Evidence{What: "age of answers, failed ones too", File: record.RequestFile(a.Load), Window: &tail, Count: n,
		Values: map[string]float64{"p50 in the baseline": was.Seconds(), "p50 in the last window": is.Seconds(), "in flight at the end of the baseline": float64(before), "in flight at the end": float64(after)}}
	if float64(is) <= agedBy*float64(was) {
		return "", []Evidence{ev}
	}
	return fmt.Sprintf("queue age (half of the answers took %s or more, %s in the baseline; %d in flight, %d then)", seconds(is), seconds(was), after, before), []Evidence{ev}
}

// open looks for breakers that are not closed at the end.
func (a *Metastable) open(r *record.Round, _ []record.Request, _, tail Window) (string, []Evidence) {
	run := r.Run()
	if run.Metrics == nil {
		return "", nil
	}
	all, err := run.Metrics.At(hasvcState, tail.To)
	if err != nil {
		return "", nil
	}
	var said []string
	for _, s := range all {
		if s.Value != 0 {
			state := "half-open"
			if s.Value == 2 {
				state = "open"
			}
			said = append(said, fmt.Sprintf("breaker of %s in %s %s", s.Labels["service"], s.Labels[nodeLabel], state))
		}
	}
	slices.Sort(said)
	ev := Evidence{What: hasvcState + " at the end", File: "metrics", Window: &Window{tail.To, tail.To}, Count: len(all), Detail: strings.Join(said, ", ")}
	return strings.Join(said, "; "), []Evidence{ev}
}
