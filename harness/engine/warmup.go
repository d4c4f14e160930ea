package engine

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// Requests of the warm-up are recorded as those of a load of their own, so that none of them counts as the baseline's.
const warmupSuffix = ".warmup"

// What makes a service warm: in some window, the shortest that does, nearly all that was due is answered, and answered well. A
// service that takes long for an answer needs a longer window to show it.
var warmWindows = []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second}

const (
	warmSuccess  = 0.99
	warmAnswered = 0.8 // of what is due in a window; the rest is in hand
	warmLeast    = 5   // answers; of a slower load, in the longest window, as many as are due
	warmPoll     = 50 * time.Millisecond
)

// warmup puts each load's first rate on the service until it answers as it should, for as long as the plan allows. A service that
// is ready is not yet at work: it has no connections, and a machine that has just built its program has to read it first. What is
// measured is measured after that; how long it took is recorded, and one that does not get there begins its baseline all the same, for
// the assertions to judge.
func (rd *round) warmup(ctx context.Context) error {
	rd.Progress(fmt.Sprintf("warming up, for %v at most", rd.Plan.Warmup))
	run, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer func() { stop(); running.Wait() }()
	failed := make(chan error, len(rd.Plan.Loads))
	warm := map[string]func() (bool, string){}
	for _, l := range rd.Plan.Loads {
		rate := firstRate(l.Stages)
		if rate == 0 {
			continue
		}
		name := l.Name
		l.Name += warmupSuffix
		l.Stages = []plan.Stage{{From: rate, To: rate}}
		g, err := rd.Parts.Load(l, rd.env())
		if err != nil {
			return attribute("load "+name, err)
		}
		warm[name] = func() (bool, string) { return isWarm(g, rate) }
		running.Go(func() {
			if err := safely(func() error { return g.Run(run) }); err != nil {
				failed <- attribute("load "+name, err)
			}
		})
	}
	begin := time.Now()
	limit := time.NewTimer(rd.Plan.Warmup.D())
	defer limit.Stop()
	poll := time.NewTicker(warmPoll)
	defer poll.Stop()
	for {
		var cold []string
		for _, l := range rd.Plan.Loads {
			if is, ok := warm[l.Name]; ok {
				if ok, why := is(); !ok {
					cold = append(cold, l.Name+": "+why)
				}
			}
		}
		if len(cold) == 0 {
			return nil
		}
		select {
		case <-poll.C:
		case err := <-failed:
			return &broken{"the warm-up", err}
		case <-limit.C:
			rd.w.Event(record.Event{Kind: record.Warning, Evidence: fmt.Sprintf("the service was not warm after %v of load (%s); the baseline begins all the same",
				time.Since(begin).Round(time.Millisecond), strings.Join(cold, "; "))})
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// isWarm reports whether a load is answered as it should be, or what it got instead.
func isWarm(g Generator, rate float64) (ok bool, why string) {
	for i, d := range warmWindows {
		share, n := g.Success(plan.Duration(d))
		due, least := rate*d.Seconds(), warmLeast
		if i == len(warmWindows)-1 {
			least = max(1, min(least, int(due)))
		}
		if share >= warmSuccess && n >= least && float64(n) >= warmAnswered*due {
			return true, ""
		}
		if n == 0 {
			why = fmt.Sprintf("no answer to what was due in the last %v", d)
			continue
		}
		why = fmt.Sprintf("%.1f %% good of %d answers to %.0f requests due in the last %v", 100*share, n, due, d)
	}
	return false, why
}

// firstRate is what a load begins with: the rate of its first stage that has one.
func firstRate(stages []plan.Stage) float64 {
	for _, s := range stages {
		if r := max(s.From, s.To); r > 0 {
			if s.From > 0 {
				return s.From
			}
			return r
		}
	}
	return 0
}
