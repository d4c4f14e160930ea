package assertions

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hasvc/gauntlet/harness/plan"
)

// oneOf says that a name is none of those that exist.
func oneOf(what, name string, names []string) error {
	if slices.Contains(names, name) {
		return nil
	}
	if len(names) == 0 {
		return fmt.Errorf("no %s is called %q; there is none here", what, name)
	}
	return fmt.Errorf("no %s is called %q; there is %s", what, name, strings.Join(names, ", "))
}

// asks refuses a bound that every value meets: the finding would hold whatever the service did.
func asks(name string, b plan.Bound) error {
	if b.Always() {
		return fmt.Errorf("%s %q: every value meets that", name, b)
	}
	return nil
}

func workloadNames(p *plan.Plan) []string {
	var names []string
	for _, w := range p.Workloads {
		names = append(names, w.Name)
	}
	return names
}

func loadNames(p *plan.Plan) []string {
	var names []string
	for _, l := range p.Loads {
		names = append(names, l.Name)
	}
	return names
}

func faultNames(p *plan.Plan) []string {
	var names []string
	for _, r := range p.Rounds {
		for _, f := range r.Faults {
			if !slices.Contains(names, f.ID) {
				names = append(names, f.ID)
			}
		}
	}
	return names
}

// heldFaults are those that are held to the end.
func heldFaults(p *plan.Plan) []string {
	var names []string
	for _, r := range p.Rounds {
		for _, f := range r.Faults {
			if f.Held && !slices.Contains(names, f.ID) {
				names = append(names, f.ID)
			}
		}
	}
	return names
}

// loadNamed validates the parameter load.
func loadNamed(name string, s Scope) error {
	if name == "" {
		return fmt.Errorf("load is missing: name the load whose requests are judged")
	}
	return oneOf("load", name, loadNames(s.Plan))
}

// duringNamed validates the parameter during.
func duringNamed(word string, s Scope) error {
	if word == "" || slices.Contains(phases, word) {
		return nil
	}
	return oneOf("phase or fault", word, append(slices.Clone(phases), faultNames(s.Plan)...))
}

// workloadNamed validates the parameter workload.
func workloadNamed(name string, s Scope) error {
	if name == "" {
		return fmt.Errorf("workload is missing: name the workload whose history is judged")
	}
	return oneOf("workload", name, workloadNames(s.Plan))
}
