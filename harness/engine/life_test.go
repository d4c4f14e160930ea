package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hasvc/gauntlet/faults"
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// slowStatus is a cluster that takes a while to say how a node is, so that choices overlap.
type slowStatus struct{ *fake }

func (s *slowStatus) Status(n string) (cluster.Status, error) {
	time.Sleep(2 * time.Millisecond)
	return s.fake.Status(n)
}

// wrapped is a driver whose cluster is another one around the fake.
type wrapped struct {
	*fakeDriver
	around func(*fake) cluster.Cluster
}

func (w *wrapped) Up(ctx context.Context, s *cluster.Spec, o cluster.Options) (cluster.Cluster, error) {
	if _, err := w.fakeDriver.Up(ctx, s, o); err != nil {
		return nil, err
	}
	return w.around(w.c), nil
}

func TestFaultsThatBeginAtOnceChooseDifferentNodes(t *testing.T) {
	d := newFake()
	var fs []plan.Fault
	for i := range 3 {
		fs = append(fs, fault(fmt.Sprintf("f%d", i), "pause", `{"group":"db","pick":"1"}`, 0, 50*time.Millisecond))
	}
	run, err := job(t, t.Context(), &wrapped{d, func(f *fake) cluster.Cluster { return &slowStatus{f} }}, planOf(fs...))
	require.NoError(t, err)
	var chosen []string
	for _, e := range run.Events {
		if e.Kind == record.Bound {
			chosen = append(chosen, e.Targets...)
		}
	}
	slices.Sort(chosen)
	assert.Equal(t, []string{"db-1", "db-2", "db-3"}, chosen)
}

// awaiting is a cluster that says when somebody waits for a node to be ready, and lets it be ready on demand.
type awaiting struct {
	*fake
	waits chan struct{}
	ready chan struct{}
	once  sync.Once
}

func (a *awaiting) AwaitReady(ctx context.Context, n string) error {
	if slices.Contains(a.notesNow(), "start db-1") {
		a.once.Do(func() { close(a.waits) })
		<-a.ready
	}
	return a.fake.AwaitReady(ctx, n)
}

func (f *fake) notesNow() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.notes)
}

func TestNodeThatIsNotReadyAgainIsNotChosen(t *testing.T) {
	d := newFake()
	a := &awaiting{waits: make(chan struct{}), ready: make(chan struct{})}
	d.c.exec = func(context.Context, string, cluster.Process) (cluster.Exit, error) {
		<-a.waits
		return cluster.Exit{}, nil
	}
	first := fault("first", "kill", `{"node":"db-1"}`, 0, time.Millisecond)
	// The second chooses all that are free while the first one's node was started and is not ready.
	moment := fault("moment", "do", `{"exec":["wait"]}`, 0, 0)
	second := fault("second", "pause", `{"group":"db"}`, 0, time.Millisecond)
	second.At = plan.Trigger{After: &plan.EventRef{Fault: "moment", Event: plan.Gone}}
	third := fault("third", "do", `{"exec":["go-on"]}`, 0, 0)
	third.At = plan.Trigger{After: &plan.EventRef{Fault: "second", Event: plan.InEffect}}
	inner := d.c.exec
	d.c.exec = func(ctx context.Context, n string, p cluster.Process) (cluster.Exit, error) {
		if p.Argv[0] == "go-on" {
			close(a.ready)
			return cluster.Exit{}, nil
		}
		return inner(ctx, n, p)
	}
	run, err := job(t, t.Context(), &wrapped{d, func(f *fake) cluster.Cluster { a.fake = f; return a }}, planOf(first, moment, second, third))
	require.NoError(t, err)
	assert.Equal(t, []string{"db-2", "db-3"}, inEffect(run, "second").Targets)
}

func inEffect(r *record.Run, id string) *record.Event {
	for i := range r.Events {
		if e := &r.Events[i]; e.Kind == record.FaultInEffect && e.Fault == id {
			return e
		}
	}
	return &record.Event{}
}

