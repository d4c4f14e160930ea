package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// round is one passage from up to down.
type round struct {
	Job
	plan plan.Round
	w    *record.Writer

	cluster   cluster.Cluster
	metrics   Metrics // nil: none are recorded
	phase     atomic.Pointer[string]
	leaders   *leaders
	readiness *readiness
	life      *life
	required  *requirements
	loads     map[string]Generator
	workloads map[string]Workload
	deaths    sync.Map // workload or load name -> error
	aborted   bool     // an abort rule ended the round, and with it the run
}

func newRound(j Job, r plan.Round) *round {
	rd := &round{Job: j, plan: r, w: j.Record, loads: map[string]Generator{}, workloads: map[string]Workload{}}
	rd.enterSilently("")
	return rd
}

// broken is an error after which a round cannot be judged: it is recorded as a Failure, and the run is INVALID.
type broken struct {
	what string
	err  error
}

func (b *broken) Error() string { return b.what + ": " + b.err.Error() }
func (b *broken) Unwrap() error { return b.err }

// downTimeout bounds what follows an interruption: undoing and taking down.
const downTimeout = 60 * time.Second

// execute runs the round. Everything that was begun is ended when it returns.
func (rd *round) execute(ctx context.Context) (err error) {
	rd.w.SetRound(rd.plan.N)
	rd.w.Event(record.Event{Kind: record.RoundBegin})
	defer rd.w.Event(record.Event{Kind: record.RoundEnd})
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the harness panicked: %v\n%s", p, debug.Stack())
		}
		if err != nil && ctx.Err() == nil {
			rd.w.Event(record.Event{Kind: record.Failure, Error: err.Error()})
		}
	}()
	if err := rd.fresh(ctx); err != nil {
		return fmt.Errorf("empty the volumes: %w", err)
	}
	timed, cancel := context.WithTimeoutCause(ctx, rd.Plan.Timeout.D(),
		fmt.Errorf("the round took longer than the scenario's timeout of %v", rd.Plan.Timeout))
	defer cancel()

	rd.enter(plan.PhaseUp)
	rd.Progress(fmt.Sprintf("starting %s", rd.Plan.Topology))
	rd.cluster, err = rd.Parts.Driver.Up(timed, rd.Spec, cluster.Options{
		Dir: rd.w.Dir(), Volumes: rd.Volumes, Bin: rd.Bin, Observe: rd.observe, Progress: rd.Progress,
		Toxic: linksOf(ToxicOn(rd.plan)), Observed: linksOf(rd.Plan.Observe), Replied: linksOf(RepliedOn(rd.plan)), Calls: rd.calls,
	})
	rd.leave(err)
	if err != nil {
		rd.auditUp(err)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if timed.Err() != nil {
			err = errors.Join(context.Cause(timed), err)
		}
		return fmt.Errorf("start the topology: %w", err)
	}
	defer func() { err = errors.Join(err, rd.down(ctx)) }()
	return rd.inside(timed)
}

