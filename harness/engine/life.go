package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/hasvc/gauntlet/faults"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

const (
	// proofTimeout bounds the wait for a fault to be seen in effect.
	proofTimeout = 5 * time.Second
	// goneTimeout bounds the wait for a fault to be seen gone: a node that was killed must start and become ready.
	goneTimeout = 30 * time.Second
	// undoTimeout bounds all steps of the undo of one fault: a graceful stop may take its grace period.
	undoTimeout = 20 * time.Second
	// proofEvery is how often a proof is asked for.
	proofEvery = 10 * time.Millisecond
)

// life is the life of all faults of a round.
type life struct {
	rd    *round
	loads *loads

	mu      sync.Mutex
	active  []*injection                // begun and not undone, in the order of their beginning
	moments map[plan.EventRef]*moment   // what triggers may wait for
	targets map[string][]string         // fault -> the nodes it resolved to last
	since   map[string]map[string]int64 // fault -> the ends of the logs at that moment
	holds   map[string]int              // node -> faults that hold it
	debts   []debt                      // what faults left to others to be seen gone

	choosing sync.Mutex // one selection at a time, from looking at the nodes to holding those that were chosen

	begin    time.Time
	phaseEnd chan struct{} // closed when every fault that ends by itself has ended
}

// moment is a step in the life of a fault that others may wait for.
type moment struct {
	reached chan struct{} // closed when it came
	lost    chan struct{} // closed when it will not come
	at      time.Time
}

// injection is one occurrence of a fault, from begin to gone.
type injection struct {
	fault  plan.Fault
	kind   faults.Kind
	n      int // from 1
	steps  []step
	nodes  []string // that it holds
	effect *faults.Effect
	byHand bool // no trigger waits for it

	undoing sync.Once // whoever comes second waits for the first
	undoErr error
}

type step struct {
	what string
	do   func(context.Context) error
}

func newLife(rd *round) *life {
	l := &life{rd: rd, loads: newLoads(rd.loads), moments: map[plan.EventRef]*moment{}, targets: map[string][]string{},
		since: map[string]map[string]int64{}, holds: map[string]int{}, phaseEnd: make(chan struct{})}
	for _, f := range rd.plan.Faults {
		for _, e := range []plan.FaultEvent{plan.Started, plan.InEffect, plan.Undone, plan.Gone} {
			l.moments[plan.EventRef{Fault: f.ID, Event: e}] = &moment{reached: make(chan struct{}), lost: make(chan struct{})}
		}
	}
	return l
}

// run is the fault phase: it returns when every fault is gone, but those held to the end of the run.
func (l *life) run(ctx context.Context) error {
	l.begin = time.Now()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var bounded, all sync.WaitGroup
	for _, f := range l.rd.plan.Faults {
		bounded.Add(1)
		settle := sync.OnceFunc(bounded.Done)
		all.Go(func() {
			defer settle()
			defer l.lose(f.ID)
			if err := safely(func() error { return l.live(ctx, f, settle) }); err != nil {
				if ctx.Err() == nil {
					l.rd.w.Event(record.Event{Kind: record.FaultFailed, Fault: f.ID, FaultKind: f.Kind, Error: err.Error()})
				}
				fail(&broken{"fault " + f.ID, err})
			}
		})
	}
	bounded.Wait()
	close(l.phaseEnd)
	all.Wait()
	return context.Cause(ctx)
}

// live runs the occurrences of one fault. settle is called when the fault waits for nothing but the end of the phase.
func (l *life) live(ctx context.Context, f plan.Fault, settle func()) error {
	kind, ok := faults.ByName(f.Kind)
	if !ok {
		return fmt.Errorf("no fault is called %q", f.Kind)
	}
	at, err := l.trigger(ctx, f.At, l.begin, nil)
	if err != nil {
		return fmt.Errorf("its moment (at) did not come: %w", err)
	}
	for i, o := range f.Occurrences {
		due := at.Add(o.Offset.D())
		if err := sleep(ctx, time.Until(due)); err != nil {
			return err
		}
		// Occurrences wait for the one before to be gone; those that come too late for the window are not made.
		if i > 0 && f.Window > 0 && time.Since(at) > f.Window.D() {
			break
		}
		if err := l.inject(ctx, &injection{fault: f, kind: kind, n: i + 1}, o, due, settle); err != nil {
			return err
		}
	}
	return nil
}

