package harness

import (
	"context"
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
// became of them to the result.
func (s *Scenario) RunControls(ctx context.Context, unchanged *reports.Result, opt Options, dir func(control string) string) error {
	p := unchanged.Run.Plan
	opt.Seed = &p.Seed
	for _, c := range p.Controls {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		opt.Control, opt.Dir, opt.Unchanged = c.Name, dir(c.Name), unchanged.Run
		if opt.Progress != nil {
			opt.Progress("control " + c.Name)
		}
		r, err := s.Run(ctx, opt)
		if err != nil {
			return fmt.Errorf("control %s: %w", c.Name, err)
		}
		right, why := Right(unchanged.Verdict, p, c, r.Findings)
		if opt.Progress != nil {
			opt.Progress("control " + c.Name + became(c, right) + why)
		}
		unchanged.Controls = append(unchanged.Controls, reports.ControlResult{
			Name: c.Name, NoFault: c.NoFault, Killed: right, Reason: why, Dir: r.Run.Dir, Findings: r.Findings,
		})
		// Now, and not when all have run: whatever ends this early, one that lived stays in the record.
		if err := reports.Save(*unchanged); err != nil {
			return err
		}
	}
	return nil
}

// checkControl judges the record of a control that was run with run.
func checkControl(ctx context.Context, run *record.Run, unchanged assertions.Verdict, was reports.ControlResult) reports.ControlResult {
	out := reports.ControlResult{Name: was.Name, NoFault: was.NoFault, Dir: was.Dir}
	i := slices.IndexFunc(run.Plan.Controls, func(c plan.Control) bool { return c.Name == was.Name })
	if i < 0 {
		out.Reason = "the scenario in the record has no such control"
		return out
	}
	control, done, err := openControl(run, was)
	if err != nil {
		out.Reason = "its record cannot be read: " + err.Error()
		return out
	}
	defer done()
	out.Dir = control.Dir
	out.Findings, _ = assertions.Judge(ctx, control)
	c := run.Plan.Controls[i]
	out.Killed, out.Reason = Right(unchanged, run.Plan, c, out.Findings)
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

func became(c plan.Control, right bool) string {
	switch {
	case c.NoFault && right:
		return " is quiet: "
	case c.NoFault:
		return " is not quiet: "
	case right:
		return " is killed: "
	}
	return " lives: "
}

// Right says whether a control of a plan came out as it must: killed, or, without a fault, quiet. The reason is given either way.
func Right(unchanged assertions.Verdict, p *plan.Plan, c plan.Control, fs []assertions.Finding) (bool, string) {
	if c.NoFault {
		return quiet(unchanged, p, fs)
	}
	return Killed(unchanged, c, fs)
}

// Killed says whether a control did its work: the unchanged run passed, the control's own faults were proved, and each
// assertion that it names failed itself. The reason is given either way.
func Killed(unchanged assertions.Verdict, c plan.Control, fs []assertions.Finding) (bool, string) {
	if unchanged != assertions.Pass {
		return false, fmt.Sprintf("the unchanged run is %s, so that a failure here proves nothing", unchanged)
	}
	for _, f := range fs {
		if f.Kind == assertions.FaultsProved && f.Verdict != assertions.Pass {
			return false, "its faults were not proved: " + f.Reason
		}
	}
	if len(c.MustFail) == 0 {
		return false, "it names no assertion that must fail"
	}
	var survived []string
	for _, id := range c.MustFail {
		failed := slices.ContainsFunc(fs, func(f assertions.Finding) bool { return f.ID == id && f.Verdict == assertions.Fail })
		if !failed {
			survived = append(survived, id+", which is "+strings.Join(verdicts(fs, id), ", "))
		}
	}
	if len(survived) > 0 {
		return false, "did not fail: " + strings.Join(survived, "; ")
	}
	return true, "failed as they must: " + strings.Join(c.MustFail, ", ")
}

func verdicts(fs []assertions.Finding, id string) []string {
	var vs []string
	for _, f := range fs {
		if f.ID == id {
			vs = append(vs, f.Verdict.String()+" ("+f.Summary+f.Reason+")")
		}
	}
	return vs
}
