package harness

import (
	"context"

	"github.com/hasvc/gauntlet/harness/cluster/sandbox"
)

// Diagnosis is what a driver's doctor found on this machine.
type Diagnosis struct {
	Driver string
	Stages []Stage
}

// Stage is one thing that the driver needs, tried for real.
type Stage struct {
	Name   string
	Doc    string
	Err    error
	Remedy string
}

// Doctor tries every driver, stage by stage.
func Doctor(ctx context.Context) []Diagnosis {
	d := Diagnosis{Driver: "sandbox"}
	for _, s := range sandbox.Doctor(ctx) {
		d.Stages = append(d.Stages, Stage{s.Name, s.Doc, s.Err, s.Remedy})
	}
	return []Diagnosis{d}
}

// Clean removes what runs that were killed have left, and returns its names. Runs that go on are not touched.
func Clean() ([]string, error) { return sandbox.Clean() }
