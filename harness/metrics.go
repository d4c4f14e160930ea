package harness

import (
	"fmt"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// WithMetrics opens a run directory for questions to its metrics.
func WithMetrics(dir string, ask func(*record.Run) error) error {
	run, done, err := openRun(dir)
	if err != nil {
		return &InputError{err}
	}
	defer done()
	if run.Metrics == nil {
		return &InputError{fmt.Errorf("%s has no metrics: none were recorded in that run", dir)}
	}
	return ask(run)
}

// UnderLoad is the time from the first baseline of a run to the end of its last recovery, or of what came last of it.
func UnderLoad(run *record.Run) (from, to time.Duration, ok bool) {
	for _, r := range run.Rounds {
		for _, phase := range []string{plan.PhaseBaseline, plan.PhaseFault, plan.PhaseRecovery} {
			begin, end, reached := r.Phase(phase)
			if !reached {
				continue
			}
			if !ok {
				from, ok = begin, true
			}
			to = end
		}
	}
	return from, to, ok
}
