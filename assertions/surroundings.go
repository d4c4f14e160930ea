package assertions

import (
	"fmt"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// A service that is starved cannot be told from a slow one by its answers. A run was starved when its threads waited for a processor behind
// other programs for starvedWait or more, for each second that they ran, and others (or the hypervisor) took more than foreignShare of the
// machine. What they waited behind others is taken to be what they waited at all, by the share of the machine that others took.
//
// On a machine of its own the reference topology waits 2 to 3 times as long as it runs, for its programs wake each other all the time.
// Beside a program that keeps one of two cores busy half of the time a second run waits 0.9 s behind it at most, and the verdicts are right;
// two runs side by side wait 1.2 to 4.1 s behind each other, and most of their verdicts are wrong.
//
// Others that took no more than foreignShare of the machine are not what starved it: a run that fills the machine waits 7 to 9 times as long
// as it runs for itself. What the engine of its containers takes, 10 to 20 % of a machine of two cores, is neither the run's nor others':
// whom it works for is not known.
const (
	starvedWait  = 1.2
	foreignShare = 0.25
)

// surroundings returns why a FAIL about the service cannot be told from a lack of processor time, or nothing, and what was seen. The reason
// holds against FAIL alone: what a starved service kept, it kept. Load of the run itself is no excuse: only what others took counts.
func surroundings(r *record.Round) (why string, seen *Evidence) {
	from, _, ok := r.Phase(plan.PhaseBaseline)
	if !ok {
		return "", nil
	}
	_, to, ok := r.Phase(plan.PhaseRecovery)
	if !ok {
		to = 1<<63 - 1
	}
	rows, _ := r.Surroundings() // an error says that some are missing; the premise "record" says so
	var length, busy, own, waited time.Duration
	var cores, n int
	for _, s := range rows {
		if s.T-s.For < from || s.T > to {
			continue
		}
		length, busy, own, waited = length+s.For, busy+s.Busy, own+s.Own, waited+s.Waited
		cores, n = s.Cores, n+1
	}
	if cores == 0 || length <= 0 || own <= 0 {
		return "", nil
	}
	machine := length.Seconds() * float64(cores)
	others := max(0, (busy-own).Seconds()) / machine
	ratio := waited.Seconds() / own.Seconds()
	seen = &Evidence{What: "what the machine did under load", File: record.SurroundingsFile(), Count: n, Window: &Window{from, min(to, rows[len(rows)-1].T)},
		Values: map[string]float64{"cores": float64(cores), "run": own.Seconds() / machine, "others": others, "waited per second run": ratio}}
	if others > foreignShare && others*ratio >= starvedWait {
		why = fmt.Sprintf("the service was short of processor: other programs took %s of the machine, and its threads waited %.1f times as long for a processor as the run used one",
			percent(others), ratio)
	}
	return why, seen
}
