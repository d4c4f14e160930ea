package faults

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
)

// Ramp changes the rate of a load evenly over a time, then holds it. It is undone by the planned rate.
type Ramp struct {
	Load string    `json:"load"`
	From Pace      `json:"from,omitzero"` // default: the planned rate at that moment
	To   Pace      `json:"to"`
	Over plan.Span `json:"over"`
}

// Validate returns every error.
func (r *Ramp) Validate() error {
	var errs []error
	if r.Load == "" {
		errs = append(errs, errors.New("load is missing: which load?"))
	}
	if r.To.IsZero() {
		errs = append(errs, errors.New("to is missing: 500/s, or 3x for a multiple of the planned rate"))
	}
	if r.From == r.To && !r.To.IsZero() {
		errs = append(errs, fmt.Errorf("from and to are both %s", r.To))
	}
	if r.Over.Lo <= 0 {
		errs = append(errs, fmt.Errorf("over %v: the time that the change takes, more than 0", r.Over))
	}
	return errors.Join(errs...)
}

// Targets are none: a load is no node.
func (r *Ramp) Targets() []plan.Target { return nil }

// ChangesLoad is the load.
func (r *Ramp) ChangesLoad() string { return r.Load }

// Inject begins the change.
func (r *Ramp) Inject(_ context.Context, env *Env) (*Effect, error) {
	before, err := progress(env, r.Load)
	if err != nil {
		return nil, err
	}
	from, to := before.PlannedRate, r.To.of(before.PlannedRate)
	if !r.From.IsZero() {
		from = r.From.of(before.PlannedRate)
	}
	if from == to {
		return nil, fmt.Errorf("a ramp of %s from %.4g/s to %.4g/s is none", r.Load, from, to)
	}
	g := &surge{env: env, load: r.Load}
	if err := g.begin(plan.RateChange{Stages: []plan.Stage{{For: plan.Duration(r.Over.D()), From: from, To: to}}}); err != nil {
		return nil, err
	}
	return &Effect{Prove: g.proved, Patience: firstDue(from, to, r.Over.D()), Gone: g.undone, Bitten: func(context.Context) (string, error) {
		now, evidence, err := g.changed()
		if took := (now.At - g.from.At).D(); err == nil && took < r.Over.D() {
			return "", NotYet("it was undone after %v, at %.4g/s of %.4g/s", took.Round(time.Millisecond), now.Rate, to)
		}
		return evidence, err
	}}, nil
}