// A node that another fault has started ran for a part of the time, whatever it is at the end of the first one.
func TestANodeThatDidNotStayAsItWasPutIsUnproved(t *testing.T) {
	after := func(f plan.Fault, id string, e plan.FaultEvent) plan.Fault {
		f.At = plan.Trigger{After: &plan.EventRef{Fault: id, Event: e}}
		return f
	}
	first := fault("first", "pause", `{"node":"db-1"}`, 0, 0)
	first.Held = true
	kill := after(fault("kill", "kill", `{"node":"db-1"}`, 0, time.Millisecond), "first", plan.InEffect)
	again := after(fault("again", "pause", `{"node":"db-1"}`, 0, 0), "kill", plan.Gone)
	again.Held = true
	ends := first
	ends.Held, ends.Until = false, &plan.Trigger{After: &plan.EventRef{Fault: "again", Event: plan.InEffect}}
	for name, c := range map[string]struct {
		faults []plan.Fault
		why    string
	}{
		"it runs":              {[]plan.Fault{first, kill}, "db-1 is running"},
		"it is paused by then": {[]plan.Fault{ends, kill, again}, "db-1 was started meanwhile"},
	} {
		t.Run(name, func(t *testing.T) {
			run, err := job(t, t.Context(), newFake(), planOf(c.faults...))
			require.NoError(t, err)
			assert.Contains(t, kinds(run, "first"), record.FaultUnproved)
			e := has(run, record.FaultUnproved)
			require.NotNil(t, e)
			assert.Equal(t, "first", e.Fault)
			assert.Contains(t, e.Error, c.why)
			assert.Equal(t, wholeLife, kinds(run, "kill"))
		})
	}
}

// gathering is a fault whose damage is done a while after Inject.
type gathering struct {
	after time.Duration
	since bool // it says when
}

func (g *gathering) Validate() error        { return nil }
func (g *gathering) Targets() []plan.Target { return nil }
func (g *gathering) Inject(_ context.Context, env *faults.Env) (*faults.Effect, error) {
	done := time.Now().Add(g.after)
	env.Undo("undo", func(context.Context) error { return nil })
	e := &faults.Effect{Prove: func(context.Context) (string, error) {
		if time.Now().Before(done) {
			return "", faults.NotYet("it gathers")
		}
		return "all are there", nil
	}}
	if g.since {
		e.Since = func() time.Time { return done }
	}
	return e, nil
}

func TestAFaultHoldsForItsTimeFromItsDamageOn(t *testing.T) {
	const after, lasts = 300 * time.Millisecond, 200 * time.Millisecond
	for name, c := range map[string]struct {
		since        bool
		effect, ends time.Duration // after it began
	}{
		"done when it was injected": {false, 0, after}, // the proof was all that took longer
		"done later":                {true, after, after + lasts},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rd, _ := handRound(t)
				f := plan.Fault{ID: "crowd", Kind: "crowd"}
				rd.plan.Faults = []plan.Fault{f}
				l := newLife(rd)
				kind := faults.Kind{Undo: true, New: func() faults.Params { return &gathering{after, c.since} }}
				begin := time.Now()
				require.NoError(t, l.inject(t.Context(), &injection{fault: f, kind: kind, n: 1}, plan.Occurrence{For: plan.Duration(lasts), Params: []byte("{}")},
					begin, func() {}))
				at := func(e plan.FaultEvent) time.Duration {
					return l.moments[plan.EventRef{Fault: "crowd", Event: e}].at.Sub(begin).Round(proofEvery)
				}
				assert.Equal(t, c.effect, at(plan.InEffect))
				assert.Equal(t, c.ends, at(plan.Undone))
			})
		})
	}
}

func TestNodeThatIsScaledAwayMeanwhileIsNoCandidate(t *testing.T) {
	stale := &wrapped{newFake(), func(f *fake) cluster.Cluster { return &staleNodes{fake: f} }}
	run, err := job(t, t.Context(), stale, planOf(fault("p", "pause", `{"service":"api"}`, 0, time.Millisecond)))
	require.NoError(t, err)
	assert.Equal(t, []string{"api-1"}, inEffect(run, "p").Targets)
}

// staleNodes goes on listing api-2, which is gone as soon as all nodes were ready.
type staleNodes struct {
	*fake
	gone atomic.Bool
}

func (s *staleNodes) AwaitReady(ctx context.Context, n string) error {
	s.gone.Store(n == "db-3") // the last one
	return s.fake.AwaitReady(ctx, n)
}

func (s *staleNodes) Status(n string) (cluster.Status, error) {
	if n == "api-2" && s.gone.Load() {
		return cluster.Status{}, &cluster.UnknownNodeError{Name: n}
	}
	return s.fake.Status(n)
}

