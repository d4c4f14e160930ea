package assertions

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// DefaultDeadline bounds one assertion in one round.
const DefaultDeadline = time.Minute

// grace is how long a checker that is out of time may take to notice.
const grace = 2 * time.Second

// FaultsProved is the Kind of the premise that every fault of a round took effect, by proof.
const FaultsProved = "faults"

// Judge judges a record: first the premises of the whole run, then, round by round, the premises, the assertions of the
// scenario and the implicit exits. The second result is the worst verdict of all: FAIL over INVALID over PASS.
//
// Each assertion has DefaultDeadline in each round. A checker that takes longer, or panics, is INVALID.
//
// The rule of the classes: a service finding is INVALID, whatever it measured, unless its premises hold; a safety
// finding that is FAIL stays FAIL, and one that is PASS rests on a whole history that was read back. A finding that
// contradicts the history as a whole (linearizable) needs the whole history for its FAIL too.
func Judge(ctx context.Context, run *record.Run) ([]Finding, Verdict) {
	return JudgeWithin(ctx, run, DefaultDeadline)
}

// JudgeWithin is Judge with another deadline.
func JudgeWithin(ctx context.Context, run *record.Run, deadline time.Duration) ([]Finding, Verdict) {
	j := judge{run: run, deadline: deadline}
	fs := j.whole()
	for _, pr := range run.Plan.Rounds {
		i := slices.IndexFunc(run.Rounds, func(r *record.Round) bool { return r.N == pr.N })
		if i < 0 {
			continue // the premise "run" says so
		}
		fs = append(fs, j.round(ctx, pr, run.Rounds[i])...)
	}
	verdicts := make([]Verdict, len(fs))
	for i, f := range fs {
		verdicts[i] = f.Verdict
	}
	return fs, Worst(verdicts...)
}

// judge is one judgement of a run.
type judge struct {
	run      *record.Run
	deadline time.Duration

	cut   []string // why the run as a whole cannot be trusted
	holes []string // why a history cannot be trusted to be whole
}

// verdict on one assertion's parameters, decoded once for each round.
type asked struct {
	plan.Assert
	kind   Kind
	params Params
	err    error
}

func (j *judge) asked() []asked {
	var out []asked
	implicit := true
	for _, a := range j.run.Plan.Assert {
		x := asked{Assert: a}
		var ok bool
		if x.kind, ok = ByName(a.Kind); !ok {
			x.kind.Name, x.kind.Class = a.Kind, Service
			x.err = fmt.Errorf("no assertion is called %q", a.Kind)
		} else {
			x.params = x.kind.New()
			if len(a.Params) > 0 {
				x.err = json.Unmarshal(a.Params, x.params)
			}
		}
		implicit = implicit && a.Kind != "exits"
		out = append(out, x)
	}
	if implicit {
		k, _ := ByName("exits")
		out = append(out, asked{Assert: plan.Assert{ID: "exits", Kind: "exits"}, kind: k, params: k.New()})
	}
	return out
}

// round judges one round.
func (j *judge) round(ctx context.Context, pr plan.Round, r *record.Round) []Finding {
	all := j.asked()
	pre := j.premises(pr, r, all)
	fs := pre.findings
	starved, seen := surroundings(r)
	excused := false
	var asserted []Finding
	for _, a := range all {
		f := j.guarded(ctx, a, r)
		j.gate(&f, a, r, pre)
		if _, ok := a.params.(measurer); ok && starved != "" && f.Verdict == Fail && !f.proven {
			f.Verdict, f.Reason, excused = Invalid, "it would be FAIL, but "+starved, true
		}
		f.ID, f.Kind, f.Class, f.Round = a.ID, a.Kind, a.kind.Class, r.N
		asserted = append(asserted, f)
	}
	if seen != nil {
		// What was kept in spite of it stands, so the premise is broken only where something rests on it.
		var why []string
		if excused {
			why = []string{starved}
		}
		fs = append(fs, premise("surroundings", "surroundings", r.N, fmt.Sprintf("other programs took %s of the machine under load", percent(seen.Values["others"])), why, *seen))
	}
	return append(fs, asserted...)
}

