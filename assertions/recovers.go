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

// Recovers bounds the time to recover.
//
// The window slides over due times, [s, s+window), from the moment named to the end of recovery. The time to recover is the
// smallest s, counted from that moment, from which on every window meets the bounds.
type Recovers struct {
	Source
	After  string        `json:"after" jsonschema:"required" desc:"The moment from which the time counts: FAULT.started, FAULT.in-effect, FAULT.undone or FAULT.gone; of a repeated fault, of its first occurrence."`
	Within plan.Duration `json:"within" jsonschema:"required" desc:"The longest time to recover."`
	Window plan.Duration `json:"window,omitempty" desc:"The length of the sliding window. Default 2s."`
	Bounds
}

// defaultWindow is the sliding window where none is given.
const defaultWindow = 2 * time.Second

func (a *Recovers) window() time.Duration {
	if a.Window == 0 {
		return defaultWindow
	}
	return a.Window.D()
}

func (a *Recovers) moment() plan.EventRef {
	id, event, _ := strings.Cut(a.After, ".")
	return plan.EventRef{Fault: id, Event: plan.FaultEvent(event)}
}

// Validate returns every error.
func (a *Recovers) Validate(s Scope) error {
	return errors.Join(a.Source.validate(s), a.Bounds.validate(), a.times(s))
}

// times checks the moment from which the time counts, and the lengths of time.
func (a *Recovers) times(s Scope) error {
	var errs []error
	events := []plan.FaultEvent{plan.Started, plan.InEffect, plan.Undone, plan.Gone}
	switch ref := a.moment(); {
	case a.After == "":
		errs = append(errs, errors.New("after is missing: the moment from which the time counts, such as kill.in-effect"))
	case !slices.Contains(events, ref.Event):
		errs = append(errs, fmt.Errorf("after %q: write it as FAULT.started, FAULT.in-effect, FAULT.undone or FAULT.gone", a.After))
	default:
		errs = append(errs, oneOf("fault", ref.Fault, faultNames(s.Plan)))
	}
	if a.Within <= 0 {
		errs = append(errs, errors.New("within is missing: the longest time to recover, such as 2.5s"))
	}
	if a.Window < 0 {
		errs = append(errs, errors.New("window is negative"))
	}
	return errors.Join(errs...)
}

func (a *Recovers) measures() measured { return measured{a.Source, false, a.relative()} }

// Judge slides the window.
func (a *Recovers) Judge(_ context.Context, _ *plan.Plan, r *record.Round) Finding {
	if err := a.Bounds.validate(); err != nil {
		return invalid("%v", err)
	}
	if a.Within <= 0 || a.Window < 0 {
		return invalid("within %s and window %s: both are lengths of time", a.Within, a.Window)
	}
	from, ok := r.Moment(a.moment())
	if !ok {
		return invalid("%s never came", a.After)
	}
	_, to, ok := r.Phase(plan.PhaseRecovery)
	if !ok {
		return invalid("the round did not reach the phase recovery")
	}
	ss, err := a.samples(r, Window{from, to})
	if err != nil {
		return invalid("%v", err)
	}
	var base map[string]float64
	f := Finding{}
	if a.relative() {
		var w Window
		if base, w, err = a.bases(a.Source, r); err != nil {
			return invalid("%v", err)
		}
		f.Evidence = append(f.Evidence, Evidence{What: fmt.Sprintf("%s due in baseline", a.Source), File: a.file(), Window: &w, Values: base})
	}
	s := slider{figures: a.figures(), base: base, window: a.window()}
	out := s.slide(ss, from, to)
	within := a.Within.D()
	var sent slid // counted from when the requests were sent
	if !out.within(within) {
		sent = s.slide(asSent(ss), from, to)
	}
	var wanted []string
	for _, g := range s.figures {
		w := g.String()
		if g.bound.Unit == plan.Times {
			w += " (" + g.show(g.bound.Value*base[g.name]) + ")"
		}
		wanted = append(wanted, w)
	}
	bounds := strings.Join(wanted, " and ")
	ev := Evidence{
		What: fmt.Sprintf("%s due from %s to the end of recovery", a.Source, a.After), File: a.file(), Window: &Window{from, to}, Count: len(ss),
		Values: map[string]float64{"within": within.Seconds(), "window": s.window.Seconds(), "windows": float64(out.windows), "bad windows": float64(out.bad)},
	}
	where := fmt.Sprintf("in every window of %s of %s", seconds(s.window), a.Source)
	switch {
	case out.windows == 0:
		f.Reason = fmt.Sprintf("only %s lie between %s and the end of recovery, less than one window of %s", seconds(to-from), a.After, seconds(s.window))
	case !out.judged:
		f.Reason = fmt.Sprintf("no window of %s has the %d samples that %s needs", seconds(s.window), s.need(), bounds)
	case !out.recovered && to-s.window < from+within:
		f.Reason = fmt.Sprintf("the last window, %s after %s, still broke %s, and the phase is too short to see whether it held at %s",
			seconds(to-s.window-from), a.After, bounds, seconds(within))
	case sent.within(within):
		f.Reason = fmt.Sprintf("%s, it recovered %s after %s, wanted within %s: from then on %s held %s", lateness(ss), seconds(sent.ttr), a.After, seconds(within), bounds, where)
	case !out.recovered:
		f.Verdict = Fail
		f.Summary = fmt.Sprintf("never recovered: in the last window, %s after %s, %s was still broken; wanted within %s",
			seconds(to-s.window-from), a.After, bounds, seconds(within))
	case out.ttr > within:
		f.Verdict = Fail
		f.Summary = fmt.Sprintf("recovered %s after %s, wanted within %s: from then on %s held %s", seconds(out.ttr), a.After, seconds(within), bounds, where)
	case out.thin:
		f.Reason = fmt.Sprintf("from %s after %s on, some windows of %s have fewer than the %d samples that %s needs", seconds(out.ttr), a.After, seconds(s.window), s.need(), bounds)
	default:
		f.Verdict = Pass
		f.Summary = fmt.Sprintf("recovered %s after %s, wanted within %s: from then on %s held %s", seconds(out.ttr), a.After, seconds(within), bounds, where)
	}
	if f.Verdict == Invalid {
		f.Summary = f.Reason
	}
	if out.recovered {
		ev.Values["time to recover"] = out.ttr.Seconds()
	}
	f.Evidence = append(f.Evidence, ev)
	return f
}
