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
	{"metric: conditions on metrics need metrics of the run, which are not recorded yet", func(p *plan.Plan) bool {
		return slices.ContainsFunc(conditions(p), func(c *plan.Condition) bool { return c.Metric != nil })
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

// conditions are all conditions of a plan.
func conditions(p *plan.Plan) []*plan.Condition {
	var cs []*plan.Condition
	add := func(c *plan.Condition) {
		if c != nil {
			cs = append(cs, c)
		}
	}
	add(p.Baseline.Until)
	add(p.RecoveryUntil)
	for i := range p.Require {
		add(&p.Require[i].Condition)
	}
	for _, r := range p.Rounds {
		for _, f := range r.Faults {
			add(f.At.When)
			if f.Until != nil {
				add(f.Until.When)
			}
		}
	}
	return cs
}
