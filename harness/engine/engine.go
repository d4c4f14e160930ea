// Package engine executes a plan on a topology and writes what happened. It judges nothing.
//
// It owns every fault from its injection to the proof that it is gone: whatever happens, failure, panic, interruption
// or timeout, what was done is undone in reverse order, and the record can be read.
package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hasvc/gauntlet/faults"
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// Job is one execution.
type Job struct {
	Plan    *plan.Plan
	Spec    *cluster.Spec
	Bin     map[string]string // the plan's programs, built
	Volumes string            // directory of named volumes; empty: DIR/volumes, removed at the end
	Parts   Parts
	Record  *record.Writer
	// Progress, when set, is told what is being done, one line each.
	Progress func(line string)
}

// PlanError says that a plan cannot be executed here; it is found before anything starts.
type PlanError struct{ Problems []string }

func (e *PlanError) Error() string {
	s := "this plan cannot be executed here:"
	for _, p := range e.Problems {
		s += "\n  " + p
	}
	return s
}

// Check says whether the driver can do what the plan asks for, before anything starts: a *PlanError, or nil.
func Check(p *plan.Plan, d cluster.Driver) error {
	caps := d.Capabilities()
	var e PlanError
	seen := map[string]bool{}
	for _, r := range p.Rounds {
		for _, f := range r.Faults {
			if seen[f.ID] {
				continue
			}
			seen[f.ID] = true
			k, ok := faults.ByName(f.Kind)
			switch {
			case !ok:
				e.Problems = append(e.Problems, fmt.Sprintf("fault %s: no fault is called %q", f.ID, f.Kind))
				continue
			case k.Unsupported != "":
				e.Problems = append(e.Problems, fmt.Sprintf("fault %s: %s", f.ID, k.Unsupported))
				continue
			}
			for _, need := range k.Needs {
				if err := caps.Missing(need); err != nil {
					e.Problems = append(e.Problems, fmt.Sprintf("fault %s needs %s, which the driver %s cannot do here: %v", f.ID, need, d.Name(), err))
				}
			}
		}
	}
	if len(e.Problems) > 0 {
		return &e
	}
	return nil
}

// Execute carries the plan out. The record is complete when it returns, whatever the error: the error says what the
// harness or its surroundings could not do, and is in the record too. An interruption by ctx is not an error of Execute; it is in the record.
func Execute(ctx context.Context, j Job) (err error) {
	if err := Check(j.Plan, j.Parts.Driver); err != nil {
		return err
	}
	if j.Progress == nil {
		j.Progress = func(string) {}
	}
	j.Record.Event(record.Event{Kind: record.RunBegin})
	remove := func() error { return nil }
	if j.Volumes == "" {
		j.Volumes = filepath.Join(j.Record.Dir(), "volumes")
		remove = func() error { return RemoveVolumes(context.WithoutCancel(ctx), j.Parts.Driver, j.Volumes) }
	}
	if err = os.MkdirAll(j.Volumes, 0o755); err != nil {
		err = fmt.Errorf("make the directory of volumes: %w", err)
		j.Record.Event(record.Event{Kind: record.Failure, Error: err.Error()})
	} else {
		err = j.rounds(ctx)
	}
	if e := remove(); e != nil {
		e = fmt.Errorf("remove the volumes of the run: %w", e)
		j.Record.Event(record.Event{Kind: record.Failure, Error: e.Error()})
		err = errors.Join(err, e)
	}
	if ctx.Err() != nil {
		j.Record.Event(record.Event{Kind: record.Interrupted, Error: context.Cause(ctx).Error()})
		if errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx)) {
			err = nil
		}
	}
	j.Record.Event(record.Event{Kind: record.RunEnd})
	return err
}

// rounds executes one round after the other, until one breaks or is aborted.
func (j *Job) rounds(ctx context.Context) error {
	for _, r := range j.Plan.Rounds {
		if err := ctx.Err(); err != nil {
			return err
		}
		rd := newRound(*j, r)
		if err := rd.execute(ctx); err != nil || rd.aborted {
			return err
		}
	}
	return nil
}

// fresh empties the volumes of the groups and services that start each round with nothing.
func (j *Job) fresh(ctx context.Context) error {
	var names []string
	for _, s := range j.Spec.Services {
		if !slices.Contains(j.Plan.Fresh, s.Name) && (s.Group == "" || !slices.Contains(j.Plan.Fresh, s.Group)) {
			continue
		}
		for _, m := range s.Volumes {
			if m.Kind == "volume" {
				names = append(names, m.Source)
			}
		}
	}
	if len(names) == 0 {
		return nil
	}
	return RemoveVolumes(ctx, j.Parts.Driver, j.Volumes, names...)
}

// RemoveVolumes removes named volumes of a topology that is down, wherever its driver keeps them, or all of them with their directory.
func RemoveVolumes(ctx context.Context, d cluster.Driver, dir string, names ...string) error {
	var errs []error
	if k, ok := d.(cluster.VolumeKeeper); ok {
		if err := k.RemoveVolumes(ctx, dir, names...); err != nil {
			return err // by what is in the directory a driver finds them again
		}
	}
	if len(names) == 0 {
		errs = append(errs, removeTree(dir))
	}
	for _, name := range names {
		errs = append(errs, removeTree(filepath.Join(dir, name)))
	}
	return errors.Join(errs...)
}

// removeTree removes a tree that programs may have left without write permission for their owner.
func removeTree(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil {
		return nil
	}
	filepath.WalkDir(dir, func(path string, d os.DirEntry, _ error) error {
		if d != nil && d.IsDir() {
			os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// sleep waits, or returns the error of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