// inside is what happens while the topology runs.
func (rd *round) inside(ctx context.Context) (err error) {
	rd.life = newLife(rd)
	watch, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	var watching sync.WaitGroup
	defer func() { stopWatching(); watching.Wait() }()
	ctx, fell := context.WithCancelCause(ctx)
	defer fell(nil)
	rd.leaders = newLeaders(rd.cluster, rd.w)
	owned(&watching, fell, func() { rd.leaders.poll(watch) })
	rd.readiness = newReadiness(rd.cluster, rd.w, rd.probed())
	owned(&watching, fell, func() { rd.readiness.poll(watch) })

	// The death of the plane ends everything at once; nothing after it means anything.
	watching.Go(func() {
		select {
		case <-rd.cluster.Done():
			fell(&broken{"the topology ended", errors.Join(errors.New("its plane is gone"), rd.cluster.Err())})
		case <-watch.Done():
		}
	})
	if err := rd.record(); err != nil {
		return err
	}
	defer rd.recorded()
	// Held faults and whatever an error left are undone before the topology goes down, also after a panic.
	defer func() {
		if p := recover(); p != nil {
			err = errors.Join(err, fmt.Errorf("the harness panicked: %v\n%s", p, debug.Stack()))
		}
		rd.enter(plan.PhaseDrain)
		// Undoing comes first: nothing that hangs or breaks may stand before it.
		rd.life.undoAll()
		rd.required.abandon()
		for _, w := range rd.workloads {
			err = errors.Join(err, safely(w.Close))
		}
		rd.leave(nil)
	}()

	if err := rd.within(ctx, plan.PhaseReady, rd.ready); err != nil {
		return rd.cause(ctx, err)
	}
	if rd.Plan.Warmup > 0 && len(rd.Plan.Loads) > 0 {
		if err := rd.within(ctx, plan.PhaseWarmup, rd.warmup); err != nil {
			return rd.cause(ctx, err)
		}
	}
	work, stopWork := context.WithCancel(ctx)
	var working sync.WaitGroup
	// What an error left in effect is undone before the last answers are waited for, which it may hold up.
	ended := func() { stopWork(); rd.life.undoUnheld(); working.Wait() }
	defer ended()
	owned(&working, fell, func() { rd.watchSurroundings(work) })
	rd.startWork(work, &working)
	abort, stopAbort := context.WithCancelCause(ctx)
	defer stopAbort(nil)
	owned(&working, fell, func() { rd.watchAborts(work, stopAbort) })

	err = rd.loaded(abort)
	ended()
	rd.summaries()
	var a *aborted
	if errors.As(context.Cause(abort), &a) {
		rd.aborted = true
		if errors.Is(err, context.Canceled) || errors.Is(err, a) {
			err = nil // the record says that it was aborted; what was written so far can still be verified
		}
	}
	if ctx.Err() != nil {
		return rd.cause(ctx, err)
	}
	if e := rd.within(ctx, plan.PhaseVerify, rd.verify); e != nil || ctx.Err() != nil {
		err = errors.Join(err, rd.cause(ctx, e))
	}
	return err
}

// record begins the metrics.
func (rd *round) record() (err error) {
	if rd.Parts.Metrics == nil {
		return nil
	}
	if rd.metrics, err = rd.Parts.Metrics(rd.cluster); err != nil {
		return fmt.Errorf("record the metrics: %w", err)
	}
	return nil
}

// recorded ends the metrics. What they lack is no failure of the run: a finding that rests on it says so itself.
func (rd *round) recorded() {
	if rd.metrics == nil {
		return
	}
	if err := safely(rd.metrics.Close); err != nil {
		rd.w.Event(record.Event{Kind: record.Warning, Error: err.Error()})
	}
}

// owned runs f in a goroutine of wg. A panic of it ends the round as the death of the plane does: what is in effect is
// undone, and the record can be read.
func owned(wg *sync.WaitGroup, fell context.CancelCauseFunc, f func()) {
	wg.Go(func() {
		if err := safely(func() error { f(); return nil }); err != nil {
			fell(&broken{"the harness", err})
		}
	})
}

// loaded runs the phases under load.
func (rd *round) loaded(ctx context.Context) error {
	if err := rd.within(ctx, plan.PhaseBaseline, rd.baseline); err != nil {
		return err
	}
	fault := rd.life.run
	if rd.plan.Quiet != nil {
		fault = rd.quiet
	}
	if err := rd.within(ctx, plan.PhaseFault, fault); err != nil {
		return err
	}
	return rd.within(ctx, plan.PhaseRecovery, func(ctx context.Context) error {
		rd.Progress(fmt.Sprintf("recovery for %v", rd.Plan.Recovery))
		if err := rd.lasts(ctx, rd.Plan.Recovery, rd.Plan.RecoveryUntil, rd.Plan.RecoveryTimeout); err != nil {
			return &broken{"the recovery did not come to its end", err}
		}
		return nil
	})
}

