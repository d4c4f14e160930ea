package harness

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hasvc/gauntlet/assertions"
	"github.com/hasvc/gauntlet/harness/engine"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// withoutFaults makes the plan of the A/A control: the phases as long as they were in the unchanged run, nothing done in them, and
// the lives of that run's faults written down where they were, and the links through the core those of that run.
func withoutFaults(p *plan.Plan, unchanged *record.Run) error {
	if unchanged == nil {
		return fmt.Errorf("the control %s is compared with an unchanged run, and none is given", plan.NoFaultControl)
	}
	for i := range p.Rounds {
		at := slices.IndexFunc(unchanged.Rounds, func(r *record.Round) bool { return r.N == p.Rounds[i].N })
		if at < 0 {
			return fmt.Errorf("the unchanged run has no round %d", p.Rounds[i].N)
		}
		q, err := quietOf(unchanged.Rounds[at])
		if err != nil {
			return err
		}
		q.Toxic, q.Replied = engine.ToxicOn(p.Rounds[i]), engine.RepliedOn(p.Rounds[i])
		p.Rounds[i].Faults, p.Rounds[i].Quiet = nil, q
	}
	// Conditions that ended a phase may have been about the faults: the length that came of them stands.
	if p.Baseline.Until != nil {
		p.Baseline = plan.Baseline{AtLeast: max(p.Baseline.AtLeast, longest(unchanged, plan.PhaseBaseline))}
	}
	if p.RecoveryUntil != nil {
		p.Recovery, p.RecoveryUntil, p.RecoveryTimeout = max(p.Recovery, longest(unchanged, plan.PhaseRecovery)), nil, 0
	}
	p.Require = slices.DeleteFunc(slices.Clone(p.Require), func(q plan.Require) bool { return aboutFaults(q.Condition) })
	return nil
}

// quietOf is the fault phase of a round without what was done in it.
func quietOf(r *record.Round) (*plan.Quiet, error) {
	from, to, ok := r.Phase(plan.PhaseFault)
	if !ok || !r.Ended(plan.PhaseFault) {
		return nil, fmt.Errorf("the fault phase of round %d of the unchanged run did not come to its end", r.N)
	}
	q := &plan.Quiet{For: plan.Duration(to - from)}
	for _, e := range r.Events {
		switch e.Kind {
		case record.FaultStarted, record.FaultInEffect, record.FaultUndone, record.FaultGone:
		default:
			continue
		}
		// What is held to the end is undone after the load, where nothing is measured.
		if at := e.T - from; at <= to-from {
			q.Moments = append(q.Moments, plan.Moment{Fault: e.Fault, Kind: e.FaultKind, Occurrence: e.Occurrence,
				Event: plan.FaultEvent(strings.TrimPrefix(string(e.Kind), "fault.")), At: plan.Duration(max(0, at)), Targets: e.Targets, Links: e.Links})
		}
	}
	return q, nil
}

// longest is the longest that a phase lasted in any round.
func longest(run *record.Run, phase string) plan.Duration {
	var d plan.Duration
	for _, r := range run.Rounds {
		if from, to, ok := r.Phase(phase); ok {
			d = max(d, plan.Duration(to-from))
		}
	}
	return d
}

func aboutFaults(c plan.Condition) bool {
	return c.Event != nil || c.Log != nil && strings.HasPrefix(c.Log.Node, "$")
}

// quiet says whether the A/A control was undisturbed: every assertion passed, but those that ask for the damage of a fault. The
// reason is given each time.
func quiet(unchanged assertions.Verdict, p *plan.Plan, fs []assertions.Finding) (assertions.Verdict, string) {
	if unchanged != assertions.Pass {
		return assertions.Invalid, fmt.Sprintf("the unchanged run is %s, so that noise here says nothing about its bounds", unchanged)
	}
	excused := assertions.AskForDamage(p)
	var broken, unshown []string
	held := 0
	for _, f := range fs {
		switch {
		case f.Class == assertions.Premise && !(carriesTheRun(f) && f.Verdict != assertions.Pass), slices.Contains(excused, f.ID):
		case f.Verdict == assertions.Pass:
			held++
		case f.Verdict == assertions.Fail:
			broken = append(broken, f.ID+" ("+f.Summary+")")
		default:
			unshown = append(unshown, f.ID+" ("+f.Reason+")")
		}
	}
	var also string
	if len(excused) > 0 {
		also = "; not asked, since they ask for the damage of a fault: " + strings.Join(excused, ", ")
	}
	switch {
	case len(broken) > 0:
		return assertions.Fail, "broken without a fault, so that the bound is wrong: " + strings.Join(broken, "; ") + also
	case len(unshown) > 0:
		return assertions.Invalid, "nothing was shown of: " + strings.Join(unshown, "; ") + also
	case held == 0:
		return assertions.Invalid, "nothing was shown: no finding holds" + also
	}
	return assertions.Pass, fmt.Sprintf("without a fault %d findings hold", held) + also
}

// carriesTheRun reports whether a premise is one that no other finding stands in for: of a round that was not executed, and of what the
// record lost, there is no finding that could be INVALID. The other premises make INVALID what rests on them. What nothing rests on
// (audit: something was left behind when the topology was down already) was no noise under load.
func carriesTheRun(f assertions.Finding) bool { return f.Kind == "run" || f.Kind == "record" }
