package assertions

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/hasvc/gauntlet/harness/plan"
)

func TestWhatAsksForDamage(t *testing.T) {
	for params, want := range map[string]bool{
		`{"success": ">= 99%"}`:                 false,
		`{"success": "= 100%"}`:                 false,
		`{"success": "= 0%"}`:                   true,
		`{"success": "< 10%"}`:                  true,
		`{"p99": "<= 3x baseline"}`:             false,
		`{"p99": ">= 200ms"}`:                   true,
		`{"throughput": ">= 50/s"}`:             false,
		`{"throughput": "<= 50/s"}`:             true,
		`{"success": ">= 99%", "p50": "> 1ms"}`: true,
		`{"success": 3}`:                        false, // judging says so
		``:                                      false,
	} {
		p := &plan.Plan{Assert: []plan.Assert{{ID: "it", Kind: "slo", Params: json.RawMessage(params)}, {ID: "kept", Kind: "no-lost-writes"}, {ID: "x", Kind: "nonsense"}}}
		assert.Equal(t, want, len(AskForDamage(p)) == 1, params)
	}
}

// An assertion without parameters is what its zero parameters are.
func TestWhatAsksForDamageWithoutParameters(t *testing.T) {
	assert.Equal(t, []string{"it"}, AskForDamage(&plan.Plan{Assert: []plan.Assert{{ID: "it", Kind: "shed"}, {ID: "exits", Kind: "exits"}}}))
}

func TestWhatAMetricAsksOfAFault(t *testing.T) {
	for after, want := range map[string]bool{"kill.started": true, "kill.in-effect": true, "kill.undone": false, "kill.gone": false} {
		assert.Equal(t, want, (&PromQL{After: after, Within: plan.Duration(1)}).asksForDamage(), after)
	}
	assert.False(t, (&PromQL{Always: true}).asksForDamage())
	assert.False(t, (&PromQL{During: "kill"}).asksForDamage())
	assert.True(t, (&PromQL{During: "kill", Damage: true}).asksForDamage())
}

func TestWhatAmplificationAsksOfAFault(t *testing.T) {
	for params, want := range map[string]bool{
		`{"attempts": "<= 1.2"}`: false, `{"attempts": ">= 2"}`: true, `{"attempts": "> 1.5x baseline", "during": "kill"}`: true,
		`{"attempts": ">= 1", "during": "baseline"}`: false, ``: false,
	} {
		p := &plan.Plan{Assert: []plan.Assert{{ID: "it", Kind: "retry-amplification", Params: json.RawMessage(params)}}}
		assert.Equal(t, want, len(AskForDamage(p)) == 1, params)
	}
}
