package engine

import (
	"fmt"
	"sync"

	"github.com/hasvc/gauntlet/harness/plan"
)

// Paced is a Generator whose rate a fault may change.
type Paced interface {
	// Change gives the load other rates from now on, until back is called.
	Change(c plan.RateChange) (back func() error, err error)
	Progress() plan.LoadProgress
}

// loads are the loads of a round, as faults see them.
type loads struct {
	running map[string]Generator

	mu      sync.Mutex
	changes map[string]int
}

func newLoads(running map[string]Generator) *loads {
	return &loads{running: running, changes: map[string]int{}}
}

// Change is part of faults.Loads.
func (l *loads) Change(load string, c plan.RateChange) (back func() error, err error) {
	g, err := l.paced(load)
	if err != nil {
		return nil, err
	}
	l.mu.Lock() // whoever has seen the new rate is told of the change
	defer l.mu.Unlock()
	if back, err = g.Change(c); err == nil {
		l.changes[load]++
	}
	return back, err
}

// Changes is part of faults.Loads.
func (l *loads) Changes(load string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changes[load]
}

// Progress is part of faults.Loads.
func (l *loads) Progress(load string) (plan.LoadProgress, error) {
	g, err := l.paced(load)
	if err != nil {
		return plan.LoadProgress{}, err
	}
	return g.Progress(), nil
}

func (l *loads) paced(load string) (Paced, error) {
	g, ok := l.running[load]
	if !ok {
		return nil, fmt.Errorf("no load that runs is called %q", load)
	}
	p, ok := g.(Paced)
	if !ok {
		return nil, fmt.Errorf("the rate of load %s cannot be changed while it runs", load)
	}
	return p, nil
}
