package assertions

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// MembersAgree compares what verify read from each member of a group.
//
// A member is left out, and named, when a fault that is held to the end keeps it down or cuts it off from the others. A member that is
// down without such a fault, or that did not answer, makes the finding INVALID: it could not be read. So does a difference between
// two that such a fault cuts off from each other, and from nobody else: they may know by way of others, or not.
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
	held := heldApart(p, r, members)
	out := held.out
	var live []string
	for _, m := range members {
		if !slices.Contains(out, m) {
			live = append(live, m)
		}
	}
	read := answersOf(ops)
	file := record.HistoryFile(a.Workload)
	keys := keysOf(ops, read, live)
	reads := 0
	silent := map[string]int{} // member -> keys of which it said nothing
	answered := map[string]bool{}
	differ, explained := 0, 0
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
			reads++
			answered[m] = true
			lines = append(lines, describe(o))
			if first == nil {
				first = o
			}
			same = same && alike(first, o)
		}
		if !same {
			differ++
			if held.explains(read.read[key]) {
				explained++
			}
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
	case differ > explained:
		f.Verdict = Fail
	case differ > 0:
		f.Reason = fmt.Sprintf("%s differ between members that a held fault cuts off from each other, but not from all others", plural(differ, "key"))
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

// keysOf are the keys on which members must agree: those that verify read from one, or tried to, and those that were inserted, by the
// service's word, whether verify came to them or not.
func keysOf(ops []record.Op, read answers, members []string) map[string]bool {
	keys := map[string]bool{}
	for _, some := range []map[string]map[string]*record.Op{read.read, read.tried} {
		for key, by := range some {
			if slices.ContainsFunc(members, func(m string) bool { return by[m] != nil }) {
				keys[key] = true
			}
		}
	}
	for i := range ops {
		if o := &ops[i]; o.Kind == "insert" && o.Outcome == record.OK {
			keys[o.Key] = true
		}
	}
	return keys
}

// alike reports whether two answers say the same.
func alike(a, b *record.Op) bool {
	return found(a) == found(b) && a.Value == b.Value && a.Count == b.Count
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

// apart is who cannot agree because of faults that are held to the end (for: end).
type apart struct {
	out []string    // members that are kept down, or cut off from the others
	cut [][2]string // of the rest, two between which nothing passes, in one direction at least
}

// explains reports whether answers differ across a cut.
func (a apart) explains(by map[string]*record.Op) bool {
	return slices.ContainsFunc(a.cut, func(l [2]string) bool {
		x, y := by[l[0]], by[l[1]]
		return x != nil && y != nil && !alike(x, y)
	})
}

// lost reports whether a member is cut off from all others.
func (a apart) lost(m string, members []string) bool {
	n := 0
	for _, o := range members {
		if slices.Contains(a.cut, [2]string{m, o}) || slices.Contains(a.cut, [2]string{o, m}) {
			n++
		}
	}
	return n > 0 && n == len(members)-1
}

// heldApart finds them. A fault that isolates nodes has them as its targets. One that cuts links has none, so that who lost whom is seen
// by the links alone; what only slows a link, or loses a part of what it carries, parts nobody.
func heldApart(p *plan.Plan, r *record.Round, members []string) apart {
	held := map[string]plan.Fault{}
	for _, pr := range p.Rounds {
		if pr.N == r.N {
			for _, f := range pr.Faults {
				if f.Held {
					held[f.ID] = f
				}
			}
		}
	}
	var a apart
	verify, _, _ := r.Phase(plan.PhaseVerify)
	down := downAt(r, verify)
	for _, e := range r.Events {
		f, ok := held[e.Fault]
		if e.Kind != record.FaultInEffect || !ok || e.T > verify {
			continue
		}
		links := linksAmong(members, e.Links)
		for _, t := range e.Targets {
			if slices.Contains(members, t) && (down[t] || len(links) > 0) && !slices.Contains(a.out, t) {
				a.out = append(a.out, t)
			}
		}
		if len(e.Targets) == 0 && (f.Kind == "drop" || f.Kind == "reject") {
			a.cut = append(a.cut, links...)
		}
	}
	for _, m := range members {
		if a.lost(m, members) && !slices.Contains(a.out, m) {
			a.out = append(a.out, m)
		}
	}
	a.cut = slices.DeleteFunc(a.cut, func(l [2]string) bool { return slices.Contains(a.out, l[0]) || slices.Contains(a.out, l[1]) })
	slices.Sort(a.out)
	return a
}

// downAt are the nodes whose program does not run at a moment.
func downAt(r *record.Round, t time.Duration) map[string]bool {
	down := map[string]bool{}
	for _, e := range r.Events {
		if e.T > t {
			break
		}
		switch e.Kind {
		case record.NodeStarted, record.NodeResumed:
			down[e.Node] = false
		case record.NodeExited, record.NodePaused, record.NodeRemoved:
			down[e.Node] = true
		}
	}
	return down
}

// linksAmong are the links, "a -> b" in the record, of which both ends are members.
func linksAmong(members, links []string) [][2]string {
	var out [][2]string
	for _, l := range links {
		from, to, _ := strings.Cut(l, " -> ")
		if slices.Contains(members, from) && slices.Contains(members, to) {
			out = append(out, [2]string{from, to})
		}
	}
	return out
}
