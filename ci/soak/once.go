package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hasvc/gauntlet/assertions"
	"github.com/hasvc/gauntlet/harness"
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/record"
	"github.com/hasvc/gauntlet/reports"
)

// carrier is a driver, and the engine below it.
type carrier struct {
	cluster.Driver
	engine string // empty: it has none
}

func newCarrier(ctx context.Context, name string) (carrier, error) {
	d, err := harness.DriverByName(name)
	if err != nil {
		return carrier{}, err
	}
	c := carrier{Driver: d}
	if name == "docker" {
		c.engine, err = engineVersion(ctx)
	}
	return c, err
}

// once runs a scenario and those of its controls that are missing, with a seed of its own for each turn. The scenario itself is run for
// its controls too, which are the same run with a change.
func once(ctx context.Context, s *harness.Scenario, on carrier, missing []string, dir string, turn int, note func(result) error) error {
	seed := s.Seed(nil) + uint64(turn)
	dir = filepath.Join(dir, fmt.Sprintf("%s-%s-%d", s.Name(), on.Name(), turn+1))
	var unchanged *record.Run
	try := func(control, dir string, judge func(*reports.Result) (right bool, why string)) (*reports.Result, error) {
		begin := time.Now()
		r, err := s.Run(ctx, harness.Options{Driver: on.Driver, Seed: &seed, Control: control, Dir: dir, Unchanged: unchanged})
		if err != nil || ctx.Err() != nil {
			return nil, err // what was interrupted is no verdict
		}
		right, why := judge(r)
		if right {
			os.RemoveAll(r.Run.Dir)
		}
		return r, note(result{Time: begin, Driver: on.Name(), Engine: on.engine, Scenario: s.Name(), Control: control,
			Turn: turn + 1, Right: right, Why: why, Seconds: length(r.Run).Seconds(), Machine: machine(r.Findings)})
	}
	r, err := try("", dir, func(r *reports.Result) (bool, string) {
		return r.Verdict == assertions.Pass, reason(r.Findings)
	})
	if r == nil || err != nil {
		return err
	}
	unchanged = r.Run
	for i, c := range r.Run.Plan.Controls {
		if !slices.Contains(missing, c.Name) {
			continue
		}
		cr, err := try(c.Name, fmt.Sprintf("%s-%d", dir, i+1), func(r *reports.Result) (bool, string) {
			// Judged against a passing run: whether the unchanged one passed has a line of its own.
			v, why := harness.Right(assertions.Pass, unchanged.Plan, c, r.Findings)
			return v == assertions.Pass, why
		})
		if cr == nil || err != nil {
			return err
		}
	}
	return nil
}

// length of a run, without what it waited for before it: builds, and the turns of others.
func length(run *record.Run) time.Duration {
	if len(run.Events) == 0 {
		return 0
	}
	return run.Events[len(run.Events)-1].T
}

// machine is what the run and other programs took of the machine, where it was told.
func machine(fs []assertions.Finding) map[string]float64 {
	for _, f := range fs {
		if f.Kind == "surroundings" && len(f.Evidence) > 0 {
			return f.Evidence[0].Values
		}
	}
	return nil
}

// reason is the first finding that did not pass.
func reason(fs []assertions.Finding) string {
	for _, f := range fs {
		if f.Verdict != assertions.Pass {
			return fmt.Sprintf("%s %s: %s", f.ID, f.Verdict, f.Said())
		}
	}
	return ""
}
