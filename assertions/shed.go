package assertions

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// Shed judges a service under overload: what is too much is refused, and the rest is served as before.
//
// That overload really came is a condition: more was offered than was answered well. Without it nothing was shown.
type Shed struct {
	Load       string     `json:"load" jsonschema:"required" desc:"The load that is too much, the one whose answers are judged."`
	During     string     `json:"during" jsonschema:"required" desc:"The fault that makes it too much, such as a spike, or the phase in which it is."`
	Goodput    plan.Bound `json:"goodput,omitzero" desc:"Good answers a second, by when they were due, such as >= 150/s or >= 80% baseline."`
	AcceptP50  plan.Bound `json:"accepted-p50,omitzero" desc:"The median latency of good answers, such as <= 100ms or <= 3x baseline."`
	AcceptP90  plan.Bound `json:"accepted-p90,omitzero" desc:"Likewise; it takes 100 good answers."`
	AcceptP95  plan.Bound `json:"accepted-p95,omitzero" desc:"Likewise; it takes 200 good answers."`
	AcceptP99  plan.Bound `json:"accepted-p99,omitzero" desc:"Likewise; it takes 1000 good answers."`
	High       plan.Bound `json:"high,omitzero" desc:"Success of requests of high priority, such as >= 99%: those of the load with the header X-Priority: high."`
	HighIDs    []string   `json:"high-requests,omitempty" desc:"The ids of the requests of high priority, for a service that knows them by something else."`
	RetryAfter bool       `json:"retry-after,omitempty" desc:"Every 429 and 503 carries the header Retry-After."`
}

// surplus is the least share of what was offered that was not answered well where a load was too much.
const surplus = 0.05

// Validate returns every error.
func (a *Shed) Validate(s Scope) error {
	errs := []error{loadNamed(a.Load, s), a.shape(s.Plan)}
	switch a.During {
	case "":
		errs = append(errs, errors.New("during is missing: the fault or phase of the overload"))
	case plan.PhaseBaseline:
		errs = append(errs, errors.New("during: the baseline is what overload is compared with"))
	default:
		errs = append(errs, duringNamed(a.During, s))
	}
	for _, id := range a.HighIDs {
		errs = append(errs, Source{Load: a.Load, Request: id}.validate(s))
	}
	return errors.Join(errs...)
}

// shape checks the bounds, and that there are requests to be judged by them.
func (a *Shed) shape(p *plan.Plan) error {
	if a.Goodput.IsZero() && len(a.accepted()) == 0 && a.High.IsZero() && !a.RetryAfter {
		return errors.New("nothing is asked: one of goodput, accepted-p50, accepted-p90, accepted-p95, accepted-p99, high, retry-after")
	}
	errs := []error{asks("goodput", a.Goodput), asks("high", a.High)}
	if b := a.Goodput; !b.IsZero() && b.Unit != plan.PerSec && b.Unit != plan.Times {
		errs = append(errs, fmt.Errorf(`goodput %q: write it as ">= 150/s" or ">= 80%% baseline"`, b))
	}
	for _, f := range a.accepted() {
		errs = append(errs, asks(f.name, f.bound))
		if (f.bound.Unit != plan.Seconds && f.bound.Unit != plan.Times) || f.bound.Op == "=" {
			errs = append(errs, fmt.Errorf(`%s %q: write it as "<= 100ms" or "<= 3x baseline"`, f.name, f.bound))
		}
	}
	if b := a.High; !b.IsZero() && b.Unit != plan.Ratio {
		errs = append(errs, fmt.Errorf(`high %q: write it as ">= 99%%"`, b))
	}
	if !a.High.IsZero() && len(a.high(p)) == 0 {
		errs = append(errs, errors.New("high: no request of the load has the header X-Priority: high; name them in high-requests"))
	}
	return errors.Join(errs...)
}

// accepted are the bounds on the latency of good answers.
func (a *Shed) accepted() []figure {
	return slices.DeleteFunc([]figure{{"accepted-p50", a.AcceptP50, 500}, {"accepted-p90", a.AcceptP90, 900}, {"accepted-p95", a.AcceptP95, 950}, {"accepted-p99", a.AcceptP99, 990}},
		func(f figure) bool { return f.bound.IsZero() })
}

