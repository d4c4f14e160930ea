package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// Without faults the phase is as long as it is told, the steps come where they are told, and nothing is done.
func TestAQuietRound(t *testing.T) {
	p := planOf()
	at := func(d time.Duration) plan.Duration { return plan.Duration(d) }
	p.Rounds[0].Quiet = &plan.Quiet{For: at(150 * time.Millisecond), Moments: []plan.Moment{
		{Fault: "k", Kind: "kill", Occurrence: 1, Event: plan.Started, At: at(20 * time.Millisecond)},
		{Fault: "k", Kind: "kill", Occurrence: 1, Event: plan.InEffect, At: at(30 * time.Millisecond), Targets: []string{"a-1"}},
		{Fault: "k", Kind: "kill", Occurrence: 1, Event: plan.Gone, At: at(90 * time.Millisecond)},
	}}
	d := newFake()
	r, err := job(t, t.Context(), d, p)
	require.NoError(t, err)
	assert.Equal(t, []record.EventKind{record.FaultStarted, record.FaultInEffect, record.FaultGone}, kinds(r, "k"))
	from, to, ok := r.Rounds[0].Phase(plan.PhaseFault)
	require.True(t, ok)
	assert.GreaterOrEqual(t, to-from, 150*time.Millisecond)
	effect := has(r, record.FaultInEffect)
	assert.GreaterOrEqual(t, effect.T-from, 30*time.Millisecond)
	assert.Less(t, effect.T, to)
	assert.Equal(t, nothingDone, effect.Evidence)
	assert.Equal(t, []string{"a-1"}, effect.Targets)
	assert.Nil(t, has(r, record.NodeExited))
}
