package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// nothingDone is the evidence of every step in the life of a fault that a control without faults writes down.
const nothingDone = "nothing was done: in this control no fault is injected"

// quiet is the fault phase of a control without faults.
func (rd *round) quiet(ctx context.Context) error {
	q := rd.plan.Quiet
	rd.Progress(fmt.Sprintf("no fault for %v", q.For))
	begin := time.Now()
	for _, m := range q.Moments {
		if err := sleep(ctx, time.Until(begin.Add(m.At.D()))); err != nil {
			return err
		}
		e := record.Event{Kind: record.EventKind("fault." + string(m.Event)), Fault: m.Fault, FaultKind: m.Kind, Occurrence: m.Occurrence,
			Targets: m.Targets, Links: m.Links, Evidence: nothingDone}
		if m.Event == plan.Started {
			at := rd.w.At(begin.Add(m.At.D()))
			e.Planned = &at
		}
		rd.w.Event(e)
	}
	return sleep(ctx, time.Until(begin.Add(q.For.D())))
}