// measurer is an assertion about service level.
type measurer interface{ measures() measured }

// measured says what a finding about service level rests on.
type measured struct {
	src          Source // the zero Source: every load of the plan
	baselineOnly bool   // it measures the baseline and nothing else
	relative     bool   // a bound is a multiple of the baseline
}

// sources are what must have been steady, without a choice among their requests.
func (m measured) sources(p *plan.Plan) []Source {
	if m.src.Load != "" || m.src.Workload != "" {
		return []Source{{Load: m.src.Load, Workload: m.src.Workload}}
	}
	var all []Source
	for _, l := range p.Loads {
		all = append(all, Source{Load: l.Name})
	}
	return all
}

// historian is an assertion about the history of a workload.
type historian interface{ history() string }

// wholeHistorian is an assertion that even its FAIL rests on having seen every operation.
type wholeHistorian interface{ wholeHistory() string }

// identified is an assertion that is judged by its id.
type identified interface {
	judgeFor(id string, r *record.Round) Finding
}

// guarded runs a checker: a panic or a lack of time is INVALID. A checker is given a context with its deadline and time
// to notice; one that still does not end is left behind, and ends with the program.
func (j *judge) guarded(ctx context.Context, a asked, r *record.Round) Finding {
	if a.err != nil {
		return invalid("its parameters cannot be read: %v", a.err)
	}
	if a.kind.Unsupported != "" {
		return invalid("%s", a.kind.Unsupported)
	}
	ctx, cancel := context.WithTimeout(ctx, j.deadline)
	defer cancel()
	done := make(chan Finding, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				f := invalid("the checker panicked: %v", p)
				f.Evidence = []Evidence{{What: "stack of the checker", Detail: string(debug.Stack())}}
				done <- f
			}
		}()
		if x, ok := a.params.(identified); ok {
			done <- x.judgeFor(a.ID, r)
			return
		}
		done <- a.params.Judge(ctx, j.run.Plan, r)
	}()
	select {
	case f := <-done:
		return f
	case <-ctx.Done():
	}
	late := time.NewTimer(grace)
	defer late.Stop()
	select {
	case f := <-done:
		return f
	case <-late.C:
		return invalid("the checker did not come to an end within %s", j.deadline)
	}
}

// gate applies the rule of the classes.
func (j *judge) gate(f *Finding, a asked, r *record.Round, pre premises) {
	var why []string
	if m, ok := a.params.(measurer); ok && a.err == nil {
		rest := m.measures()
		why = append(why, j.cut...)
		for _, src := range rest.sources(j.run.Plan) {
			why = append(why, pre.generator[src.Load]...)
		}
		if rest.baselineOnly {
			why = append(why, pre.baseline...)
		} else {
			why = append(why, pre.phases...)
			for _, src := range rest.sources(j.run.Plan) {
				why = append(why, pre.steady[src]...)
				if rest.relative {
					why = append(why, pre.drift[src]...)
				}
			}
			why = append(why, pre.faults...)
			why = append(why, pre.required...)
		}
		if f.Verdict != Invalid && len(why) > 0 && !f.proven {
			f.Reason = fmt.Sprintf("it would be %s, but %s", f.Verdict, strings.Join(why, "; "))
			f.Verdict = Invalid
		}
		return
	}
	if w, ok := a.params.(wholeHistorian); ok && f.Verdict == Fail {
		// What a workload that died had under way, and what the record lost, could explain what looks impossible.
		if why := append(slices.Clone(j.holes), pre.workload[w.wholeHistory()]...); len(why) > 0 {
			f.Verdict = Invalid
			f.Reason = "it would be FAIL, but the history is not whole: " + strings.Join(why, "; ")
		}
		return
	}
	if a.kind.Class != Safety || f.Verdict != Pass {
		return
	}
	why = append(why, j.holes...)
	if h, ok := a.params.(historian); ok {
		why = append(why, pre.workload[h.history()]...)
		if !r.Ended(plan.PhaseVerify) {
			why = append(why, "the phase verify did not come to its end")
		}
	}
	if len(why) > 0 {
		f.Verdict = Invalid
		f.Reason = "nothing was found against it, but " + strings.Join(why, "; ")
	}
}
