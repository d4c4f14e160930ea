package engine

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// worker is a load and a workload made of functions.
type worker struct {
	run     func(context.Context) error
	verify  func(context.Context) error
	close   func() error
	success func(plan.Duration) (float64, int)
	ended   func(plan.Duration) (float64, int)
	acked   func() int64
}

func (w *worker) Prepare(context.Context) error { return nil }
func (w *worker) Run(ctx context.Context) error {
	if w.run == nil {
		<-ctx.Done()
		return nil
	}
	return w.run(ctx)
}
func (w *worker) Verify(ctx context.Context) error {
	if w.verify == nil {
		return nil
	}
	return w.verify(ctx)
}
func (w *worker) Acked() int64 {
	if w.acked == nil {
		return 0
	}
	return w.acked()
}
func (w *worker) Close() error {
	if w.close == nil {
		return nil
	}
	return w.close()
}
func (w *worker) Success(d plan.Duration) (float64, int) { return w.success(d) }
func (w *worker) Ended(d plan.Duration) (float64, int)   { return w.ended(d) }

func working(d cluster.Driver, w *worker) Parts {
	return Parts{Driver: d,
		Load:     func(plan.Load, Env) (Generator, error) { return w, nil },
		Workload: func(plan.Workload, Env) (Workload, error) { return w, nil },
	}
}

func withWorkload(p *plan.Plan) *plan.Plan {
	p.Workloads = []plan.Workload{{Name: "w"}}
	return p
}

func failures(r *record.Run) (said []string) {
	for _, e := range r.Events {
		if e.Kind == record.Failure {
			said = append(said, e.Error)
		}
	}
	return said
}

func TestTimeoutWhileTheLoadEndsIsNoSuccess(t *testing.T) {
	w := &worker{run: func(ctx context.Context) error {
		<-ctx.Done()
		time.Sleep(150 * time.Millisecond) // outlasts the scenario's timeout
		return nil
	}}
	p := withWorkload(planOf())
	p.Timeout = plan.Duration(100 * time.Millisecond)
	run, err := jobWith(t, t.Context(), three(), working(newFake(), w), p)
	require.ErrorContains(t, err, "longer than the scenario's timeout")
	require.Len(t, failures(run), 1)
	assert.False(t, run.Rounds[0].Ended(plan.PhaseVerify))
}

func TestPlaneThatDiesInVerifyIsAFailure(t *testing.T) {
	d := newFake()
	w := &worker{verify: func(ctx context.Context) error {
		close(d.c.done)
		<-ctx.Done()
		return nil
	}}
	run, err := jobWith(t, t.Context(), three(), working(d, w), withWorkload(planOf()))
	require.ErrorContains(t, err, "the topology ended")
	assert.Contains(t, failures(run)[0], "the topology ended")
}

func TestPlaneThatDiedIsNotWaitedForToBeWell(t *testing.T) {
	d := newFake()
	d.c.exec = func(context.Context, string, cluster.Process) (cluster.Exit, error) {
		d.c.set("db-1", cluster.StateExited)
		close(d.c.done)
		return cluster.Exit{}, nil
	}
	end := fault("end", "do", `{"exec":["end-the-plane"]}`, 0, 0)
	end.At = plan.Trigger{After: &plan.EventRef{Fault: "long", Event: plan.InEffect}}
	begin := time.Now()
	run, err := job(t, t.Context(), d, planOf(fault("long", "pause", `{"node":"db-1"}`, 0, time.Hour), end))
	require.ErrorContains(t, err, "the topology ended")
	assert.Less(t, time.Since(begin), goneTimeout/3)
	assert.NotContains(t, kinds(run, "long"), record.FaultGone)
}

func TestPanicOfAWorkloadIsAFailureAndFaultsAreUndone(t *testing.T) {
	d := newFake()
	w := &worker{run: func(context.Context) error { panic("bad workload") }}
	run, err := jobWith(t, t.Context(), three(), working(d, w), withWorkload(planOf(fault("p", "pause", `{"node":"db-1"}`, 0, time.Millisecond))))
	require.NoError(t, err)
	assert.Contains(t, failures(run)[0], "workload w: it panicked: bad workload")
	assert.Equal(t, wholeLife, kinds(run, "p"))
	assert.True(t, run.Complete)
}

func TestPanicAndErrorsInVerifyAndCloseDoNotSkipTheUndo(t *testing.T) {
	d := newFake()
	w := &worker{
		verify: func(context.Context) error { panic("bad verify") },
		close:  func() error { panic("bad close") },
	}
	held := fault("held", "pause", `{"node":"db-1"}`, 0, 0)
	held.Held = true
	run, err := jobWith(t, t.Context(), three(), working(d, w), withWorkload(planOf(held)))
	require.ErrorContains(t, err, "bad verify")
	require.ErrorContains(t, err, "bad close")
	assert.Equal(t, []string{"pause db-1", "resume db-1", "down "}, d.c.notes)
	assert.Equal(t, wholeLife, kinds(run, "held"))
	assert.True(t, run.Complete)
}

