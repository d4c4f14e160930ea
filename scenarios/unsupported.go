package scenarios

import (
	"fmt"
	"slices"

	"github.com/hasvc/gauntlet/harness/plan"
)

// gaps are what the format knows and this version cannot execute, beside the rows of the tables that say so themselves. A
// line goes when its feature comes.
var gaps = []struct {
	what string
	used func(p *plan.Plan) bool
}{
	{"at-most: what faults may hold at once is not bounded yet", func(p *plan.Plan) bool {
		return anyFault(p, func(f plan.Fault) bool { return f.AtMost > 0 })
	}},
}

// Unsupported says why this version cannot execute a plan, a line for each reason, or nothing. Such a plan is valid and can
// be explained; `run` refuses it before anything starts.
func Unsupported(p *plan.Plan, t Tables) []string {
	var why []string
	add := func(s string) {
		if !slices.Contains(why, s) {
			why = append(why, s)
		}
	}
	for _, k := range t.Faults {
		if k.Unsupported != "" && anyFault(p, func(f plan.Fault) bool { return f.Kind == k.Name }) {
			add(k.Unsupported)
		}
	}
	for _, k := range t.Assertions {
		for _, a := range p.Assert {
			if k.Unsupported != "" && a.Kind == k.Name {
				add(fmt.Sprintf("assertion %s: %s", a.ID, k.Unsupported))
			}
		}
	}
	for _, g := range gaps {
		if g.used(p) {
			add(g.what)
		}
	}
	return why
}

func anyFault(p *plan.Plan, is func(plan.Fault) bool) bool {
	return slices.ContainsFunc(p.Rounds, func(r plan.Round) bool { return slices.ContainsFunc(r.Faults, is) })
}
