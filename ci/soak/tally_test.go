package main

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/hasvc/gauntlet/harness/plan"
)

// A soak that goes on runs what the one before it did not come to.
func TestMissing(t *testing.T) {
	p := &plan.Plan{Name: "leader", Controls: []plan.Control{{Name: "no-retry"}, {Name: "a|b"}, {Name: plan.NoFaultControl}}}
	have := tally{}
	assert.Equal(t, []string{"", "no-retry", "a|b", plan.NoFaultControl}, have.missing(1, "sandbox", p, true))
	assert.Equal(t, []string{"", "no-retry", "a|b"}, have.missing(1, "sandbox", p, false))
	for _, r := range verdicts() {
		have.add(r)
	}
	assert.Equal(t, []string{"no-retry", "a|b", plan.NoFaultControl}, have.missing(2, "sandbox", p, true), "wrong ones count too")
	assert.Equal(t, []string{"no-retry", plan.NoFaultControl}, have.missing(1, "docker", p, true))
	assert.Equal(t, []string{"no-retry"}, have.missing(1, "docker", p, false))
	p.Controls = p.Controls[:1]
	assert.Empty(t, have.missing(1, "sandbox", p, true))
}
