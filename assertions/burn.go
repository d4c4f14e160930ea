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
// one that it matters, the short one that it still goes on. What failed where neither can be judged, for want of samples or of time,
// is INVALID when it may have been beyond the bound.
type Burn struct {
	Long  plan.Duration `json:"long" jsonschema:"required" desc:"The long window, such as 2s."`
	Short plan.Duration `json:"short" jsonschema:"required" desc:"The short one, which ends at the same moment, such as 500ms."`
	Rate  plan.Bound    `json:"rate" jsonschema:"required" desc:"How many times as fast as the budget allows, such as <= 10."`
}

// Budget is an error budget and how fast it may be spent.
type Budget struct {
	Objective plan.Bound `json:"budget,omitzero" desc:"The objective whose error budget is meant, such as >= 99%. Without burn no more than all of the budget may be spent."`
	Burn      []Burn     `json:"burn,omitempty" desc:"Bounds on how fast it is spent, at any moment. With them the budget itself is reported and not judged."`
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
	judged bool          // some moment had enough answers in both windows
	worst  float64       // the highest burn rate that both windows had at one moment
	at     time.Duration // when
	thin   time.Duration // the first moment with too few answers, of which so many failed that both windows break the bound; 0: none
}

// burn looks at the windows that end at each moment at which one of them changes. Samples are in the order of time; both windows lie
// within [from, to).
func (b Budget) burn(w Burn, ss []sample, from, to time.Duration) burnt {
	long, short, need := w.Long.D(), w.Short.D(), b.need(w)
	moments := []time.Duration{from + long - 1} // the first at which the long one lies within
	for _, s := range ss {
		moments = append(moments, s.due, s.due+short, s.due+long)
	}
	slices.Sort(moments)
	moments = slices.Compact(moments)
	// A window that ends at t holds what was due in (t-length, t].
	var counts [2]struct{ lo, hi, bad int }
	lengths := [2]time.Duration{long, short}
	var out burnt
	for _, t := range moments {
		rate, enough := math.Inf(1), true
		for i := range counts {
			c := &counts[i]
			for ; c.hi < len(ss) && ss[c.hi].due <= t; c.hi++ {
				if !ss[c.hi].ok {
					c.bad++
				}
			}
			for ; c.lo < c.hi && ss[c.lo].due <= t-lengths[i]; c.lo++ {
				if !ss[c.lo].ok {
					c.bad--
				}
			}
			n := c.hi - c.lo
			enough = enough && n >= need
			// 0.1/0.01 is not 10 in floating point.
			rate = min(rate, math.Round(float64(c.bad)/float64(max(1, n))/b.allowed()*1e9)/1e9)
		}
		switch {
		case t-long < from-1 || t >= to:
		case !enough:
			if out.thin == 0 && !w.Rate.Holds(rate) {
				out.thin = t
			}
		case !out.judged || rate > out.worst:
			out.judged, out.worst, out.at = true, rate, t
		}
	}
	return out
}

// worst is that of several stretches. doubt says what failed and is not judged, though it may have broken the bound: among too few
// samples, or in a stretch that has no room for the long window.
func (b Budget) worst(w Burn, ss []sample, ws []Window) (out burnt, doubt string) {
	for _, in := range ws {
		mine := slices.DeleteFunc(slices.Clone(ss), func(s sample) bool { return s.due < in.From || s.due >= in.To })
		got := b.burn(w, mine, in.From, in.To)
		if got.judged && (!out.judged || got.worst > out.worst) {
			out = got
		}
		bad := slices.ContainsFunc(mine, func(s sample) bool { return !s.ok })
		switch {
		case doubt != "":
		case got.thin > 0:
			doubt = fmt.Sprintf("at %s a window has less than %d samples, and so many of them failed that it may have been more", seconds(got.thin), b.need(w))
		case bad && in.To-in.From < w.Long.D():
			doubt = fmt.Sprintf("some failed from %s to %s, which has no room for a window of %s", seconds(in.From), seconds(in.To), seconds(w.Long.D()))
		}
	}
	return out, doubt
}

// judge judges the budget and its burning in windows of a round.
func (b Budget) judge(ss []sample, ws []Window) ([]part, map[string]float64, []Evidence) {
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
		x.verdict, x.text = Invalid, fmt.Sprintf("budget %s needs %d samples and there are %d", b.Objective, f.need(), len(ss))
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
		worst, doubt := b.worst(w, ss, ws)
		name := fmt.Sprintf("burn rate over %s and %s", seconds(w.Long.D()), seconds(w.Short.D()))
		x := part{name: fmt.Sprintf("burn %d", i), verdict: Fail, value: worst.worst}
		x.text = fmt.Sprintf("%s at most %s, wanted %s", name, number(worst.worst), w.Rate)
		switch {
		case !worst.judged:
			x.verdict = Invalid
			x.text = fmt.Sprintf("%s: no moment has %d samples in both windows", name, b.need(w))
		case !w.Rate.Holds(worst.worst):
		case doubt != "":
			x.verdict = Invalid
			x.text += ", but " + doubt
		default:
			x.verdict = Pass
		}
		if worst.judged {
			ev = append(ev, Evidence{What: name + " at its highest", Window: &Window{worst.at - w.Long.D(), worst.at}, Values: map[string]float64{"burn rate": worst.worst}})
		}
		parts = append(parts, x)
	}
	return parts, values, ev
}
