package engine

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var wholeLife = []record.EventKind{record.FaultStarted, record.FaultInEffect, record.FaultUndone, record.FaultGone}

func TestFaultLivesFromStartToGone(t *testing.T) {
	d := newFake()
	run, err := job(t, t.Context(), d, planOf(fault("kill", "kill", `{"node":"db-2"}`, 0, 20*time.Millisecond)))
	require.NoError(t, err)
	assert.Equal(t, wholeLife, kinds(run, "kill"))
	assert.Equal(t, []string{"kill db-2", "start db-2", "down "}, d.c.notes)
	assert.True(t, run.Complete)
	assert.True(t, *has(run, record.Audited).OK)
	e := has(run, record.FaultInEffect)
	assert.Equal(t, []string{"db-2"}, e.Targets)
	assert.Contains(t, e.Evidence, "SIGKILL")
}

func TestPhasesComeInOrder(t *testing.T) {
	run, err := job(t, t.Context(), newFake(), planOf())
	require.NoError(t, err)
	var phases []string
	for _, e := range run.Events {
		if e.Kind == record.PhaseBegin {
			phases = append(phases, e.Phase)
		}
	}
	assert.Equal(t, []string{plan.PhaseUp, plan.PhaseReady, plan.PhaseBaseline, plan.PhaseFault, plan.PhaseRecovery, plan.PhaseVerify, plan.PhaseDrain, plan.PhaseDown, plan.PhaseAudit}, phases)
}

func TestPartitionIsProvedAndHealed(t *testing.T) {
	d := newFake()
	run, err := job(t, t.Context(), d, planOf(fault("cut", "partition", `{"isolate":{"node":"db-1"},"from":"all"}`, 0, 10*time.Millisecond)))
	require.NoError(t, err)
	assert.Equal(t, wholeLife, kinds(run, "cut"))
	e := has(run, record.FaultInEffect)
	// Two other members, two replicas of api, and the client: both ways.
	assert.Len(t, e.Links, 10)
	assert.Contains(t, e.Evidence, "10 of 10 probes")
	assert.Empty(t, d.c.rules)
}

func TestOneFaultAfterAnother(t *testing.T) {
	second := fault("second", "pause", `{"node":"db-3"}`, 0, time.Millisecond)
	second.At = plan.Trigger{After: &plan.EventRef{Fault: "first", Event: plan.Gone}, Plus: plan.Duration(30 * time.Millisecond)}
	d := newFake()
	run, err := job(t, t.Context(), d, planOf(second, fault("first", "pause", `{"node":"db-2"}`, 0, time.Millisecond)))
	require.NoError(t, err)
	assert.Equal(t, []string{"pause db-2", "resume db-2", "pause db-3", "resume db-3", "down "}, d.c.notes)
	gone, ok := run.Rounds[0].Moment(plan.EventRef{Fault: "first", Event: plan.Gone})
	require.True(t, ok)
	began, ok := run.Rounds[0].Moment(plan.EventRef{Fault: "second", Event: plan.Started})
	require.True(t, ok)
	assert.GreaterOrEqual(t, began-gone, 30*time.Millisecond)
}

func TestFaultThatWaitsForOneThatFailsIsToldSo(t *testing.T) {
	second := fault("second", "pause", `{"node":"db-3"}`, 0, time.Millisecond)
	second.At = plan.Trigger{After: &plan.EventRef{Fault: "first", Event: plan.InEffect}}
	d := newFake()
	d.c.broken["pause db-2"] = errors.New("no such process")
	run, err := job(t, t.Context(), d, planOf(second, fault("first", "pause", `{"node":"db-2"}`, 0, time.Millisecond)))
	require.ErrorContains(t, err, "no such process")
	assert.Contains(t, kinds(run, "first"), record.FaultFailed)
	assert.NotContains(t, d.c.notes, "pause db-3")
	// Half an injection is undone too.
	assert.Contains(t, d.c.notes, "resume db-2")
}

func TestHeldFaultStaysThroughVerifyAndIsUndoneBeforeDown(t *testing.T) {
	f := fault("held", "kill", `{"node":"db-1"}`, 0, 0)
	f.Held = true
	run, err := job(t, t.Context(), newFake(), planOf(f))
	require.NoError(t, err)
	undone, _ := run.Rounds[0].Moment(plan.EventRef{Fault: "held", Event: plan.Undone})
	_, verified, ok := run.Rounds[0].Phase(plan.PhaseVerify)
	require.True(t, ok)
	assert.GreaterOrEqual(t, undone, verified)
	assert.Equal(t, wholeLife, kinds(run, "held"))
}

