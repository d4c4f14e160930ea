package main

import "github.com/hasvc/gauntlet/harness/plan"

// verdict is what is run again and again.
type verdict struct{ driver, scenario, control string } // control is empty for the scenario itself

// tally is how often each was run.
type tally map[verdict]int

func (t tally) add(r result) { t[verdict{r.Driver, r.Scenario, r.Control}]++ }

// missing returns the controls of a scenario that were run less than n times, and "" for the scenario itself; the control
// no-fault only when quiet is asked for.
func (t tally) missing(n int, driver string, p *plan.Plan, quiet bool) (controls []string) {
	if t[verdict{driver, p.Name, ""}] < n {
		controls = append(controls, "")
	}
	for _, c := range p.Controls {
		if (c.Name != plan.NoFaultControl || quiet) && t[verdict{driver, p.Name, c.Name}] < n {
			controls = append(controls, c.Name)
		}
	}
	return controls
}