func TestPanicOfAWatcherEndsTheRoundWithEverythingUndone(t *testing.T) {
	d := newFake()
	p := planOf(fault("long", "pause", `{"node":"db-1"}`, 0, time.Hour))
	p.Loads = []plan.Load{{Name: "web"}}
	p.Abort = []plan.Abort{{Load: "web"}}
	w := &worker{ended: func(plan.Duration) (float64, int) { panic("no figures") }}
	run, err := jobWith(t, t.Context(), three(), working(d, w), p)
	require.ErrorContains(t, err, "no figures")
	assert.Equal(t, []string{"pause db-1", "resume db-1", "down "}, d.c.notes)
	assert.True(t, run.Complete)
}

func TestAnErrorIsUndoneBeforeTheLastAnswersAreWaitedFor(t *testing.T) {
	d := newFake()
	w := &worker{run: func(ctx context.Context) error {
		<-ctx.Done()
		for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
			if s, _ := d.c.Status("db-1"); s.State == cluster.StateRunning {
				return nil
			}
			if time.Now().After(deadline) {
				return errors.New("the fault still holds")
			}
		}
	}}
	bad := fault("bad", "do", `{"exec":["false"]}`, 0, 0)
	bad.At = plan.Trigger{After: &plan.EventRef{Fault: "long", Event: plan.InEffect}}
	d.c.broken["exec false client"] = errors.New("no such program")
	run, err := jobWith(t, t.Context(), three(), working(d, w), withWorkload(planOf(fault("long", "pause", `{"node":"db-1"}`, 0, time.Hour), bad)))
	require.ErrorContains(t, err, "no such program")
	for _, f := range failures(run) {
		assert.NotContains(t, f, "still holds")
	}
}

func TestAbortEndsTheRunAfterVerify(t *testing.T) {
	bound, err := plan.ParseBound("< 10%")
	require.NoError(t, err)
	for name, c := range map[string]struct {
		share  float64
		n      int
		aborts bool
	}{
		"broken":          {0.05, 100, true},
		"kept":            {0.5, 100, false},
		"too few samples": {0, plan.AbortSamples - 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := newFake()
			verified := 0
			w := &worker{
				// In a black hole nothing that was due lately has ended.
				success: func(plan.Duration) (float64, int) { return math.NaN(), 0 },
				ended:   func(plan.Duration) (float64, int) { return c.share, c.n },
				verify:  func(context.Context) error { verified++; return nil },
			}
			p := withWorkload(planOf(fault("long", "pause", `{"node":"db-1"}`, 0, 400*time.Millisecond)))
			p.Rounds = append(p.Rounds, plan.Round{N: 2})
			p.Loads = []plan.Load{{Name: "web"}}
			p.Abort = []plan.Abort{{Load: "web", Success: bound, For: plan.Duration(50 * time.Millisecond)}}
			run, err := jobWith(t, t.Context(), three(), working(d, w), p)
			require.NoError(t, err)
			assert.Equal(t, c.aborts, has(run, record.Aborted) != nil)
			assert.Equal(t, wholeLife, kinds(run, "long"))
			rounds := 2
			if c.aborts {
				rounds = 1 // it ends the run, not the round alone
			}
			assert.Len(t, run.Rounds, rounds)
			assert.Equal(t, rounds, verified)
		})
	}
}