func TestUndoIsDoneOnceAndWhoComesSecondWaits(t *testing.T) {
	rd, _ := handRound(t)
	release, begun := make(chan struct{}), make(chan struct{})
	var times atomic.Int32
	in := &injection{fault: plan.Fault{ID: "x"}, n: 1, byHand: true, effect: &faults.Effect{}}
	in.steps = []step{{"wait", func(context.Context) error {
		times.Add(1)
		close(begun)
		<-release
		return errors.New("stuck")
	}}}
	rd.life.active = append(rd.life.active, in)
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- rd.life.undo(t.Context(), in) }()
	<-begun
	go func() { second <- rd.life.undo(t.Context(), in) }()
	select {
	case <-second:
		t.Fatal("the second came back before the undo was done")
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	assert.ErrorContains(t, <-first, "stuck")
	assert.ErrorContains(t, <-second, "stuck")
	assert.EqualValues(t, 1, times.Load())
}

func TestStepsOfAnUndoGoBackwardsAndOneThatPanicsDoesNotStopTheOthers(t *testing.T) {
	rd, _ := handRound(t)
	var done []string
	in := &injection{fault: plan.Fault{ID: "x"}, n: 1, byHand: true, effect: &faults.Effect{}}
	for _, s := range []string{"one", "two", "three"} {
		in.steps = append(in.steps, step{s, func(context.Context) error {
			done = append(done, s)
			if s == "two" {
				panic("no way back")
			}
			return nil
		}})
	}
	err := rd.life.undo(t.Context(), in)
	assert.ErrorContains(t, err, "two: it panicked: no way back")
	assert.Equal(t, []string{"three", "two", "one"}, done)
}

func TestHalfAnInjectionIsUndoneButNotCalledGone(t *testing.T) {
	d := newFake()
	d.c.broken["pause db-2"] = errors.New("no such process")
	run, err := job(t, t.Context(), d, planOf(fault("half", "pause", `{"group":"db"}`, 0, time.Millisecond)))
	require.ErrorContains(t, err, "no such process")
	assert.Contains(t, kinds(run, "half"), record.FaultUndone)
	assert.NotContains(t, kinds(run, "half"), record.FaultGone)
}

func TestActionThatFailedHasNoUndo(t *testing.T) {
	d := newFake()
	d.c.broken["exec false client"] = errors.New("no such program")
	run, err := job(t, t.Context(), d, planOf(fault("act", "do", `{"exec":["false"]}`, 0, 0)))
	require.ErrorContains(t, err, "no such program")
	assert.Equal(t, []record.EventKind{record.FaultStarted, record.FaultFailed}, kinds(run, "act"))
}

func TestQuestionThatHangsDoesNotHoldUpTheUndo(t *testing.T) {
	rd, _ := handRound(t)
	in := &injection{fault: plan.Fault{ID: "x"}, n: 1, byHand: true}
	in.effect = &faults.Effect{Bitten: func(ctx context.Context) (string, error) {
		_, bounded := ctx.Deadline()
		assert.True(t, bounded, "a plane that does not answer would hold the undo up for ever")
		return "", faults.NotYet("nothing")
	}}
	undone := false
	in.steps = []step{{"undo", func(context.Context) error { undone = true; return nil }}}
	require.ErrorIs(t, rd.life.undo(t.Context(), in), faults.ErrNotYet)
	assert.True(t, undone)
}

// unmet is a cluster whose rules act on nothing but probes.
type unmet struct{ *fake }

func (u *unmet) Counters(_ context.Context, id cluster.RuleID) (cs []cluster.Counter, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, l := range u.rules[id].links {
		cs = append(cs, cluster.Counter{Link: l, Probes: 1})
	}
	return cs, nil
}

func TestAFaultByHandThatNothingMetFailsItsUndo(t *testing.T) {
	rd, f := handRound(t)
	h := NewHand(&unmet{f}, rd.w)
	defer h.Close()
	undo, err := h.Inject(t.Context(), &faults.Drop{Ends: faults.Ends{From: "db-1", To: "db-2"}})
	require.NoError(t, err)
	err = undo(t.Context())
	require.ErrorIs(t, err, faults.ErrNotYet)
	assert.ErrorContains(t, err, "it had nothing to act on")
	assert.Empty(t, f.rules, "and is undone all the same")
}

