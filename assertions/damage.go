package assertions

import (
	"encoding/json"
	"strings"

	"github.com/hasvc/gauntlet/harness/plan"
)

// damageAsker is an assertion that can hold only when a fault does its damage: of a run without one it is not asked.
type damageAsker interface{ asksForDamage() bool }

// AskForDamage names the assertions of a plan that can hold only when a fault does its damage.
func AskForDamage(p *plan.Plan) []string {
	var ids []string
	for _, a := range p.Assert {
		k, ok := ByName(a.Kind)
		if !ok {
			continue
		}
		params := k.New()
		if len(a.Params) > 0 && json.Unmarshal(a.Params, params) != nil {
			continue // judging says so
		}
		if x, ok := params.(damageAsker); ok && x.asksForDamage() {
			ids = append(ids, a.ID)
		}
	}
	return ids
}

// worse reports whether a bound asks for answers to be bad: few, slow or failed.
func (b Bounds) worse() bool {
	for _, f := range b.figures() {
		below := f.bound.Op[0] == '<'
		if f.permille > 0 && !below || f.permille == 0 && (below || f.bound.Op == "=" && f.bound.Value == 0) {
			return true
		}
	}
	return false
}

func (a *SLO) asksForDamage() bool      { return a.worse() }
func (a *Recovers) asksForDamage() bool { return a.worse() }

// asksForDamage: without a fault nobody repeats what was answered.
func (a *RetryAmplification) asksForDamage() bool {
	return strings.HasPrefix(a.Attempts.Op, ">") && a.During != plan.PhaseBaseline
}