func TestOpenFaultEndsWithTheOthers(t *testing.T) {
	run, err := job(t, t.Context(), newFake(), planOf(
		fault("open", "pause", `{"node":"db-1"}`, 0, 0),
		fault("bounded", "pause", `{"node":"db-2"}`, 0, 100*time.Millisecond)))
	require.NoError(t, err)
	open, _ := run.Rounds[0].Moment(plan.EventRef{Fault: "open", Event: plan.Undone})
	other, _ := run.Rounds[0].Moment(plan.EventRef{Fault: "bounded", Event: plan.Gone})
	assert.GreaterOrEqual(t, open, other)
}

func TestRepeatedFaultWaitsForTheOneBefore(t *testing.T) {
	f := fault("loop", "pause", `{"group":"db","pick":"1"}`, 0, 0)
	f.Repeated = true
	f.Occurrences = nil
	for i := range 4 {
		f.Occurrences = append(f.Occurrences, plan.Occurrence{Offset: plan.Duration(time.Duration(i) * time.Millisecond),
			For: plan.Duration(20 * time.Millisecond), Seed: uint64(i), Params: []byte(`{"group":"db","pick":"1"}`)})
	}
	run, err := job(t, t.Context(), newFake(), planOf(f))
	require.NoError(t, err)
	var want []record.EventKind
	for range 4 {
		want = append(want, wholeLife...)
	}
	assert.Equal(t, want, kinds(run, "loop"))
}

func TestInterruptUndoesInReverseOrderAndLeavesAReadableRun(t *testing.T) {
	d := newFake()
	ctx, cancel := context.WithCancelCause(t.Context())
	second := fault("second", "pause", `{"node":"db-2"}`, 0, time.Hour)
	second.At = plan.Trigger{After: &plan.EventRef{Fault: "first", Event: plan.InEffect}}
	third := fault("third", "do", `{"exec":["stop-here"]}`, 0, 0)
	third.At = plan.Trigger{After: &plan.EventRef{Fault: "second", Event: plan.InEffect}}
	d.c.exec = func(ctx context.Context, _ string, _ cluster.Process) (cluster.Exit, error) {
		cancel(errors.New("interrupted by the user"))
		<-ctx.Done()
		return cluster.Exit{Code: -1, Signal: "SIGKILL"}, nil
	}
	run, err := job(t, ctx, d, planOf(fault("first", "pause", `{"node":"db-1"}`, 0, time.Hour), second, third))
	require.NoError(t, err)
	assert.Equal(t, []string{"pause db-1", "pause db-2", "exec stop-here client", "resume db-2", "resume db-1", "down "}, d.c.notes)
	assert.Contains(t, has(run, record.Interrupted).Error, "interrupted by the user")
	assert.Equal(t, wholeLife, kinds(run, "first"))
	assert.True(t, run.Complete)
}

func TestTimeoutOfTheScenarioUndoes(t *testing.T) {
	d := newFake()
	p := planOf(fault("long", "pause", `{"node":"db-1"}`, 0, time.Hour))
	p.Timeout = plan.Duration(50 * time.Millisecond)
	run, err := job(t, t.Context(), d, p)
	require.ErrorContains(t, err, "longer than the scenario's timeout")
	assert.Equal(t, []string{"pause db-1", "resume db-1", "down "}, d.c.notes)
	assert.NotNil(t, has(run, record.Failure))
}

func TestPanicOfAFaultIsUndone(t *testing.T) {
	d := newFake()
	d.c.exec = func(context.Context, string, cluster.Process) (cluster.Exit, error) { return cluster.Exit{}, nil }
	paused := fault("paused", "pause", `{"node":"db-1"}`, 0, time.Hour)
	boom := fault("boom", "scale", `{"service":"api","replicas":5}`, 0, time.Hour)
	boom.At = plan.Trigger{After: &plan.EventRef{Fault: "paused", Event: plan.InEffect}}
	run, err := job(t, t.Context(), &panicking{d}, planOf(paused, boom))
	require.ErrorContains(t, err, "it panicked: scaled too far")
	assert.Equal(t, []string{"pause db-1", "resume db-1", "down "}, d.c.notes)
	assert.Contains(t, kinds(run, "boom"), record.FaultFailed)
	assert.True(t, run.Complete)
}

// panicking is a driver whose Scale panics the first time.
type panicking struct{ *fakeDriver }

type panickingCluster struct {
	*fake
	done bool
}

func (p *panicking) Up(ctx context.Context, s *cluster.Spec, o cluster.Options) (cluster.Cluster, error) {
	if _, err := p.fakeDriver.Up(ctx, s, o); err != nil {
		return nil, err
	}
	return &panickingCluster{fake: p.c}, nil
}

func (p *panickingCluster) Scale(context.Context, string, int) error {
	if !p.done {
		p.done = true
		panic("scaled too far")
	}
	return nil
}

