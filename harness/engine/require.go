package engine

import (
	"context"
	"sync"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// requirements are the preconditions that are polled until the end of a phase.
type requirements struct {
	rd *round

	mu     sync.Mutex
	open   map[string]*polled
	ending string
}

type polled struct {
	stop context.CancelFunc
	done chan struct{}
}

// endsWith says whether a requirement `by: word` is due when phase ends.
func endsWith(word, phase string) bool {
	return word == phase || word == "end" && phase == plan.PhaseVerify
}

// pollRequired begins to poll every `by` requirement with the baseline. The value it returns ends those that are due
// with this phase.
func (rd *round) pollRequired(ctx context.Context, phase string) *requirements {
	if phase == plan.PhaseBaseline {
		rd.required = &requirements{rd: rd, open: map[string]*polled{}}
		for _, q := range rd.Plan.Require {
			if q.By != "" {
				rd.required.begin(context.WithoutCancel(ctx), q)
			}
		}
	}
	return &requirements{rd: rd, ending: phase}
}

func (q *requirements) begin(ctx context.Context, r plan.Require) {
	ctx, stop := context.WithCancel(ctx)
	p := &polled{stop: stop, done: make(chan struct{})}
	q.open[r.ID] = p
	w := q.rd.waiter(&r.Condition)
	go func() {
		defer close(p.done)
		defer w.close()
		for {
			ok, said, err := w.test(ctx)
			if ctx.Err() != nil {
				// The phase has ended: one last test, so that what came in its last moments counts.
				ok, said, err = w.test(context.WithoutCancel(ctx))
			}
			if ok || err != nil || ctx.Err() != nil {
				q.rd.noteRequired(r, ok, said, err)
				return
			}
			_ = sleep(ctx, conditionEvery)
		}
	}()
}

// end ends the polls that are due with the phase, and waits for them.
func (q *requirements) end(context.Context) {
	all := q.rd.required
	if all == nil {
		return
	}
	for _, r := range q.rd.Plan.Require {
		if r.By == "" || !endsWith(r.By, q.ending) {
			continue
		}
		all.finish(r.ID)
	}
}

// finish ends one poll and waits for it.
func (q *requirements) finish(id string) {
	q.mu.Lock()
	p := q.open[id]
	delete(q.open, id)
	q.mu.Unlock()
	if p != nil {
		p.stop()
		<-p.done
	}
}

// abandon ends every poll, whatever phase it waits for: the round is over.
func (q *requirements) abandon() {
	if q == nil {
		return
	}
	for _, r := range q.rd.Plan.Require {
		q.finish(r.ID)
	}
}

// testRequired tests the `at` requirements of a phase, once, at its end.
func (rd *round) testRequired(ctx context.Context, phase string) {
	for _, q := range rd.Plan.Require {
		if q.At == "" || !endsWith(q.At, phase) {
			continue
		}
		w := rd.waiter(&q.Condition)
		ok, said, err := w.test(ctx)
		w.close()
		rd.noteRequired(q, ok, said, err)
	}
}

func (rd *round) noteRequired(q plan.Require, ok bool, said string, err error) {
	e := record.Event{Kind: record.Required, ID: q.ID, OK: &ok, Evidence: said}
	if err != nil {
		e.Error = err.Error()
	}
	rd.w.Event(e)
}