// high are the ids of the requests of high priority.
func (a *Shed) high(p *plan.Plan) []string {
	if len(a.HighIDs) > 0 {
		return a.HighIDs
	}
	var ids []string
	for _, l := range p.Loads {
		for _, q := range l.Requests {
			for k, v := range q.Headers {
				if l.Name == a.Load && strings.EqualFold(k, "X-Priority") && strings.EqualFold(strings.TrimSpace(v), "high") {
					ids = append(ids, q.ID)
				}
			}
		}
	}
	return ids
}

func (a *Shed) relative() bool {
	return a.Goodput.Unit == plan.Times || slices.ContainsFunc(a.accepted(), func(f figure) bool { return f.bound.Unit == plan.Times })
}

func (a *Shed) measures() measured {
	return measured{src: Source{Load: a.Load}, relative: a.relative()}
}

// admitted is what became of requests.
type admitted struct {
	sent, good int
	answers    []sample // good ones
	length     time.Duration
	refused    map[int]int // 429 and 503, by status
	bare       int         // of these, without Retry-After
	high       int
	highGood   int
}

func (s admitted) goodput() float64 { return float64(s.good) / s.length.Seconds() }
func (s admitted) offered() float64 { return float64(s.sent) / s.length.Seconds() }

func serve(reqs []record.Request, ws []Window, high []string) admitted {
	s := admitted{length: length(ws), refused: map[int]int{}}
	for i := range reqs {
		q := &reqs[i]
		if !slices.ContainsFunc(ws, func(w Window) bool { return q.Due >= w.From && q.Due < w.To }) {
			continue
		}
		s.sent++
		important := slices.Contains(high, q.Request)
		if important {
			s.high++
		}
		switch {
		case q.OK:
			s.good++
			s.answers = append(s.answers, sampleOf(q))
			if important {
				s.highGood++
			}
		case q.Code == 429 || q.Code == 503:
			s.refused[q.Code]++
			if !q.RetryAfter {
				s.bare++
			}
		}
	}
	return s
}

// quantile of the latency of good answers, or why there is none.
func (s admitted) quantile(f figure, where string) (float64, error) {
	if n := len(s.answers); n < f.need() {
		return 0, fmt.Errorf("%s needs %d good answers and there are %d in %s", f, f.need(), n, where)
	}
	return f.measure(0, summarise(s.answers, 0).latencies, 0), nil
}

// Judge compares the overload with what was asked.
func (a *Shed) Judge(_ context.Context, p *plan.Plan, r *record.Round) Finding {
	if err := a.shape(p); err != nil {
		return invalid("%v", err)
	}
	reqs, err := r.Requests(a.Load)
	if err != nil {
		return invalid("%v", err)
	}
	bw, err := phase(r, plan.PhaseBaseline)
	if err != nil {
		return invalid("%v", err)
	}
	ws, err := during(a.During, r)
	if err != nil {
		return invalid("%v", err)
	}
	base, now := serve(reqs, []Window{bw}, a.high(p)), serve(reqs, ws, a.high(p))
	if now.length <= 0 || base.length <= 0 {
		return invalid("the window has no length")
	}
	over := fmt.Sprintf("%s/s offered, %s/s good in %s", number(now.offered()), number(now.goodput()), a.During)
	values := map[string]float64{"offered": now.offered(), "goodput": now.goodput(), "good": float64(now.good), "without retry-after": float64(now.bare), "seconds": now.length.Seconds()}
	for _, code := range slices.Sorted(maps.Keys(now.refused)) {
		values[fmt.Sprintf("status %d", code)] = float64(now.refused[code])
	}
	ev := []Evidence{
		{What: "requests of " + a.Load + " due in " + a.During + ofAll(ws), File: record.RequestFile(a.Load), Window: &ws[0], Count: now.sent, Values: values},
		{What: "requests of " + a.Load + " due in baseline", File: record.RequestFile(a.Load), Window: &bw, Count: base.sent, Values: map[string]float64{"offered": base.offered(), "goodput": base.goodput()}},
	}
	// Without a surplus nobody had to choose.
	if float64(now.sent-now.good) < surplus*float64(now.sent) || now.sent == 0 {
		f := invalid("the load was not too much: %s", over)
		f.Evidence = ev
		return f
	}
	f := merge(a.parts(base, now, values))
	f.Summary += " (" + over + ")"
	f.Evidence = ev
	return f
}