// inject is the whole life of one occurrence.
func (l *life) inject(ctx context.Context, in *injection, o plan.Occurrence, due time.Time, settle func()) error {
	params := in.kind.New()
	d := json.NewDecoder(bytes.NewReader(o.Params))
	d.DisallowUnknownFields()
	if err := d.Decode(params); err != nil {
		return fmt.Errorf("read its parameters: %w", err)
	}
	// A condition that ends the fault counts what happens from here on.
	var until *waiter
	if in.fault.Until != nil && in.fault.Until.When != nil {
		until = l.rd.waiter(in.fault.Until.When)
	}
	injected, err := l.inflict(ctx, in, params, o.Seed, due)
	if err != nil {
		return err
	}
	if !in.kind.Undo && !in.effect.Lasts {
		l.end(in)
		return nil
	}
	switch {
	case in.fault.Held:
		settle()
		return nil
	case in.fault.Until != nil:
		if _, err := l.trigger(ctx, *in.fault.Until, injected, until); err != nil {
			return fmt.Errorf("its end (until) did not come: %w", err)
		}
	case o.For > 0 && !in.effect.Lasts:
		if err := sleep(ctx, time.Until(injected.Add(o.For.D()))); err != nil {
			return err
		}
	default:
		settle()
		select {
		case <-l.phaseEnd:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return l.undo(ctx, in)
}

// inflict injects and proves, and returns when the damage was done. Whatever comes of it, the injection is active until it is
// undone or ended.
func (l *life) inflict(ctx context.Context, in *injection, params faults.Params, seed uint64, due time.Time) (injected time.Time, err error) {
	l.mu.Lock()
	l.active = append(l.active, in)
	l.mu.Unlock()
	planned := l.rd.w.At(due)
	l.event(in, record.FaultStarted, plan.Started, time.Now(), func(e *record.Event) { e.Planned = &planned })
	l.rd.Progress(fmt.Sprintf("fault %s begins", in.name()))
	env := &faults.Env{
		Cluster: l.rd.cluster,
		Seed:    seed,
		Loads:   l.loads,
		Resolve: func(ctx context.Context, t plan.Target) ([]string, error) { return l.resolve(ctx, in, t, seed) },
		Undo:    func(what string, do func(context.Context) error) { in.steps = append(in.steps, step{what, do}) },
	}
	var effect *faults.Effect
	err = safely(func() (err error) { effect, err = params.Inject(ctx, env); return err })
	injected = time.Now()
	l.mu.Lock()
	in.effect = effect
	l.mu.Unlock()
	if err != nil {
		return injected, err
	}
	proof, err := prove(ctx, proofTimeout+in.effect.Patience, in.effect.Prove)
	if err != nil {
		return injected, fmt.Errorf("it was injected, but its effect could not be proved: %w", err)
	}
	if in.effect.Since != nil {
		injected = in.effect.Since()
	}
	l.event(in, record.FaultInEffect, plan.InEffect, injected, func(e *record.Event) { e.Evidence = proof })
	return injected, nil
}

// end is the end of a fault that has nothing to undo.
func (l *life) end(in *injection) {
	l.forget(in)
	l.free(in)
	l.event(in, record.FaultGone, plan.Gone, time.Now(), nil)
}

// undo takes a fault back and proves that it is gone. It runs to its end whatever becomes of ctx, and once: who comes
// second waits and is told the same.
func (l *life) undo(ctx context.Context, in *injection) error {
	in.undoing.Do(func() { in.undoErr = l.takeBack(context.WithoutCancel(ctx), in) })
	return in.undoErr
}

func (l *life) takeBack(ctx context.Context, in *injection) error {
	defer l.free(in)
	if len(in.steps) == 0 {
		l.forget(in) // it failed before it did anything, or has nothing to take back
		return nil
	}
	var bit string
	var failed []error
	if in.effect != nil && in.effect.Bitten != nil {
		limited, cancel := context.WithTimeout(ctx, proofTimeout)
		var err error
		bit, err = once(limited, in.effect.Bitten)
		cancel()
		if err != nil {
			l.rd.w.Event(record.Event{Kind: record.FaultUnproved, Fault: in.fault.ID, FaultKind: in.fault.Kind, Occurrence: in.n, Error: err.Error()})
			// A scenario is judged by its record, which says so. Who breaks by hand reads none.
			if in.byHand || !errors.Is(err, faults.ErrNotYet) {
				failed = append(failed, fmt.Errorf("what it acted on is not proved: %w", err))
			}
		}
	}
	limited, cancel := context.WithTimeout(ctx, undoTimeout)
	defer cancel()
	clean := true
	for _, s := range slices.Backward(in.steps) {
		if err := safely(func() error { return s.do(limited) }); err != nil {
			clean = false
			err = fmt.Errorf("%s: %w", s.what, err)
			failed = append(failed, err)
			l.rd.w.Event(record.Event{Kind: record.UndoFailed, Fault: in.fault.ID, FaultKind: in.fault.Kind, Occurrence: in.n, Error: err.Error()})
		}
	}
	l.forget(in)
	l.event(in, record.FaultUndone, plan.Undone, time.Now(), func(e *record.Event) { e.Evidence = bit })
	if !clean || in.effect == nil {
		return errors.Join(failed...) // of half an injection nothing says how it would be seen gone
	}
	proof, err := l.seenGone(ctx, in)
	if err != nil {
		return errors.Join(append(failed, err)...)
	}
	// Nobody else may choose its nodes before they are as they were; who waits for it to be gone may.
	l.free(in)
	l.event(in, record.FaultGone, plan.Gone, time.Now(), func(e *record.Event) { e.Evidence = proof })
	l.rd.Progress(fmt.Sprintf("fault %s is gone", in.name()))
	return errors.Join(failed...)
}

// whileAlive is ctx for as long as the topology lives: what ended with it will not be seen gone. stop waits for the watch.
func (l *life) whileAlive(ctx context.Context) (alive context.Context, stop func()) {
	alive, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-l.rd.cluster.Done():
			cancel()
		case <-alive.Done():
		}
	})
	return alive, func() { cancel(); watching.Wait() }
}

