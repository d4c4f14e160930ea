package scenarios

import (
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
)

// patience gives every `after` without a timeout of its own one that its event can keep: a fault at the end of a chain
// waits for all of the chain, so that one minute for each would end healthy runs. Times are worst cases.
func patience(r *plan.Round) {
	l := latest{byID: map[string]*plan.Fault{}, began: map[string]plan.Duration{}, open: map[string]bool{}}
	for i := range r.Faults {
		l.byID[r.Faults[i].ID] = &r.Faults[i]
	}
	for i := range r.Faults {
		l.begin(r.Faults[i].ID)
		l.end(r.Faults[i].ID)
	}
}

type latest struct {
	byID  map[string]*plan.Fault
	began map[string]plan.Duration
	open  map[string]bool
}

// begin is the latest start of a fault's first occurrence.
func (l latest) begin(id string) plan.Duration {
	f := l.byID[id]
	if f == nil || l.open[id] {
		return 0 // what does not exist, or waits for itself, Validate reports
	}
	if d, ok := l.began[id]; ok {
		return d
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
	if ref.Event == plan.Undone || ref.Event == plan.Gone {
		return l.end(ref.Fault)
	}
	return l.begin(ref.Fault)
}

// end is the latest end of a fault's first occurrence.
func (l latest) end(id string) plan.Duration {
	f := l.byID[id]
	if f == nil || l.open[id] {
		return 0
	}
	d := l.begin(id)
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

// maxWait keeps long chains within what a run may last.
const maxWait = plan.Duration(24 * time.Hour)
