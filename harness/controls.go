package harness

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hasvc/gauntlet/assertions"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
	"github.com/hasvc/gauntlet/reports"
)

// RunControls carries out every control of the scenario after its unchanged run, with the same seed, and adds what
// became of them to the result. After a run that did not pass none is carried out: none could show anything.
func (s *Scenario) RunControls(ctx context.Context, unchanged *reports.Result, opt Options, dir func(control string) string) error {
	p := unchanged.Run.Plan
	opt.Seed = &p.Seed
	for _, c := range p.Controls {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if opt.Progress != nil {
			opt.Progress("control " + c.Name)
		}
		out := reports.ControlResult{Name: c.Name, NoFault: c.NoFault}
		if unchanged.Verdict != assertions.Pass {
			// Whatever it did would show nothing, and a run that broke early has nothing that no-fault could be compared with.
			out.Verdict, out.Reason = Right(unchanged.Verdict, p, c, nil)
			out.Reason = "not run: " + out.Reason
		} else {
			opt.Control, opt.Dir, opt.Unchanged = c.Name, dir(c.Name), unchanged.Run
			r, err := s.Run(ctx, opt)
			if ctx.Err() != nil { // what was interrupted is no outcome
				return fmt.Errorf("control %s: %w", c.Name, context.Cause(ctx))
			}
			if err != nil { // without it the record would say that all of them were killed
				out.Verdict, out.Reason = assertions.Invalid, "could not be run: "+err.Error()
				unchanged.Controls = append(unchanged.Controls, out)
				return errors.Join(fmt.Errorf("control %s: %w", c.Name, err), reports.Save(*unchanged))
			}
			out.Dir, out.Findings = r.Run.Dir, r.Findings
			out.Verdict, out.Reason = Right(unchanged.Verdict, p, c, r.Findings)
		}
		if opt.Progress != nil {
			opt.Progress("control " + c.Name + became(c, out.Verdict) + out.Reason)
		}
		unchanged.Controls = append(unchanged.Controls, out)
		// Now, and not when all have run: whatever ends this early, one that lived stays in the record.
		if err := reports.Save(*unchanged); err != nil {
			return err
		}
	}
	return nil
}

// checkControl judges the record of a control of run. Where that is not there, what was judged before stands.
func checkControl(ctx context.Context, run *record.Run, unchanged assertions.Verdict, was reports.ControlResult) reports.ControlResult {
	if was.Dir == "" {
		return was // it was not run
	}
	i := slices.IndexFunc(run.Plan.Controls, func(c plan.Control) bool { return c.Name == was.Name })
	if i < 0 {
		was.Unread = "the scenario in the record has no such control"
		return was
	}
	control, done, err := openControl(run, was)
	if err != nil {
		was.Unread = "its record cannot be read: " + err.Error()
		return was
	}
	defer done()
	out := reports.ControlResult{Name: was.Name, NoFault: was.NoFault, Dir: control.Dir}
	out.Findings, _ = assertions.Judge(ctx, control)
	out.Verdict, out.Reason = Right(unchanged, run.Plan, run.Plan.Controls[i], out.Findings)
	return out
}

// openControl opens the record of a control that was run with run. It stands beside run's; only where that was moved alone, where it
// was written, and there, or in a directory of the same name, another run may have left its own.
func openControl(run *record.Run, was reports.ControlResult) (control *record.Run, done func(), err error) {
	for _, dir := range []string{filepath.Join(filepath.Dir(run.Dir), filepath.Base(was.Dir)), was.Dir} {
		if control, done, err = openRun(dir); err != nil {
			continue
		}
		p := control.Plan
		if p.Name == run.Plan.Name && p.Seed == run.Plan.Seed && p.Control != nil && p.Control.Name == was.Name {
			return control, done, nil
		}
		done()
		err = fmt.Errorf("%s is that of another run", dir)
	}
	return nil, nil, err
}

func became(c plan.Control, v assertions.Verdict) string {
	switch {
	case v == assertions.Invalid:
		return " shows nothing: "
	case c.NoFault && v == assertions.Pass:
		return " is quiet: "
	case c.NoFault:
		return " is not quiet: "
	case v == assertions.Pass:
		return " is killed: "
	}
	return " lives: "
}

// Right says whether a control of a plan came out as it must: PASS where it was killed, or, without a fault, is quiet; INVALID where
// it showed nothing either way. The reason is given each time.
func Right(unchanged assertions.Verdict, p *plan.Plan, c plan.Control, fs []assertions.Finding) (assertions.Verdict, string) {
	if c.NoFault {
		return quiet(unchanged, p, fs)
	}
	return Killed(unchanged, c, fs)
}

// Killed says whether a control did its work: the unchanged run passed, the control's own faults were proved, and each
// assertion that it names failed itself. It lives where one of these passed in a run that can be believed. The reason is given each time.
func Killed(unchanged assertions.Verdict, c plan.Control, fs []assertions.Finding) (assertions.Verdict, string) {
	if unchanged != assertions.Pass {
		return assertions.Invalid, fmt.Sprintf("the unchanged run is %s, so that a failure here proves nothing", unchanged)
	}
	for _, f := range fs {
		if f.Kind == assertions.FaultsProved && f.Verdict != assertions.Pass {
			return assertions.Invalid, "its faults were not proved: " + f.Reason
		}
	}
	if len(c.MustFail) == 0 {
		return assertions.Fail, "it names no assertion that must fail"
	}
	var survived []string
	lives := false
	for _, id := range c.MustFail {
		of := slices.DeleteFunc(slices.Clone(fs), func(f assertions.Finding) bool { return f.ID != id })
		if slices.ContainsFunc(of, func(f assertions.Finding) bool { return f.Verdict == assertions.Fail }) {
			continue
		}
		var told []string
		passed := len(of) > 0
		for _, f := range of {
			told = append(told, f.Verdict.String()+" ("+f.Said()+")")
			passed = passed && f.Verdict == assertions.Pass
		}
		survived = append(survived, id+", which is "+strings.Join(told, ", "))
		lives = lives || passed
	}
	if len(survived) == 0 {
		return assertions.Pass, "failed as they must: " + strings.Join(c.MustFail, ", ")
	}
	why := "did not fail: " + strings.Join(survived, "; ")
	for _, f := range fs {
		if f.Class == assertions.Premise && f.Verdict != assertions.Pass {
			return assertions.Invalid, why + "; what it rests on does not hold: " + f.ID + " (" + f.Reason + ")"
		}
	}
	if !lives {
		return assertions.Invalid, why
	}
	return assertions.Fail, why
}