// undoUnheld undoes, in reverse order, what an error left in effect; faults held to the end stay.
func (l *life) undoUnheld() { l.sweep(func(in *injection) bool { return !in.fault.Held }) }

// undoAll undoes everything that is still in effect, in reverse order. What fails is in the record.
func (l *life) undoAll() { l.sweep(func(*injection) bool { return true }) }

func (l *life) sweep(which func(*injection) bool) {
	l.mu.Lock()
	active := slices.Clone(l.active)
	l.mu.Unlock()
	for _, in := range slices.Backward(active) {
		if which(in) {
			// The error is recorded where it arises; the sweep goes on with the next fault.
			_ = l.undo(context.Background(), in)
		}
	}
}

// forget takes an injection off the list of what is in effect.
func (l *life) forget(in *injection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active = slices.DeleteFunc(l.active, func(x *injection) bool { return x == in })
}

// free lets other faults have the nodes of an injection. It may be called twice.
func (l *life) free(in *injection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range in.nodes {
		l.holds[n]--
	}
	in.nodes = nil
}

// event records a step of a fault's life and tells those who wait for it.
func (l *life) event(in *injection, kind record.EventKind, step plan.FaultEvent, at time.Time, more func(*record.Event)) {
	e := record.Event{T: l.rd.w.At(at), Kind: kind, Fault: in.fault.ID, FaultKind: in.fault.Kind, Occurrence: in.n}
	if in.effect != nil {
		e.Targets = in.effect.Targets
		for _, k := range in.effect.Links {
			e.Links = append(e.Links, k.String())
		}
	}
	if more != nil {
		more(&e)
	}
	l.rd.w.Event(e)
	if in.n == 1 && !in.byHand {
		l.reach(plan.EventRef{Fault: in.fault.ID, Event: step}, at)
	}
}

