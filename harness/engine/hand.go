package engine

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/hasvc/gauntlet/faults"
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// Hand breaks a running topology by hand, with the same proofs and undos as a scenario. It records what it does.
type Hand struct {
	rd   *round
	stop context.CancelFunc
	done sync.WaitGroup
	mu   sync.Mutex
	n    int
}

// NewHand watches who leads the groups of c, so that faults can ask for it. Close ends it.
func NewHand(c cluster.Cluster, w *record.Writer) *Hand {
	p := &plan.Plan{Version: plan.Version, Rounds: []plan.Round{{N: 1}}}
	rd := newRound(Job{Plan: p, Spec: c.Spec(), Record: w, Progress: func(string) {}}, p.Rounds[0])
	rd.cluster = c
	rd.life = newLife(rd)
	rd.leaders = newLeaders(c, w)
	ctx, stop := context.WithCancel(context.Background())
	h := &Hand{rd: rd, stop: stop}
	h.done.Go(func() {
		if err := safely(func() error { rd.leaders.poll(ctx); return nil }); err != nil {
			w.Event(record.Event{Kind: record.Failure, Error: "ask who leads: " + err.Error()})
		}
	})
	return h
}

// Inject inflicts a fault and returns when its effect is proved. undo takes it back and proves that it is gone; its error
// says too, by faults.ErrNotYet, that the fault met nothing to act on. An action has nothing to take back. When Inject
// fails, what was done is undone.
func (h *Hand) Inject(ctx context.Context, p faults.Params) (undo func(context.Context) error, err error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	kind, ok := kindOf(p)
	if !ok {
		return nil, fmt.Errorf("%T is no row of the table of faults", p)
	}
	h.mu.Lock()
	h.n++
	in := &injection{fault: plan.Fault{ID: fmt.Sprintf("%s-%d", kind.Name, h.n), Kind: kind.Name}, kind: kind, n: 1, byHand: true}
	seed := uint64(h.n)
	h.mu.Unlock()
	if _, err := h.rd.life.inflict(ctx, in, p, seed, time.Now()); err != nil {
		// The undo's own errors are in the record; what the caller needs is why nothing was inflicted.
		_ = h.rd.life.undo(ctx, in)
		return nil, err
	}
	if !kind.Undo && !in.effect.Lasts {
		h.rd.life.end(in)
		return func(context.Context) error { return nil }, nil
	}
	return func(ctx context.Context) error { return h.rd.life.undo(ctx, in) }, nil
}

// Close undoes what is still in effect, in reverse order, and ends the watch.
func (h *Hand) Close() {
	h.rd.life.undoAll()
	h.stop()
	h.done.Wait()
}

// kindOf finds the row of the table that parameters belong to.
func kindOf(p faults.Params) (faults.Kind, bool) {
	for _, k := range faults.Table {
		if k.Unsupported == "" && reflect.TypeOf(k.New()) == reflect.TypeOf(p) {
			return k, true
		}
	}
	return faults.Kind{}, false
}
