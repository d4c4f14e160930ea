package harness

import (
	"context"
	"errors"

	"github.com/hasvc/gauntlet/harness/cluster/docker"
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
	Note   string // what is different here, and works all the same
}

// Doctor tries every driver, stage by stage.
func Doctor(ctx context.Context) []Diagnosis {
	d := Diagnosis{Driver: "sandbox"}
	for _, s := range sandbox.Doctor(ctx) {
		d.Stages = append(d.Stages, Stage{Name: s.Name, Doc: s.Doc, Err: s.Err, Remedy: s.Remedy})
	}
	c := Diagnosis{Driver: "docker"}
	for _, s := range docker.Doctor(ctx) {
		c.Stages = append(c.Stages, Stage{Name: s.Name, Doc: s.Doc, Err: s.Err, Remedy: s.Remedy, Note: s.Note})
	}
	return []Diagnosis{d, c}
}

// Clean removes what runs that were killed have left, and returns its names. Runs that go on are not touched.
func Clean(ctx context.Context) ([]string, error) {
	removed, err := sandbox.Clean()
	contained, dockerErr := docker.Clean(ctx)
	return append(removed, contained...), errors.Join(err, dockerErr)
}
