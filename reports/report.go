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
	Name     string
	NoFault  bool   // the A/A control, in which nothing may fail
	Killed   bool   // it came out as it must; of the A/A control: quiet
	Reason   string // why not, or which assertions killed it
	Dir      string // its run directory
	Findings []assertions.Finding
}

// Format is a row of the table.
type Format struct {
	Name   string
	Doc    string
	Render func(w io.Writer, results []Result) error
}
