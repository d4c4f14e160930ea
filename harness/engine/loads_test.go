package engine

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/plan"
)

// steady is a Generator whose rate cannot be changed.
type steady struct{}

func (steady) Run(context.Context) error            { return nil }
func (steady) Success(plan.Duration) (float64, int) { return 1, 0 }
func (steady) Ended(plan.Duration) (float64, int)   { return 1, 0 }

// variable is one whose rate can.
type variable struct {
	steady
	now plan.RateChange
}

func (v *variable) Change(c plan.RateChange) (func() error, error) {
	v.now = c
	return func() error { v.now = plan.RateChange{Times: 1}; return nil }, nil
}

func (v *variable) Progress() plan.LoadProgress { return plan.LoadProgress{Sent: 7} }

func TestFaultsReachTheLoadsThatRun(t *testing.T) {
	v := &variable{}
	l := newLoads(map[string]Generator{"web": v, "other": steady{}})
	back, err := l.Change("web", plan.RateChange{Times: 3})
	require.NoError(t, err)
	assert.Equal(t, plan.RateChange{Times: 3}, v.now)
	assert.Equal(t, 1, l.Changes("web"))
	require.NoError(t, back())
	assert.Equal(t, plan.RateChange{Times: 1}, v.now)
	p, err := l.Progress("web")
	require.NoError(t, err)
	assert.EqualValues(t, 7, p.Sent)
	_, err = l.Change("wbe", plan.RateChange{Times: 3})
	assert.ErrorContains(t, err, `"wbe"`)
	_, err = l.Progress("other")
	assert.ErrorContains(t, err, "cannot be changed")
	assert.Equal(t, 1, l.Changes("web"), "what was given back is no change of a fault's")
	assert.Zero(t, l.Changes("wbe"), "nor is one that was refused")
}