// Of two faults on one pair of nodes the first to go is seen gone by the last, too.
func TestFaultsOnOnePairOfNodesAreSeenGoneTogether(t *testing.T) {
	run, err := job(t, t.Context(), newFake(), planOf(
		fault("first", "drop", `{"from":"db-1","to":"db-2"}`, 0, 600*time.Millisecond),
		fault("back", "drop", `{"from":"db-2","to":"db-1"}`, 0, 2*time.Second),
		fault("aside", "drop", `{"from":"db-2","to":"db-3"}`, 0, 600*time.Millisecond),
	))
	require.NoError(t, err)
	said := map[string]string{}
	for _, e := range run.Events {
		assert.NotEqual(t, record.UndoFailed, e.Kind, e.Error)
		if e.Kind == record.FaultGone {
			said[e.Fault] = e.Evidence
		}
	}
	assert.Equal(t, "1 links on which back acts are left to be seen when it is gone", said["first"])
	assert.Regexp(t, "^1 of 1 probes were answered.*; what first had left to it: 1 of 1 probes were answered", said["back"])
	assert.Regexp(t, "^1 of 1 probes were answered[^;]*$", said["aside"])
}

// Each is measured by its own proof: what satisfies the last one is not enough for the first.
func TestWhatWasLeftToAnotherFaultIsProved(t *testing.T) {
	rd, f := handRound(t)
	h := NewHand(f, rd.w)
	undo, err := h.Inject(t.Context(), &faults.Reject{Ends: faults.Ends{From: "db-1", To: "db-2"}})
	require.NoError(t, err)
	other := &injection{fault: plan.Fault{ID: "other"}, n: 1, byHand: true, steps: []step{{"undo", func(context.Context) error { return nil }}},
		effect: &faults.Effect{Links: []cluster.Link{{From: "db-2", To: "db-1"}}, Healed: func([]cluster.Link) func(context.Context) (string, error) {
			return func(context.Context) (string, error) { return "quick enough for this one", nil }
		}}}
	h.rd.life.active = append(h.rd.life.active, other)
	require.NoError(t, undo(t.Context()))
	f.mu.Lock()
	f.rules[1000] = fakeRule{[]cluster.Link{{From: "db-1", To: "db-2"}}, cluster.Rule{Reject: true}} // as if it were still there
	f.mu.Unlock()
	time.AfterFunc(50*time.Millisecond, func() { close(f.done) }) // nobody waits for longer than the topology lives
	require.ErrorContains(t, h.rd.life.undo(t.Context(), other), "fault reject-1: it was undone, but is not gone")
	h.Close()
}

func TestLateOccurrencesOutsideTheWindowAreNotMade(t *testing.T) {
	f := fault("loop", "pause", `{"node":"db-1"}`, 0, 0)
	f.Repeated, f.Window, f.Occurrences = true, plan.Duration(60*time.Millisecond), nil
	for i := range 5 {
		f.Occurrences = append(f.Occurrences, plan.Occurrence{Offset: plan.Duration(time.Duration(i) * 10 * time.Millisecond),
			For: plan.Duration(40 * time.Millisecond), Params: []byte(`{"node":"db-1"}`)})
	}
	run, err := job(t, t.Context(), newFake(), planOf(f))
	require.NoError(t, err)
	var starts []time.Duration
	for _, e := range run.Events {
		if e.Kind == record.FaultStarted {
			starts = append(starts, e.T)
		}
	}
	require.NotEmpty(t, starts)
	assert.Less(t, len(starts), 5)
	assert.LessOrEqual(t, starts[len(starts)-1]-starts[0], 160*time.Millisecond)
}

// handRound is a round on a running fake, for tests of single parts.
func handRound(t *testing.T) (*round, *fake) {
	t.Helper()
	d := newFake()
	dir := t.TempDir() + "/run"
	p := planOf()
	w, err := record.Create(dir, record.Meta{Tool: "test"}, p)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.Close()) })
	c, err := d.Up(t.Context(), three(), cluster.Options{Dir: dir})
	require.NoError(t, err)
	rd := newRound(Job{Plan: p, Spec: three(), Record: w, Progress: func(string) {}}, p.Rounds[0])
	rd.cluster = c
	rd.life = newLife(rd)
	rd.leaders = newLeaders(c, w)
	return rd, d.c
}