// lasts waits for at least d, and then until the condition holds, if there is one. What it counts, such as lines of logs,
// counts from the beginning.
func (rd *round) lasts(ctx context.Context, d plan.Duration, until *plan.Condition, timeout plan.Duration) error {
	if until == nil {
		return sleep(ctx, d.D())
	}
	w := rd.waiter(until)
	if err := sleep(ctx, d.D()); err != nil {
		return err
	}
	_, err := w.await(ctx, timeout.D())
	return err
}

// cause prefers the reason that was given for the end of ctx over the bare "context canceled", and over no error at all:
// what ended with ctx did not come to its end.
func (rd *round) cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil && (err == nil || errors.Is(err, ctx.Err())) {
		return c
	}
	return err
}

// within runs a phase with its events and preconditions.
func (rd *round) within(ctx context.Context, phase string, f func(context.Context) error) error {
	rd.enter(phase)
	cut := errors.New("it panicked")
	defer func() { rd.leave(cut) }()
	due := rd.pollRequired(ctx, phase)
	err := f(ctx)
	due.end()
	if err == nil {
		due.test(ctx)
	}
	cut = rd.cause(ctx, err)
	return err
}

func (rd *round) enterSilently(phase string) { rd.phase.Store(&phase) }

func (rd *round) enter(phase string) {
	rd.enterSilently(phase)
	rd.w.Event(record.Event{Kind: record.PhaseBegin, Phase: phase})
}

// leave ends a phase. With an error it was cut off: its time is over, and what it was for has not come to its end.
func (rd *round) leave(cut error) {
	e := record.Event{Kind: record.PhaseEnd, Phase: *rd.phase.Load()}
	if cut != nil {
		e.Error = cut.Error()
	}
	rd.w.Event(e)
	rd.enterSilently("")
}

// ready waits until every node is ready: Up has seen to it, and a node may have died since.
func (rd *round) ready(ctx context.Context) error {
	nodes := rd.cluster.Nodes()
	rd.Progress(fmt.Sprintf("nodes up: %d", len(nodes)))
	for _, n := range nodes {
		s, err := rd.cluster.Status(n.Name)
		if err != nil {
			return err
		}
		if s.State == cluster.StateExited && s.Exit != nil && s.Exit.Code == 0 {
			continue // a job that has done its work
		}
		if err := rd.cluster.AwaitReady(ctx, n.Name); err != nil {
			return &broken{"a node is not ready", err}
		}
	}
	return rd.prepare(ctx)
}

func (rd *round) env() Env {
	return Env{
		Cluster: rd.cluster,
		Record:  rd.w,
		Round:   rd.plan.N,
		// The same seed runs again, as controls do, and a service may keep what it was given longer than a run lasts.
		RunID: fmt.Sprintf("%x-%x-%d", rd.Plan.Seed, rd.w.Start().UnixMicro(), rd.plan.N),
		Ready: rd.readiness.of,
		Phase: func() string { return *rd.phase.Load() },
	}
}

// prepareTimeout bounds what a workload does before the baseline.
const prepareTimeout = 15 * time.Second

