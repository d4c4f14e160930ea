package scenarios

import (
	"encoding/json"
	"time"

	"github.com/hasvc/gauntlet/faults"
	"github.com/hasvc/gauntlet/harness/plan"
)

// patience gives every `after` without a timeout of its own one that its event can keep: a fault at the end of a chain
// waits for all of the chain, so that one minute for each would end healthy runs. Times are worst cases.
func patience(n *names, r *plan.Round) {
	l := latest{names: n, byID: map[string]*plan.Fault{}, began: map[string]plan.Duration{}, open: map[string]bool{}}
	for i := range r.Faults {
		l.byID[r.Faults[i].ID] = &r.Faults[i]
	}
	for i := range r.Faults {
		l.begin(r.Faults[i].ID)
		l.end(r.Faults[i].ID)
	}
}

type latest struct {
	names *names
	byID  map[string]*plan.Fault
	began map[string]plan.Duration
	open  map[string]bool
}

// begin is the latest start of a fault's first occurrence.
func (l latest) begin(id string) plan.Duration {
	// A start that is known stays known while the fault's end is looked for: what ends it may wait for its start.
	if d, ok := l.began[id]; ok {
		return d
	}
	f := l.byID[id]
	if f == nil || l.open[id] {
		return 0 // what does not exist, or waits for itself, Validate reports
	}
	l.open[id] = true
	defer delete(l.open, id)
	d := l.wait(&f.At)
	l.began[id] = d
	return d
}

// wait sets the timeout of a trigger and returns its latest moment.
func (l latest) wait(t *plan.Trigger) plan.Duration {
	if t.After != nil && t.Timeout == 0 {
		t.Timeout = plan.Duration(DefaultTrigger) + l.event(*t.After)
	}
	return t.Offset + t.Plus + t.Timeout
}

func (l latest) event(ref plan.EventRef) plan.Duration {
	switch ref.Event {
	case plan.Undone, plan.Gone:
		return l.end(ref.Fault)
	case plan.InEffect:
		return l.effect(ref.Fault)
	}
	return l.begin(ref.Fault)
}

// effect is the latest moment at which the damage of a fault's first occurrence is done.
func (l latest) effect(id string) plan.Duration {
	d := l.begin(id)
	if f := l.byID[id]; f != nil && len(f.Occurrences) > 0 {
		d += l.names.inflicting(f.Kind, f.Occurrences[0])
	}
	return min(d, maxWait)
}

// end is the latest end of a fault's first occurrence.
func (l latest) end(id string) plan.Duration {
	f := l.byID[id]
	if f == nil || l.open[id] {
		return 0
	}
	d := l.effect(id)
	if len(f.Occurrences) > 0 {
		d += f.Occurrences[0].For
	}
	if f.Until != nil {
		l.open[id] = true
		defer delete(l.open, id)
		d += l.wait(f.Until)
	}
	return min(d, maxWait)
}

// inflicting is how long the damage of an occurrence takes at the most, where that is more than a moment: a restart is done
// when the last node is ready. What the topology does not say of a node, its start, may take as long as any wait.
func (n *names) inflicting(kind string, o plan.Occurrence) plan.Duration {
	var r faults.Restart
	if kind != "restart" || json.Unmarshal(o.Params, &r) != nil {
		return 0
	}
	sel := selected(r.Target)
	one := min(n.grace[sel]+min(r.Down.Hi, maxWait)+plan.Duration(DefaultTrigger), maxWait)
	if r.Rolling == nil {
		return one
	}
	count := n.size[sel]
	if _, hi, ok := r.Pick.Range(); ok {
		count = min(count, hi)
	}
	gap := min(r.Rolling.Gap.Hi, maxWait)
	count = min(max(count, 1), int(maxWait/one)+1)
	return min(plan.Duration(count)*one+plan.Duration(count-1)*gap, maxWait)
}

// maxWait keeps long chains within what a run may last.
const maxWait = plan.Duration(24 * time.Hour)