func (a *Shed) parts(base, now admitted, values map[string]float64) []part {
	var parts []part
	if b := a.Goodput; !b.IsZero() {
		g := figure{name: "goodput", bound: b}
		x := part{name: g.name, verdict: Fail, text: fmt.Sprintf("goodput %s/s, wanted %s", number(now.goodput()), b)}
		if b.Unit == plan.Times {
			x.text = fmt.Sprintf("goodput %s/s, %s of the baseline's %s/s, wanted %s", number(now.goodput()), percent(now.goodput()/base.goodput()), number(base.goodput()), b)
		}
		switch {
		case b.Unit == plan.Times && base.good == 0:
			x.verdict, x.text = Invalid, "in the baseline goodput is 0"
		case g.holds(now.goodput(), base.goodput()):
			x.verdict = Pass
		}
		parts = append(parts, x)
	}
	for _, g := range a.accepted() {
		x := part{name: g.name, verdict: Fail}
		v, err := now.quantile(g, a.During)
		was, baseErr := 0.0, error(nil)
		if g.bound.Unit == plan.Times {
			was, baseErr = base.quantile(g, plan.PhaseBaseline)
			if baseErr == nil && was == 0 {
				baseErr = fmt.Errorf("in the baseline %s is 0", g.name)
			}
		}
		if err = errors.Join(err, baseErr); err != nil {
			x.verdict, x.text = Invalid, strings.ReplaceAll(err.Error(), "\n", "; ")
		} else {
			values[g.name] = v
			x.text = fmt.Sprintf("%s %s, wanted %s", g.name, g.show(v), g.bound)
			if g.bound.Unit == plan.Times {
				x.text = fmt.Sprintf("%s %s, %.2fx the baseline's %s, wanted %s", g.name, g.show(v), v/was, g.show(was), g.bound)
			}
			if g.holds(v, was) {
				x.verdict = Pass
			} else if why := g.late(now.answers, was); why != "" {
				x.verdict = Invalid
				x.text += ": " + why
			}
		}
		parts = append(parts, x)
	}
	if b := a.High; !b.IsZero() {
		g := figure{name: "success", bound: b}
		x := part{name: "high", verdict: Fail}
		share := float64(now.highGood) / float64(now.high)
		values["high"], values["high, good"] = float64(now.high), float64(now.highGood)
		x.text = fmt.Sprintf("success of high priority %s of %s, wanted %s", percent(share), plural(now.high, "request"), b)
		switch {
		case now.high < g.need():
			x.verdict, x.text = Invalid, fmt.Sprintf("high %s needs %d requests of high priority and there are %d", b, g.need(), now.high)
		case now.high == now.sent:
			x.verdict, x.text = Invalid, "every request is of high priority: there is nothing to prefer them to"
		case b.Holds(share):
			x.verdict = Pass
		}
		parts = append(parts, x)
	}
	if a.RetryAfter {
		n := now.refused[429] + now.refused[503]
		x := part{name: "retry-after", verdict: Pass, text: fmt.Sprintf("all of %s of 429 and 503 carry Retry-After", plural(n, "answer"))}
		switch {
		case n == 0:
			x.verdict, x.text = Invalid, "no answer was 429 or 503, which could carry Retry-After"
		case now.bare > 0:
			x.verdict, x.text = Fail, fmt.Sprintf("%d of %s of 429 and 503 carry no Retry-After", now.bare, plural(n, "answer"))
		}
		parts = append(parts, x)
	}
	return parts
}

// asksForDamage: nothing is shed but what is too much.
func (a *Shed) asksForDamage() bool { return true }
