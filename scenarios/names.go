package scenarios

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// names are what a scenario may refer to.
type names struct {
	known   bool // a topology was given
	exposed bool // a service of it exposes metrics
	// Of the topology:
	services, nodes, groups, zones []string
	leaders                        []string                 // groups that say who leads
	closed                         []string                 // services that expose no port
	hasvc                          []string                 // services that run the reference service
	images                         []string                 // services and groups with a command that only an image knows
	size                           map[string]int           // of selections, by selected
	grace                          map[string]plan.Duration // likewise, the longest stop_grace_period
	// Of the scenario:
	faults, loads, workloads, programs, asserts []string
	requests                                    map[string][]string // by load
}

func namesOf(f *File, spec *cluster.Spec) *names {
	n := &names{size: map[string]int{}, grace: map[string]plan.Duration{}, requests: map[string][]string{}}
	for _, x := range f.Faults {
		n.faults = append(n.faults, x.ID)
	}
	for name, l := range f.Load {
		n.loads = append(n.loads, name)
		for _, r := range l.Requests {
			n.requests[name] = append(n.requests[name], requestID(r))
		}
	}
	for _, a := range f.Assert {
		n.asserts = append(n.asserts, a.ID)
	}
	n.workloads, n.programs = keysOf(f.Workloads), keysOf(f.Programs)
	if spec == nil {
		return n
	}
	n.known = true
	for _, s := range spec.Services {
		n.services = append(n.services, s.Name)
		n.exposed = n.exposed || s.Metrics != nil
		nodes := nodesOf(s)
		n.nodes = append(n.nodes, nodes...)
		selections := []plan.Target{{Service: s.Name}}
		if s.Group != "" {
			n.groups = appendNew(n.groups, s.Group)
			selections = append(selections, plan.Target{Group: s.Group})
		}
		if s.Zone != "" {
			n.zones = appendNew(n.zones, s.Zone)
			selections = append(selections, plan.Target{Zone: s.Zone})
		}
		for _, t := range selections {
			sel := selected(t)
			n.size[sel] += len(nodes)
			n.grace[sel] = max(n.grace[sel], plan.Duration(s.StopGrace))
		}
		for _, node := range nodes {
			sel := selected(plan.Target{Node: node})
			n.size[sel], n.grace[sel] = 1, plan.Duration(s.StopGrace)
		}
		if s.Leader != nil && s.Group != "" {
			n.leaders = appendNew(n.leaders, s.Group)
		}
		if len(s.Expose) == 0 {
			n.closed = append(n.closed, s.Name)
		}
		if s.OwnCommand() {
			n.images = append(n.images, s.Name, s.Group)
		}
		if runsHasvc(s) {
			n.hasvc = append(n.hasvc, s.Name)
		}
	}
	return n
}

// selected names what a Target selects from: "group store".
func selected(t plan.Target) string {
	for _, x := range [][2]string{{"node", t.Node}, {"service", t.Service}, {"group", t.Group}, {"zone", t.Zone}} {
		if x[1] != "" {
			return x[0] + " " + x[1]
		}
	}
	return ""
}

// nodesOf are the names of a service's nodes.
func nodesOf(s cluster.Service) []string {
	if !s.Scaled {
		return []string{s.Name}
	}
	var ns []string
	for i := range s.Replicas {
		ns = append(ns, fmt.Sprintf("%s-%d", s.Name, i+1))
	}
	return ns
}

// runsHasvc reports whether the reference service is what a service runs: defects exist there only.
func runsHasvc(s cluster.Service) bool {
	pkg, _, _ := strings.Cut(s.Source.Go, "@")
	return path.Base(pkg) == "hasvc" || path.Base(s.Source.Exec) == "hasvc"
}

func appendNew(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// where are the nodes on which a program may run: `in`.
func (n *names) where() []string { return append(slices.Clone(n.nodes), cluster.Client) }

// ends are what from and to of a link may name.
func (n *names) ends() []string {
	return slices.Concat(n.where(), n.services, n.groups)
}

// phases in which the system is measured, for `during`.
var phases = []string{plan.PhaseBaseline, plan.PhaseFault, plan.PhaseRecovery}

// reserved are words that ids must leave alone.
var reserved = []string{plan.PhaseUp, plan.PhaseReady, plan.PhaseWarmup, plan.PhaseBaseline, plan.PhaseFault, plan.PhaseRecovery, plan.PhaseVerify,
	plan.PhaseDrain, plan.PhaseAudit, plan.PhaseDown, "end", "group", "all", cluster.Client}

// requestID is the id of a request, made from what it does where it was left out.
func requestID(r Request) string {
	if r.ID != "" {
		return r.ID
	}
	if r.Call != "" {
		return r.Call
	}
	return method(r) + " " + r.Path
}

func method(r Request) string {
	if r.Method == "" {
		return "GET"
	}
	return r.Method
}