// A phase that was cut off has not come to its end, though its time has one.
func TestAPhaseThatWasCutOffHasNotEnded(t *testing.T) {
	bound, err := plan.ParseBound("< 10%")
	require.NoError(t, err)
	hour := plan.Duration(time.Hour)
	for name, c := range map[string]struct {
		phase, why string // what was cut off, and by what
		in         string // the phase in which the user interrupts
		with       func(p *plan.Plan, d *fakeDriver, w *worker)
		ended      []string // of the others
	}{
		"by nothing": {ended: []string{plan.PhaseUp, plan.PhaseReady, plan.PhaseBaseline, plan.PhaseFault, plan.PhaseRecovery,
			plan.PhaseVerify, plan.PhaseDrain, plan.PhaseDown, plan.PhaseAudit}},
		"by the user": {plan.PhaseRecovery, "the user interrupts", plan.PhaseRecovery, func(p *plan.Plan, _ *fakeDriver, _ *worker) {
			p.Recovery = hour
		}, []string{plan.PhaseBaseline, plan.PhaseFault, plan.PhaseDrain, plan.PhaseDown}},
		"by the user in verify": {plan.PhaseVerify, "the user interrupts", plan.PhaseVerify, nil, []string{plan.PhaseRecovery, plan.PhaseDrain}},
		"by the timeout": {plan.PhaseBaseline, "longer than the scenario's timeout", "", func(p *plan.Plan, _ *fakeDriver, _ *worker) {
			p.Baseline.AtLeast, p.Timeout = hour, plan.Duration(50*time.Millisecond)
		}, []string{plan.PhaseReady}},
		"by a fault": {plan.PhaseFault, "no such process", "", func(_ *plan.Plan, d *fakeDriver, _ *worker) {
			d.c.broken["pause db-1"] = errors.New("no such process")
		}, []string{plan.PhaseBaseline}},
		"by an abort": {plan.PhaseRecovery, "aborted: success of web", "", func(p *plan.Plan, _ *fakeDriver, w *worker) {
			p.Loads = []plan.Load{{Name: "web"}}
			p.Recovery, p.Abort = hour, []plan.Abort{{Load: "web", Success: bound}}
			w.ended = func(plan.Duration) (float64, int) { return 0, plan.AbortSamples }
		}, []string{plan.PhaseFault, plan.PhaseVerify}},
		"by a panic": {plan.PhaseVerify, "it panicked", "", func(_ *plan.Plan, _ *fakeDriver, w *worker) {
			w.verify = func(context.Context) error { panic("bad verify") }
		}, []string{plan.PhaseRecovery, plan.PhaseDrain}},
		"by a topology that does not start": {plan.PhaseUp, "db-1 exited", "", func(_ *plan.Plan, d *fakeDriver, _ *worker) {
			d.err = errors.New("db-1 exited")
		}, []string{plan.PhaseAudit}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			d, p, w := newFake(), withWorkload(planOf(fault("p", "pause", `{"node":"db-1"}`, 0, time.Millisecond))), &worker{}
			parts := working(d, w)
			parts.Workload = func(_ plan.Workload, e Env) (Workload, error) {
				interrupt := func() {
					if c.in != "" && e.Phase() == c.in {
						cancel(errors.New("the user interrupts"))
					}
				}
				w.run = func(ctx context.Context) error {
					for ; ctx.Err() == nil; time.Sleep(time.Millisecond) {
						interrupt()
					}
					return nil
				}
				if w.verify == nil {
					w.verify = func(context.Context) error { interrupt(); return nil }
				}
				return w, nil
			}
			if c.with != nil {
				c.with(p, d, w)
			}
			run, _ := jobWith(t, ctx, three(), parts, p) // whether the run fails is asked elsewhere
			r := run.Rounds[0]
			for _, phase := range c.ended {
				assert.True(t, r.Ended(phase), phase)
			}
			if c.phase == "" {
				return
			}
			assert.False(t, r.Ended(c.phase), c.phase)
			from, to, ok := r.Phase(c.phase)
			require.True(t, ok)
			last := r.Events[len(r.Events)-1].T
			assert.True(t, from <= to && to < last, "its window is %v to %v of %v", from, to, last)
			i := slices.IndexFunc(r.Events, func(e record.Event) bool { return e.Kind == record.PhaseEnd && e.Phase == c.phase })
			require.GreaterOrEqual(t, i, 0)
			assert.Contains(t, r.Events[i].Error, c.why)
		})
	}
}

// What a restart has stopped runs again when the abort comes before it was started: the workloads are to read it back.
func TestAnAbortDuringARestartVerifiesWithEveryNode(t *testing.T) {
	d := newFake()
	bound, err := plan.ParseBound("< 10%")
	require.NoError(t, err)
	var found cluster.State
	w := &worker{
		ended: func(plan.Duration) (float64, int) { return 0, plan.AbortSamples },
		verify: func(context.Context) error {
			s, err := d.c.Status("db-1")
			found = s.State
			return err
		},
	}
	p := withWorkload(planOf(fault("r", "restart", `{"node":"db-1","down":"1h"}`, 0, 0)))
	p.Loads = []plan.Load{{Name: "web"}}
	p.Abort = []plan.Abort{{Load: "web", Success: bound, For: plan.Duration(50 * time.Millisecond)}}
	run, err := jobWith(t, t.Context(), three(), working(d, w), p)
	require.NoError(t, err)
	require.NotNil(t, has(run, record.Aborted))
	assert.Equal(t, cluster.StateRunning, found)
	assert.Equal(t, []string{"stop db-1", "start db-1", "down "}, d.c.notesNow())
}

