package faults

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/hasvc/gauntlet/harness/plan"
)

// Spike gives a load another rate at once. It is undone by the planned rate.
type Spike struct {
	Load string `json:"load"`
	Rate Pace   `json:"rate"`
}

// Validate returns every error.
func (s *Spike) Validate() error {
	var errs []error
	if s.Load == "" {
		errs = append(errs, errors.New("load is missing: which load?"))
	}
	if s.Rate.IsZero() {
		errs = append(errs, errors.New("rate is missing: 500/s, or 3x for a multiple of the planned one"))
	}
	if s.Rate.Times == 1 {
		errs = append(errs, errors.New("rate 1x is the planned rate"))
	}
	return errors.Join(errs...)
}

// Targets are none: a load is no node.
func (s *Spike) Targets() []plan.Target { return nil }

// ChangesLoad is the load.
func (s *Spike) ChangesLoad() string { return s.Load }

// Inject changes the rate.
func (s *Spike) Inject(_ context.Context, env *Env) (*Effect, error) {
	before, err := progress(env, s.Load)
	if err != nil {
		return nil, err
	}
	rate := s.Rate.of(before.PlannedRate)
	if math.Abs(rate-before.PlannedRate) < 0.01*before.PlannedRate || rate == 0 {
		return nil, fmt.Errorf("a spike of %s to %s is none: %.4g/s are planned at that moment", s.Load, s.Rate, before.PlannedRate)
	}
	change := plan.RateChange{Times: s.Rate.Times}
	if s.Rate.Times == 0 {
		change.Stages = []plan.Stage{{From: rate, To: rate}}
	}
	g := &surge{env: env, load: s.Load}
	if err := g.begin(change); err != nil {
		return nil, err
	}
	return &Effect{Prove: g.proved, Patience: firstDue(rate, rate, 0), Bitten: g.proved, Gone: g.undone}, nil
}
