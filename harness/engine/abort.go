package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// aborted is the cause of a run that an abort rule ended.
type aborted struct{ why string }

func (a *aborted) Error() string { return "aborted: " + a.why }

// watchAborts evaluates the abort rules over sliding windows until ctx ends.
func (rd *round) watchAborts(ctx context.Context, abort context.CancelCauseFunc) {
	if len(rd.Plan.Abort) == 0 {
		return
	}
	begin := time.Now()
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		for _, a := range rd.Plan.Abort {
			if time.Since(begin) < a.For.D() {
				continue
			}
			share, n := rd.loads[a.Load].Ended(plan.Duration(a.For))
			if n < plan.AbortSamples || !a.Success.Holds(share) {
				continue
			}
			why := fmt.Sprintf("success of %s was %.1f %% of %d requests that ended in the last %v; the scenario aborts at %s", a.Load, 100*share, n, a.For, a.Success)
			rd.w.Event(record.Event{Kind: record.Aborted, ID: a.Load, Evidence: why})
			abort(&aborted{why})
			return
		}
	}
}
