package assertions

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
)

// Burn bounds how fast the error budget is spent: the share of failed answers over the share that the objective allows. As in the
// multiwindow alerts of the Site Reliability Workbook (chapter 5) both windows must be beyond the bound at the same moment: the long
// one that it matters, the short one that it still goes on. They end in the stretch that is judged, and reach back before it into time
// under load, so that what fails at its very beginning counts. Answers from before it are among those of a window, and what failed of
// them is not held against the stretch. Where a window would begin before the load did, or has too few samples, what failed is INVALID when
// it may have been beyond the bound.
type Burn struct {
	Long  plan.Duration `json:"long" jsonschema:"required" desc:"The long window, such as 2s."`
	Short plan.Duration `json:"short" jsonschema:"required" desc:"The short one, which ends at the same moment, such as 500ms."`
	Rate  plan.Bound    `json:"rate" jsonschema:"required" desc:"How many times as fast as the budget allows, such as <= 10."`
}

// Budget is an error budget and how fast it may be spent.
type Budget struct {
	Objective plan.Bound `json:"budget,omitzero" desc:"The objective whose error budget is meant, such as >= 99%. Without burn no more than all of the budget may be spent."`
	Burn      []Burn     `json:"burn,omitempty" desc:"Bounds on how fast it is spent, at any moment of the phase or fault: what fails in it, of the answers in windows that reach back before it. With them the budget itself is reported and not judged."`
}

func (b Budget) isZero() bool { return b.Objective.IsZero() && len(b.Burn) == 0 }

func (b Budget) validate() error {
	var errs []error
	if b.Objective.IsZero() {
		if len(b.Burn) > 0 {
			errs = append(errs, errors.New("budget is missing: the objective whose budget burns, such as >= 99%"))
		}
		return errors.Join(errs...)
	}
	if o := b.Objective; o.Unit != plan.Ratio || o.Op != ">=" || o.Value <= 0 || o.Value >= 1 {
		return errors.Join(append(errs, fmt.Errorf(`budget %q: write the objective as ">= 99%%"; one of 100 %% has no budget`, b.Objective))...)
	}
	for i, w := range b.Burn {
		at := fmt.Sprintf("burn[%d]", i)
		if w.Short <= 0 || w.Long <= w.Short {
			errs = append(errs, fmt.Errorf("burn: %s: long %s must be longer than short %s, and both more than nothing", at, w.Long, w.Short))
		}
		if w.Rate.Unit != plan.Count || (w.Rate.Op != "<=" && w.Rate.Op != "<") || w.Rate.Value <= 0 {
			errs = append(errs, fmt.Errorf(`burn: %s: rate %q: write it as "<= 10"`, at, w.Rate))
		} else if b.share(w) >= 1 {
			errs = append(errs, fmt.Errorf("burn: %s: rate %q of a budget of %s: that all answers fail would keep it", at, w.Rate, percent(b.allowed())))
		}
	}
	return errors.Join(errs...)
}

// allowed is the share of answers that may fail.
func (b Budget) allowed() float64 { return math.Round((1-b.Objective.Value)*1e12) / 1e12 }

// share is the share of failed answers at which a burn rate is reached.
func (b Budget) share(w Burn) float64 { return w.Rate.Value * b.allowed() }

// need is how many answers a window takes: so many that one that failed does not break the bound.
func (b Budget) need(w Burn) int { return max(10, int(math.Ceil(1/b.share(w)-1e-9))) }

// burnt is what was found of one pair of windows.
type burnt struct {
	room   bool          // some moment has the long window under load behind it
	judged bool          // and enough answers in both windows
	worst  float64       // the highest burn rate that both windows had at one moment
	at     time.Duration // when
	doubt  string        // says what failed and is not judged, though it may have broken the bound; empty: nothing
}

