package engine

import (
	"context"
	"errors"
	"sync"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// requirements are the preconditions that are polled until the end of a phase.
type requirements struct {
	rd *round

	mu   sync.Mutex
	open map[string]*polled
}

type polled struct {
	stop context.CancelCauseFunc
	done chan struct{}
}

// errAbandoned is the cause of the end of a poll whose phase will not come to its end: there is nothing to be said.
var errAbandoned = errors.New("the round is over")

// due are the requirements that a phase ends with.
type due struct {
	rd    *round
	phase string
	at    map[string]*waiter // tested at the end; what they count, they count from the beginning of the phase
}

// endsWith says whether a requirement `by: word` is due when phase ends.
func endsWith(word, phase string) bool {
	return word == phase || word == "end" && phase == plan.PhaseVerify
}

// pollRequired begins to poll every `by` requirement with the baseline. The value it returns ends those that are due
// with this phase.
func (rd *round) pollRequired(ctx context.Context, phase string) *due {
	if phase == plan.PhaseBaseline {
		rd.required = &requirements{rd: rd, open: map[string]*polled{}}
		for _, q := range rd.Plan.Require {
			if q.By != "" {
				rd.required.begin(context.WithoutCancel(ctx), q)
			}
		}
	}
	d := &due{rd: rd, phase: phase, at: map[string]*waiter{}}
	for _, q := range rd.Plan.Require {
		if q.At != "" && endsWith(q.At, phase) {
			d.at[q.ID] = rd.waiter(&q.Condition)
		}
	}
	return d
}

func (q *requirements) begin(ctx context.Context, r plan.Require) {
	ctx, stop := context.WithCancelCause(ctx)
	p := &polled{stop: stop, done: make(chan struct{})}
	q.open[r.ID] = p
	w := q.rd.waiter(&r.Condition)
	go func() {
		defer close(p.done)
		defer w.close()
		for {
			ok, said, err := w.testSafely(ctx)
			if errors.Is(context.Cause(ctx), errAbandoned) {
				return
			}
			if !ok && ctx.Err() != nil {
				// The phase has ended: one last test, so that what came in its last moments counts.
				ok, said, err = w.testSafely(context.WithoutCancel(ctx))
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
func (d *due) end() {
	if d.rd.required == nil {
		return
	}
	for _, r := range d.rd.Plan.Require {
		if r.By != "" && endsWith(r.By, d.phase) {
			d.rd.required.finish(r.ID, nil)
		}
	}
}

// test tests the `at` requirements of the phase, once, at its end.
func (d *due) test(ctx context.Context) {
	for _, q := range d.rd.Plan.Require {
		if w := d.at[q.ID]; w != nil {
			ok, said, err := w.testSafely(ctx)
			w.close()
			d.rd.noteRequired(q, ok, said, err)
		}
	}
}

// finish ends one poll and waits for it.
func (q *requirements) finish(id string, why error) {
	q.mu.Lock()
	p := q.open[id]
	delete(q.open, id)
	q.mu.Unlock()
	if p != nil {
		p.stop(why)
		<-p.done
	}
}

// abandon ends every poll whose phase did not come to its end, without another test: the round is over.
func (q *requirements) abandon() {
	if q == nil {
		return
	}
	for _, r := range q.rd.Plan.Require {
		q.finish(r.ID, errAbandoned)
	}
}

func (rd *round) noteRequired(q plan.Require, ok bool, said string, err error) {
	e := record.Event{Kind: record.Required, ID: q.ID, OK: &ok, Evidence: said}
	if err != nil {
		e.Error = err.Error()
	}
	rd.w.Event(e)
}
