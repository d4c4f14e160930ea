package engine

import (
	"fmt"

	"github.com/hasvc/gauntlet/harness/plan"
)

// Paced is a Generator whose rate a fault may change.
type Paced interface {
	// Change gives the load other rates from now on, until back is called.
	Change(c plan.RateChange) (back func() error, err error)
	Progress() plan.LoadProgress
}

// loads are the loads of a round, as faults see them.
type loads map[string]Generator

// Change is part of faults.Loads.
func (l loads) Change(load string, c plan.RateChange) (back func() error, err error) {
	g, err := l.paced(load)
	if err != nil {
		return nil, err
	}
	return g.Change(c)
}

// Progress is part of faults.Loads.
func (l loads) Progress(load string) (plan.LoadProgress, error) {
	g, err := l.paced(load)
	if err != nil {
		return plan.LoadProgress{}, err
	}
	return g.Progress(), nil
}

func (l loads) paced(load string) (Paced, error) {
	g, ok := l[load]
	if !ok {
		return nil, fmt.Errorf("no load that runs is called %q", load)
	}
	p, ok := g.(Paced)
	if !ok {
		return nil, fmt.Errorf("the rate of load %s cannot be changed while it runs", load)
	}
	return p, nil
}
