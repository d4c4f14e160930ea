package assertions

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// SLO bounds success, latency and throughput, and how fast an error budget is spent.
type SLO struct {
	Source
	During string `json:"during,omitempty" desc:"baseline, fault, recovery, or the id of a fault: from the start of each occurrence until it is undone. Left out: all the time under load."`
	Bounds
	Budget
}

// asked checks what is asked of the answers: bounds, a budget, or both.
func (a *SLO) asked() error {
	if len(a.figures()) == 0 && !a.Budget.isZero() {
		return a.Budget.validate()
	}
	return errors.Join(a.Bounds.validate(), a.Budget.validate())
}

// Validate returns every error.
func (a *SLO) Validate(s Scope) error {
	err := errors.Join(a.Source.validate(s), a.asked(), duringNamed(a.During, s))
	if a.During == plan.PhaseBaseline && a.relative() {
		err = errors.Join(err, errors.New("a bound relative to the baseline means nothing in the baseline"))
	}
	return err
}

// measures says what the finding rests on.
func (a *SLO) measures() measured {
	return measured{a.Source, a.During == plan.PhaseBaseline, a.relative()}
}

// Judge measures.
func (a *SLO) Judge(_ context.Context, _ *plan.Plan, r *record.Round) Finding {
	if err := a.asked(); err != nil {
		return invalid("%v", err) // a plan may come from elsewhere than our own validation
	}
	ws, err := during(a.During, r)
	if err != nil {
		return invalid("%v", err)
	}
	ss, err := a.over(r, ws)
	if err != nil {
		return invalid("%v", err)
	}
	when := a.During
	if when == "" {
		when = "all phases under load"
	}
	ev := Evidence{What: fmt.Sprintf("%s due in %s", a.Source, when), File: a.file(), Count: len(ss), Values: map[string]float64{}}
	f := Finding{Verdict: Pass}
	var base map[string]float64
	if a.relative() {
		var w Window
		if base, w, err = a.bases(a.Source, r); err != nil {
			return invalid("%v", err)
		}
		f.Evidence = append(f.Evidence, Evidence{What: fmt.Sprintf("%s due in baseline", a.Source), File: a.file(), Window: &w, Values: base})
	}
	sum := summarise(ss, length(ws))
	ev.Values["good"] = float64(sum.good)
	ev.Values["seconds"] = sum.length.Seconds()
	var said, missing []string
	for _, g := range a.figures() {
		v, err := sum.figure(g)
		if err != nil {
			missing = append(missing, err.Error())
			continue
		}
		ev.Values[g.name] = v
		s := fmt.Sprintf("%s %s, wanted %s", g.name, g.show(v), g.bound)
		if g.bound.Unit == plan.Times {
			s = fmt.Sprintf("%s %s, %.2fx the baseline's %s, wanted %s", g.name, g.show(v), v/base[g.name], g.show(base[g.name]), g.bound)
		}
		if !g.holds(v, base[g.name]) {
			if why := g.late(ss, base[g.name]); why != "" {
				missing = append(missing, s+": "+why)
				continue
			}
			f.Verdict = Fail
		}
		said = append(said, s)
	}
	all, lo, err := a.burning(r, ws)
	if err != nil {
		return invalid("%v", err)
	}
	parts, values, burning := a.Budget.judge(ss, all, ws, lo)
	maps.Copy(ev.Values, values)
	for _, p := range parts {
		switch p.verdict {
		case Invalid:
			missing = append(missing, p.text)
			continue
		case Fail:
			f.Verdict = Fail
		}
		said = append(said, p.text)
	}
	if len(missing) > 0 && f.Verdict == Pass {
		f.Verdict, f.Reason = Invalid, strings.Join(missing, "; ")
	}
	f.Summary = strings.Join(append(said, missing...), "; ") + fmt.Sprintf(" (%d %s in %s)", len(ss), a.Source, when)
	for i := range ws {
		e := ev
		e.Window = &ws[i]
		if len(ws) > 1 {
			e.What += fmt.Sprintf(", occurrence %d of %d; count and values are of all", i+1, len(ws))
			if i >= maxDetails {
				break
			}
		}
		f.Evidence = append(f.Evidence, e)
	}
	for _, e := range burning {
		e.File = a.file()
		f.Evidence = append(f.Evidence, e)
	}
	return f
}

// burning is what the windows of a burn rate may hold, and when the load began.
func (a *SLO) burning(r *record.Round, ws []Window) ([]sample, time.Duration, error) {
	if len(a.Burn) == 0 {
		return nil, 0, nil
	}
	// Not loaded: the baseline is judged too where the round did not get through its other phases.
	lo, _, ok := r.Phase(plan.PhaseBaseline)
	if !ok {
		return nil, 0, fmt.Errorf("the round did not reach the phase %s", plan.PhaseBaseline)
	}
	all, err := a.samples(r, Window{max(lo, ws[0].From-a.reach()), ws[len(ws)-1].To})
	return all, lo, err
}