// burn looks at the windows that end at each moment of ws at which one of them changes. Samples are in the order of time, and those of
// before ws are among them, from the beginning of the load, lo, or as far back as a window reaches.
func (b Budget) burn(w Burn, ss []sample, ws []Window, lo time.Duration) burnt {
	long, short, need := w.Long.D(), w.Short.D(), b.need(w)
	first := lo + long - 1 // the first moment at which the long one lies under load
	moments := []time.Duration{first}
	for _, in := range ws {
		moments = append(moments, in.From)
	}
	for _, s := range ss {
		moments = append(moments, s.due, s.due+short, s.due+long)
	}
	slices.Sort(moments)
	moments = slices.Compact(moments)
	// A window that ends at t holds what was due in (t-length, t].
	var counts [2]struct{ lo, hi, bad int }
	lengths := [2]time.Duration{long, short}
	bad := func(s sample) bool { return !s.ok && within(ws, s.due) }
	var out burnt
	for _, t := range moments {
		rate, enough := math.Inf(1), true
		for i := range counts {
			c := &counts[i]
			for ; c.hi < len(ss) && ss[c.hi].due <= t; c.hi++ {
				if bad(ss[c.hi]) {
					c.bad++
				}
			}
			for ; c.lo < c.hi && ss[c.lo].due <= t-lengths[i]; c.lo++ {
				if bad(ss[c.lo]) {
					c.bad--
				}
			}
			n := c.hi - c.lo
			enough = enough && n >= need
			if t < first {
				n = max(n, need) // that the very first request fails is no burn yet
			}
			// 0.1/0.01 is not 10 in floating point.
			rate = min(rate, math.Round(float64(c.bad)/float64(max(1, n))/b.allowed()*1e9)/1e9)
		}
		if !within(ws, t) {
			continue
		}
		out.room = out.room || t >= first
		switch {
		case t >= first && enough:
			if !out.judged || rate > out.worst {
				out.judged, out.worst, out.at = true, rate, t
			}
		case out.doubt != "" || w.Rate.Holds(rate):
		case t < first:
			out.doubt = fmt.Sprintf("at %s the load had not run for %s, and so many had failed by then that it may have been more", seconds(t), seconds(long))
		default:
			out.doubt = fmt.Sprintf("at %s a window has less than %d samples, and so many of them failed that it may have been more", seconds(t), need)
		}
	}
	return out
}

// reach is how far the longest window reaches back.
func (b Budget) reach() time.Duration {
	var d time.Duration
	for _, w := range b.Burn {
		d = max(d, w.Long.D())
	}
	return d
}

// judge judges the budget by the samples due in windows of a round, and its burning by these and those before them: all of them since lo,
// where the load began, or as far back as a window reaches.
func (b Budget) judge(ss, all []sample, ws []Window, lo time.Duration) ([]part, map[string]float64, []Evidence) {
	if b.Objective.IsZero() {
		return nil, nil, nil
	}
	bad := 0
	for _, s := range ss {
		if !s.ok {
			bad++
		}
	}
	values := map[string]float64{}
	f := figure{name: "success", bound: b.Objective}
	x := part{name: "budget", verdict: Pass}
	if len(ss) < f.need() {
		x.text = fmt.Sprintf("budget %s needs %d samples and there are %d", b.Objective, f.need(), len(ss))
		if len(b.Burn) == 0 {
			x.verdict = Invalid
		}
	} else {
		spent := float64(bad) / float64(len(ss)) / b.allowed()
		spent = math.Round(spent*1e9) / 1e9
		values["budget spent"] = spent
		x.text = fmt.Sprintf("%s of the error budget of %s spent", percent(spent), b.Objective)
		if spent > 1 && len(b.Burn) == 0 {
			x.verdict = Fail
		}
	}
	parts := []part{x}
	var ev []Evidence
	for i, w := range b.Burn {
		got := b.burn(w, all, ws, lo)
		name := fmt.Sprintf("burn rate over %s and %s", seconds(w.Long.D()), seconds(w.Short.D()))
		x := part{name: fmt.Sprintf("burn %d", i), verdict: Fail, value: got.worst}
		x.text = fmt.Sprintf("%s at most %s, wanted %s", name, number(got.worst), w.Rate)
		switch {
		case !got.room:
			x.verdict, x.text = Invalid, fmt.Sprintf("%s: no moment has %s under load behind it", name, seconds(w.Long.D()))
		case got.judged && !w.Rate.Holds(got.worst):
		case len(ss) < b.need(w):
			x.verdict, x.text = Invalid, fmt.Sprintf("%s needs %d samples and there are %d", name, b.need(w), len(ss))
		case !got.judged:
			x.verdict, x.text = Invalid, fmt.Sprintf("%s: no moment has %d samples in both windows", name, b.need(w))
		case got.doubt != "":
			x.verdict = Invalid
			x.text += ", but " + got.doubt
		default:
			x.verdict = Pass
		}
		if got.judged {
			ev = append(ev, Evidence{What: name + " at its highest", Window: &Window{got.at - w.Long.D(), got.at}, Values: map[string]float64{"burn rate": got.worst}})
		}
		parts = append(parts, x)
	}
	return parts, values, ev
}
