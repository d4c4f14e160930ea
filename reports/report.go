// Package reports renders findings: one file per format, one table of all (Table).
package reports

import (
	"io"

	"github.com/hasvc/gauntlet/assertions"
	"github.com/hasvc/gauntlet/harness/record"
)

// Result is what a format renders: one run, or a run with its controls.
type Result struct {
	Run      *record.Run
	Findings []assertions.Finding
	Verdict  assertions.Verdict
	Controls []ControlResult // of `run --controls`, in the order of the scenario
}

// ControlResult is one control and what became of it.
type ControlResult struct {
	Name    string
	NoFault bool // the A/A control, in which nothing may fail
	// Verdict is PASS where it came out as it must: it was killed, or, without a fault, is quiet. INVALID: it showed nothing either way.
	Verdict  assertions.Verdict
	Reason   string // why not, or which assertions killed it
	Unread   string // why its record could not be judged again; what stands here was judged before
	Dir      string // its run directory
	Findings []assertions.Finding
}

// outcome of one of the controls: beside a run that did not pass none shows anything.
func (r Result) outcome(c ControlResult) assertions.Verdict {
	if r.Verdict != assertions.Pass {
		return assertions.Invalid
	}
	return c.Verdict
}

// Overall is the worst verdict of runs and their controls. A control that survived is a FAIL, of the scenario rather than the
// service.
func Overall(results []Result) assertions.Verdict {
	var vs []assertions.Verdict
	for _, r := range results {
		vs = append(vs, r.Verdict)
		for _, c := range r.Controls {
			vs = append(vs, r.outcome(c))
		}
	}
	return assertions.Worst(vs...)
}

// Unrun is a run that was asked for and did not come about. It shows nothing, and what is printed of the others says so: without it a
// document of those that passed would be green.
type Unrun struct {
	Scenario string
	Seed     uint64
	Error    string
}

// Format is a row of the table.
type Format struct {
	Name   string
	Doc    string
	Render func(w io.Writer, results []Result, unrun ...Unrun) error
}
