package scenarios

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hasvc/gauntlet/assertions"
)

func (v *validator) asserts() {
	seen := map[string]bool{}
	// Findings that are made in every run have these ids.
	for _, id := range premises {
		seen[id] = true
	}
	for _, r := range v.f.Require {
		seen[r.ID] = true // findings of both stand in one list
	}
	scope := assertions.Scope{Plan: v.f.build(v.names, 0, 1, 1), Services: v.services, Groups: v.groups, Leaders: v.leaders, Metrics: v.metrics()}
	for i := range v.f.Assert {
		a := &v.f.Assert[i]
		at := p("assert", i)
		if !v.mapping(at...) {
			continue
		}
		v.id(at, "assertion", a.ID, seen)
		if a.ID == exits && a.Kind != exits && a.Kind != "" {
			v.at(sub(at, "id"), "%q is the id of the finding about programs that ended, which every run has; choose another id", exits)
		}
		if a.at == nil || a.at.kind != mapNode {
			continue
		}
		reported := v.references(a.at)
		// Without a topology the kind would miss its names. What cannot be judged yet has parameters that nobody reads yet.
		if a.Params != nil && v.known && a.row.Unsupported == "" {
			v.paramErrors(a.at, a.Params.Validate(scope), reported)
		}
	}
}

// premises are the ids of findings about the run itself, which stand in one list with those of assertions.
var premises = []string{"run", "record", "phases", "faults", "undone", "audit", "surroundings"}

// exits is the kind of the assertion that is judged in every run, listed or not, and then its id.
const exits = "exits"

// references checks the names that parameters of assertions refer to, by the keys that mean the same in all of them. It
// returns the names that do not exist.
func (v *validator) references(at *node) (bad []string) {
	check := func(n *node, what, got string, exist []string) {
		if slices.Contains(exist, got) {
			return
		}
		bad = append(bad, fmt.Sprintf("%q", got))
		v.doc.at(n, "no %s is called %q%s", what, got, suggest(got, exist))
	}
	for _, e := range at.entries {
		n := e.val
		if n.kind != stringNode {
			continue
		}
		switch e.key {
		case "load":
			check(n, "load", n.text, v.names.loads)
		case "workload":
			check(n, "workload", n.text, v.names.workloads)
		case "request":
			if l := at.get("load"); l != nil && slices.Contains(v.names.loads, l.text) {
				check(n, "request of "+l.text, n.text, v.names.requests[l.text])
			}
		case "during":
			check(n, "phase or fault", n.text, slices.Concat(phases, v.names.faults))
		case "after":
			if ref, ok := parseEvent(n.text); ok {
				check(n, "fault", ref.Fault, v.names.faults)
				check(n, "step in a fault's life", string(ref.Event), []string{"started", "in-effect", "undone", "gone"})
			}
		case "group":
			v.topologyName(n, "group", v.groups, &bad)
		case "service":
			v.topologyName(n, "service", v.services, &bad)
		case "in", "node":
			exist := v.where()
			if e.key == "in" && at.get("of") != nil {
				exist = v.ends() // who calls a service: any of its replicas
			}
			v.topologyName(n, "node", exist, &bad)
		}
	}
	if argv := at.get("exec"); argv != nil && argv.kind == listNode && len(argv.items) > 0 {
		if a := argv.items[0]; len(a.text) >= 5 && !strings.Contains(a.text, "/") && !slices.Contains(v.f.programNames(), a.text) {
			if near := nearest(a.text, v.f.programNames()); near != "" && levenshtein(a.text, near) <= 2 {
				v.doc.at(a, "no program is called %q; did you mean %q?", a.text, near)
			}
		}
	}
	return bad
}

func (v *validator) topologyName(n *node, what string, exist []string, bad *[]string) {
	if !v.known || slices.Contains(exist, n.text) {
		return
	}
	*bad = append(*bad, fmt.Sprintf("%q", n.text))
	v.doc.at(n, "the topology has no %s called %q%s", what, n.text, suggest(n.text, exist))
}

// metrics is what is known of the run's metrics.
func (v *validator) metrics() assertions.MetricScope {
	m := v.f.tables.Metrics
	m.Exposed = v.exposed
	return m
}