func TestAbortDoesNotHideWhatFailedBefore(t *testing.T) {
	d := newFake()
	d.c.broken["pause db-1"] = errors.New("no such process")
	bound, err := plan.ParseBound("< 10%")
	require.NoError(t, err)
	stopped := make(chan struct{})
	w := &worker{
		run: func(ctx context.Context) error { <-ctx.Done(); close(stopped); return nil },
		// The rule speaks when the run is being ended by the failure.
		ended: func(plan.Duration) (float64, int) { <-stopped; return 0, 100 },
	}
	p := withWorkload(planOf(fault("bad", "pause", `{"node":"db-1"}`, 300*time.Millisecond, time.Millisecond)))
	p.Loads = []plan.Load{}
	p.Abort = []plan.Abort{{Load: "web", Success: bound}}
	p.Loads = append(p.Loads, plan.Load{Name: "web"})
	parts := working(d, w)
	parts.Load = func(plan.Load, Env) (Generator, error) { return &worker{ended: w.ended}, nil }
	run, err := jobWith(t, t.Context(), three(), parts, p)
	require.NotNil(t, has(run, record.Aborted))
	require.ErrorContains(t, err, "no such process")
}

func TestRoundsStartWithFreshVolumesWhereAsked(t *testing.T) {
	spec := three()
	for i := range spec.Services {
		spec.Services[i].Volumes = []cluster.Mount{{Kind: "volume", Source: "data-" + spec.Services[i].Name, Target: "/data"}}
	}
	d := newFake()
	var found [][]string
	up := &upHook{d, func(o cluster.Options) {
		files, err := filepath.Glob(o.Volumes + "/*/*")
		require.NoError(t, err)
		for i := range files {
			files[i], _ = filepath.Rel(o.Volumes, files[i])
		}
		found = append(found, files)
		for _, s := range spec.Services {
			dir := filepath.Join(o.Volumes, "data-"+s.Name)
			if _, err := os.Stat(dir + "/f"); err == nil {
				continue // a volume that persists
			}
			require.NoError(t, os.MkdirAll(dir, 0o755))
			require.NoError(t, os.WriteFile(dir+"/f", nil, 0o444))
			require.NoError(t, os.Chmod(dir, 0o555)) // programs leave such behind
		}
	}}
	t.Cleanup(func() { // where the test itself fails, so that its directory can be removed
		_ = filepath.WalkDir(d.c.dir, func(p string, e os.DirEntry, _ error) error {
			if e != nil && e.IsDir() {
				return os.Chmod(p, 0o755)
			}
			return nil
		})
	})
	p := planOf()
	p.Rounds = append(p.Rounds, plan.Round{N: 2})
	p.Fresh = []string{"db"}
	run, err := jobWith(t, t.Context(), spec, Parts{Driver: up}, p)
	require.NoError(t, err)
	assert.Empty(t, failures(run))
	assert.Equal(t, [][]string{nil, {"data-api/f"}}, found)
	assert.NoDirExists(t, filepath.Join(run.Dir, "volumes"))
}

type upHook struct {
	*fakeDriver
	before func(cluster.Options)
}

func (u *upHook) Up(ctx context.Context, s *cluster.Spec, o cluster.Options) (cluster.Cluster, error) {
	u.before(o)
	return u.fakeDriver.Up(ctx, s, o)
}

func TestVolumesThatCannotBeMadeAreInTheRecord(t *testing.T) {
	p := planOf()
	p.Timeout = plan.Duration(time.Second)
	dir := t.TempDir() + "/run"
	w, err := record.Create(dir, record.Meta{Tool: "test"}, p)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(dir+"/volumes", nil, 0o644))
	require.Error(t, Execute(t.Context(), Job{Plan: p, Spec: three(), Record: w, Parts: Parts{Driver: newFake()}}))
	require.NoError(t, w.Close())
	run, err := record.Open(dir)
	require.NoError(t, err)
	assert.Contains(t, failures(run)[0], "make the directory of volumes")
	assert.True(t, run.Complete)
}

func TestTopologyThatDoesNotStartIsInTheRecord(t *testing.T) {
	d := newFake()
	d.err = errors.New("db-1 exited with status 1")
	run, err := job(t, t.Context(), d, planOf(fault("p", "pause", `{"node":"db-1"}`, 0, time.Millisecond)))
	require.ErrorContains(t, err, "start the topology: db-1 exited")
	assert.Contains(t, failures(run)[0], "db-1 exited")
	assert.Empty(t, d.c.notes)
	assert.True(t, run.Complete)
}

func TestAnotherRunOfASeedHasAnotherID(t *testing.T) {
	ids := map[string]bool{}
	for range 2 {
		d, w := newFake(), &worker{}
		parts := working(d, w)
		parts.Workload = func(_ plan.Workload, e Env) (Workload, error) {
			ids[e.RunID] = true
			return w, nil
		}
		p := withWorkload(planOf())
		p.Seed = 7
		_, err := jobWith(t, t.Context(), three(), parts, p)
		require.NoError(t, err)
	}
	assert.Len(t, ids, 2)
}
