package assertions

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// MembersAgree compares what verify read from each member of a group.
//
// A member is left out, and named, when a fault that is held to the end keeps it down or cuts it off from another
// member. A member that is down without such a fault, or that did not answer, makes the finding INVALID: it could not be read.
type MembersAgree struct {
	Workload string `json:"workload" jsonschema:"required" desc:"The workload that reads each member in verify."`
	Group    string `json:"group" jsonschema:"required" desc:"The group whose members are compared."`
}

// Validate returns every error.
func (a *MembersAgree) Validate(s Scope) error {
	err := workloadNamed(a.Workload, s)
	if a.Group == "" {
		return errors.Join(err, errors.New("group is missing: the members that must agree"))
	}
	return errors.Join(err, oneOf("group", a.Group, s.Groups))
}

func (a *MembersAgree) history() string { return a.Workload }

// Judge compares.
func (a *MembersAgree) Judge(_ context.Context, p *plan.Plan, r *record.Round) Finding {
	ops, err := r.History(a.Workload)
	if err != nil {
		return invalid("%v", err)
	}
	members := membersOf(r, a.Group)
	if len(members) == 0 {
		return invalid("the record does not say who belongs to group %s (nodes in meta.json)", a.Group)
	}
	out := heldOut(p, r, members)
	var live []string
	for _, m := range members {
		if !slices.Contains(out, m) {
			live = append(live, m)
		}
	}
	read := answersOf(ops)
	file := record.HistoryFile(a.Workload)
	keys := map[string]bool{}
	reads := 0
	silent := map[string]int{} // member -> keys that others answered
	answered := map[string]bool{}
	for key, by := range read.read {
		for _, m := range live {
			if by[m] != nil {
				keys[key], answered[m] = true, true
				reads++
			}
		}
	}
	differ := 0
	var details []Evidence
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		var first *record.Op
		var lines []string
		same := true
		for _, m := range live {
			o := read.read[key][m]
			if o == nil {
				silent[m]++
				continue
			}
			lines = append(lines, describe(o))
			if first == nil {
				first = o
			}
			same = same && found(first) == found(o) && first.Value == o.Value && first.Count == o.Count
		}
		if !same {
			differ++
			if len(details) < maxDetails {
				details = append(details, detail("a key that members read differently", file, strings.Join(lines, "; ")))
			}
		}
	}
	f := Finding{Evidence: append([]Evidence{{
		What: "answers of members to verify", File: file, Count: reads, Nodes: live,
		Values: map[string]float64{"keys": float64(len(keys)), "differ": float64(differ), "members": float64(len(answered))},
	}}, details...)}
	f.Summary = fmt.Sprintf("%s differ of %d among %s", plural(differ, "key"), len(keys), list(live))
	if len(out) > 0 {
		f.Summary += "; left out, held by a fault: " + list(out)
		f.Evidence = append(f.Evidence, Evidence{What: "members that a fault holds to the end", File: record.EventsFile(), Nodes: out})
	}
	var mute []string
	for _, m := range live {
		if !answered[m] {
			mute = append(mute, m)
		}
	}
	switch {
	case differ > 0:
		f.Verdict = Fail
	case len(answered) < 2:
		f.Reason = fmt.Sprintf("%s of group %s could be read, and it takes two to agree", plural(len(answered), "member"), a.Group)
	case len(mute) > 0:
		f.Reason = fmt.Sprintf("%s could not be read", list(mute))
	case len(silent) > 0:
		var s []string
		for _, m := range slices.Sorted(maps.Keys(silent)) {
			s = append(s, fmt.Sprintf("%s of %s", plural(silent[m], "key"), m))
		}
		f.Reason = list(s) + " could not be read"
	default:
		f.Verdict = Pass
	}
	return f
}

// membersOf returns the nodes of a group, by name.
func membersOf(r *record.Round, group string) []string {
	var names []string
	for _, n := range r.Run().Meta.Nodes {
		if n.Group == group {
			names = append(names, n.Name)
		}
	}
	slices.Sort(names)
	return names
}

// heldOut returns the members that cannot agree because of a fault that is held to the end (for: end): it keeps them
// down, or cuts links between members.
func heldOut(p *plan.Plan, r *record.Round, members []string) []string {
	held := map[string]bool{}
	for _, pr := range p.Rounds {
		if pr.N == r.N {
			for _, f := range pr.Faults {
				held[f.ID] = held[f.ID] || f.Held
			}
		}
	}
	verify, _, _ := r.Phase(plan.PhaseVerify)
	down := map[string]bool{}
	var out []string
	for _, e := range r.Events {
		if e.T > verify {
			break
		}
		switch e.Kind {
		case record.NodeStarted, record.NodeResumed:
			down[e.Node] = false
		case record.NodeExited, record.NodePaused, record.NodeRemoved:
			down[e.Node] = true
		}
	}
	for _, e := range r.Events {
		if e.Kind != record.FaultInEffect || !held[e.Fault] || e.T > verify {
			continue
		}
		cuts := slices.ContainsFunc(e.Links, func(l string) bool {
			from, to, _ := strings.Cut(l, " -> ")
			return slices.Contains(members, from) && slices.Contains(members, to)
		})
		for _, t := range e.Targets {
			if slices.Contains(members, t) && (down[t] || cuts) && !slices.Contains(out, t) {
				out = append(out, t)
			}
		}
	}
	slices.Sort(out)
	return out
}