// prepare makes loads and workloads. It is part of the phase ready: what a workload needs of the service is there
// before the baseline begins.
func (rd *round) prepare(ctx context.Context) error {
	for _, l := range rd.Plan.Loads {
		g, err := rd.Parts.Load(l, rd.env())
		if err != nil {
			return attribute("load "+l.Name, err)
		}
		rd.loads[l.Name] = g
	}
	for _, w := range rd.Plan.Workloads {
		x, err := rd.Parts.Workload(w, rd.env())
		if err != nil {
			return attribute("workload "+w.Name, err)
		}
		rd.workloads[w.Name] = x
		limited, cancel := context.WithTimeoutCause(ctx, prepareTimeout, fmt.Errorf("it took longer than %v", prepareTimeout))
		if err = x.Prepare(limited); err != nil {
			err = fmt.Errorf("prepare: %w", attribute("workload "+w.Name, errors.Join(err, context.Cause(limited))))
		}
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// attribute names what an error is of, where the error does not.
func attribute(of string, err error) error {
	if strings.HasPrefix(err.Error(), of+": ") {
		return err
	}
	return fmt.Errorf("%s: %w", of, err)
}

// startWork starts loads and workloads; they end with ctx.
func (rd *round) startWork(ctx context.Context, working *sync.WaitGroup) {
	// A due time belongs to the phase that runs then: the baseline begins with the first request.
	rd.enterSilently(plan.PhaseBaseline)
	for name, g := range rd.loads {
		working.Go(func() {
			if err := safely(func() error { return g.Run(ctx) }); err != nil {
				rd.deaths.Store(name, attribute("load "+name, err))
			}
		})
	}
	for name, w := range rd.workloads {
		working.Go(func() {
			if err := safely(func() error { return w.Run(ctx) }); err != nil {
				rd.deaths.Store(name, attribute("workload "+name, err))
			}
		})
	}
}

// summaries records loads and workloads that failed.
func (rd *round) summaries() {
	rd.deaths.Range(func(_, v any) bool {
		rd.w.Event(record.Event{Kind: record.Failure, Error: v.(error).Error()})
		return true
	})
}

// baseline is the time before the first fault.
func (rd *round) baseline(ctx context.Context) error {
	b := rd.Plan.Baseline
	rd.Progress(fmt.Sprintf("baseline for %v", b.AtLeast))
	if err := rd.lasts(ctx, b.AtLeast, b.Until, b.Timeout); err != nil {
		return &broken{"the baseline did not come to its end", err}
	}
	return nil
}

// probed are the services whose readiness matters to a load or workload: what it goes to may be a service, a group or a
// single node.
func (rd *round) probed() map[string]bool {
	m := map[string]bool{}
	add := func(to string) {
		for _, s := range rd.Spec.Services {
			if to != "" && (s.Name == to || s.Group == to) {
				m[s.Name] = true
			}
		}
		if s := rd.serviceOf(to); s != "" {
			m[s] = true
		}
	}
	for _, l := range rd.Plan.Loads {
		add(l.To)
	}
	for _, w := range rd.Plan.Workloads {
		add(w.To)
	}
	return m
}

// observe writes what the driver reports about nodes.
func (rd *round) observe(e cluster.Event) {
	ev := record.Event{T: rd.w.At(e.At), Kind: record.EventKind(e.Kind), Node: e.Node, Announced: e.Announced, Evidence: e.Detail}
	if e.Kind == cluster.NodeSignalled || e.Kind == cluster.ProcessSignalled {
		ev.Signal, ev.Evidence = e.Detail, ""
	}
	if e.Exit != nil {
		ev.Signal = e.Exit.Signal
		if e.Exit.Signal == "" {
			ev.ExitCode = &e.Exit.Code
		}
	}
	rd.w.Event(ev)
}

// down takes the topology down and asks what is left.
func (rd *round) down(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), downTimeout)
	defer cancel()
	rd.enter(plan.PhaseDown)
	rd.Progress("taking down")
	left, err := rd.cluster.Down(ctx)
	rd.leave(err)
	rd.enter(plan.PhaseAudit)
	defer rd.leave(nil)
	ok := len(left) == 0 && err == nil
	ev := record.Event{Kind: record.Audited, OK: &ok}
	if err != nil {
		ev.Error = err.Error()
	}
	for _, l := range left {
		ev.Error += "\nleft: " + l
	}
	if ok {
		ev.Evidence = "no process, rule, mount, namespace or cgroup of this run is left"
	}
	rd.w.Event(ev)
	if err != nil {
		return fmt.Errorf("take the topology down: %w", err)
	}
	return nil
}

// auditUp records what a topology that did not come up has left: nothing, unless the driver says otherwise.
func (rd *round) auditUp(err error) {
	rd.enter(plan.PhaseAudit)
	defer rd.leave(nil)
	var l *cluster.LeftError
	ok := !errors.As(err, &l)
	ev := record.Event{Kind: record.Audited, OK: &ok}
	if ok {
		ev.Evidence = "the topology did not come up, and what had been started was taken away"
	} else {
		ev.Error = l.Error()
	}
	rd.w.Event(ev)
}