func (l *life) reach(ref plan.EventRef, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.moments[ref]
	select {
	case <-m.reached:
	default:
		m.at = at
		close(m.reached)
	}
}

// lose tells those who wait for a fault that has ended that what did not come will not come any more.
func (l *life) lose(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for ref, m := range l.moments {
		if ref.Fault == id {
			close(m.lost)
		}
	}
}

// trigger waits for a moment and returns it. Offsets count from zero.
func (l *life) trigger(ctx context.Context, t plan.Trigger, zero time.Time, w *waiter) (time.Time, error) {
	at := zero.Add(t.Offset.D())
	switch {
	case t.After != nil:
		var err error
		if at, err = l.after(ctx, *t.After, t.Timeout.D()); err != nil {
			return time.Time{}, err
		}
		at = at.Add(t.Plus.D())
	case t.When != nil:
		if w == nil {
			w = l.rd.waiter(t.When)
		}
		held, err := w.await(ctx, t.Timeout.D())
		if err != nil {
			return time.Time{}, err
		}
		at = held.Add(t.Plus.D())
	}
	return at, sleep(ctx, time.Until(at))
}

// after waits for a step in the life of a fault.
func (l *life) after(ctx context.Context, ref plan.EventRef, timeout time.Duration) (time.Time, error) {
	l.mu.Lock()
	m := l.moments[ref]
	l.mu.Unlock()
	if m == nil {
		return time.Time{}, fmt.Errorf("no fault of this round is called %s", ref.Fault)
	}
	ctx, cancel := bounded(ctx, timeout, fmt.Sprintf("%s.%s did not come within %v", ref.Fault, ref.Event, timeout))
	defer cancel()
	select {
	case <-m.reached:
		return m.at, nil
	default:
	}
	select {
	case <-m.reached:
		return m.at, nil
	case <-m.lost:
		select {
		case <-m.reached:
			return m.at, nil
		default:
		}
		return time.Time{}, fmt.Errorf("fault %s ended without the event %s", ref.Fault, ref.Event)
	case <-ctx.Done():
		return time.Time{}, context.Cause(ctx)
	}
}

func (in *injection) name() string {
	if in.fault.Repeated {
		return fmt.Sprintf("%s #%d", in.fault.ID, in.n)
	}
	return in.fault.ID
}

// bounded is a context with a timeout that says what did not happen; 0 is no timeout.
func bounded(ctx context.Context, timeout time.Duration, what string) (context.Context, context.CancelFunc) {
	if timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, timeout, errors.New(what))
}

// prove polls a proof until it is there, fails, or takes too long.
func prove(ctx context.Context, timeout time.Duration, proof func(context.Context) (string, error)) (string, error) {
	if proof == nil {
		return "", errors.New("the fault has no proof of its effect")
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var last error
	for {
		evidence, err := once(ctx, proof)
		switch {
		case err == nil:
			return evidence, nil
		case errors.Is(err, faults.ErrNotYet):
			last = err
		case ctx.Err() != nil && last != nil:
			return "", last
		default:
			return "", err
		}
		if err := sleep(ctx, proofEvery); err != nil {
			return "", errors.Join(last, err)
		}
	}
}

func once(ctx context.Context, proof func(context.Context) (string, error)) (evidence string, err error) {
	err = safely(func() (err error) { evidence, err = proof(ctx); return err })
	return evidence, err
}

// safely turns a panic into an error: a fault that breaks must still be undone.
func safely(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}