func TestFailedUndoTaintsTheRun(t *testing.T) {
	d := newFake()
	d.c.broken["resume db-1"] = errors.New("no such process")
	run, err := job(t, t.Context(), d, planOf(fault("stuck", "pause", `{"node":"db-1"}`, 0, time.Millisecond)))
	require.ErrorContains(t, err, "no such process")
	assert.Contains(t, kinds(run, "stuck"), record.UndoFailed)
	assert.NotContains(t, kinds(run, "stuck"), record.FaultGone)
}

func TestWhatIsLeftIsNamed(t *testing.T) {
	d := newFake()
	d.c.left = []string{"process 4711 (sleep)"}
	run, err := job(t, t.Context(), d, planOf())
	require.NoError(t, err)
	e := has(run, record.Audited)
	assert.False(t, *e.OK)
	assert.Contains(t, e.Error, "process 4711 (sleep)")
}

func TestTopologyThatDoesNotComeUpIsAudited(t *testing.T) {
	for _, c := range []struct {
		err  error
		left bool
	}{
		{errors.New("web exited"), false},
		{errors.Join(errors.New("web exited"), &cluster.LeftError{Left: []string{"a mount"}}), true},
	} {
		d := newFake()
		d.err = c.err
		run, err := job(t, t.Context(), d, planOf())
		require.ErrorContains(t, err, "web exited")
		e := has(run, record.Audited)
		require.NotNil(t, e)
		require.Equal(t, !c.left, *e.OK)
		if c.left {
			require.Contains(t, e.Error, "a mount")
		}
	}
}

func TestPlaneThatDiesEndsTheRound(t *testing.T) {
	d := newFake()
	d.c.exec = func(context.Context, string, cluster.Process) (cluster.Exit, error) {
		close(d.c.done)
		return cluster.Exit{}, nil
	}
	p := planOf(fault("end", "do", `{"exec":["end-the-plane"]}`, 0, 0), fault("long", "pause", `{"node":"db-1"}`, 0, time.Hour))
	run, err := job(t, t.Context(), d, p)
	require.ErrorContains(t, err, "the topology ended")
	assert.Contains(t, has(run, record.Failure).Error, "the topology ended")
}

func TestMissingCapabilityIsFoundBeforeTheStart(t *testing.T) {
	d := newFake()
	d.caps = cluster.Capabilities{cluster.Signals: errors.New("not allowed")}
	_, err := job(t, t.Context(), d, planOf(
		fault("a", "kill", `{"node":"db-1"}`, 0, 0), fault("b", "delay", `{"from":"db-1","to":"db-2","time":"5ms"}`, 0, 0), fault("c", "loss", `{}`, 0, 0)))
	var pe *PlanError
	require.ErrorAs(t, err, &pe)
	assert.Len(t, pe.Problems, 3)
	assert.Empty(t, d.c.notes)
}

func TestRequirements(t *testing.T) {
	d := newFake()
	d.c.exec = func(_ context.Context, _ string, p cluster.Process) (cluster.Exit, error) {
		if p.Argv[0] == "false" {
			return cluster.Exit{Code: 1}, nil
		}
		return cluster.Exit{}, nil
	}
	p := planOf()
	p.Require = []plan.Require{
		{ID: "met", At: plan.PhaseBaseline, Condition: plan.Condition{Exec: []string{"true"}}},
		{ID: "unmet", At: plan.PhaseRecovery, Condition: plan.Condition{Exec: []string{"false"}}},
		{ID: "never", By: "end", Condition: plan.Condition{Exec: []string{"false"}}},
		{ID: "soon", By: plan.PhaseRecovery, Condition: plan.Condition{Exec: []string{"true"}}},
	}
	run, err := job(t, t.Context(), d, p)
	require.NoError(t, err)
	got := map[string]bool{}
	for _, e := range run.Events {
		if e.Kind == record.Required {
			got[e.ID] = *e.OK
		}
	}
	assert.Equal(t, map[string]bool{"met": true, "unmet": false, "never": false, "soon": true}, got)
}

func TestUserCheckIsRecorded(t *testing.T) {
	d := newFake()
	d.c.exec = func(_ context.Context, _ string, p cluster.Process) (cluster.Exit, error) {
		p.Stdout.Write([]byte("{\"verdict\":\"FAIL\"}\nnonsense\n"))
		return cluster.Exit{Code: 3}, nil
	}
	p := planOf()
	p.Assert = []plan.Assert{{ID: "mine", Kind: "exec", Params: []byte(`{"exec":["check"]}`)}}
	run, err := job(t, t.Context(), d, p)
	require.NoError(t, err)
	assert.JSONEq(t, `{"verdict":"FAIL"}`, string(has(run, record.UserFinding).Data))
	assert.Equal(t, 3, *has(run, record.ExecEnd).ExitCode)
	nonsense := 0
	for _, e := range run.Events {
		if e.Kind == record.UserFinding && e.Error != "" {
			nonsense++
		}
	}
	assert.Equal(t, 1, nonsense)
}
