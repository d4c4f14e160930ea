package engine

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func logged(node, matches string) *plan.Condition {
	return &plan.Condition{Log: &plan.LogCondition{Node: node, Matches: matches}}
}

func holds(t *testing.T, w *waiter) bool {
	t.Helper()
	ok, _, err := w.test(t.Context())
	require.NoError(t, err)
	return ok
}

func TestLogConditionCountsLinesFromItsSetUp(t *testing.T) {
	rd, f := handRound(t)
	f.print(t, "db-1", "ready at once\n")
	w := rd.waiter(logged("db-1", "ready"))
	assert.False(t, holds(t, w), "the line was there before")
	f.print(t, "db-1", "rea")
	assert.False(t, holds(t, w))
	f.print(t, "db-1", "dy again")
	assert.False(t, holds(t, w), "the line has not ended")
	f.print(t, "db-1", "\nand more")
	assert.True(t, holds(t, w))
}

func TestLogConditionTakesALineThatWasHalfWrittenAsAWhole(t *testing.T) {
	rd, f := handRound(t)
	f.print(t, "db-1", "old\nnot ")
	w := rd.waiter(logged("db-1", "^ready"))
	f.print(t, "db-1", "ready\n")
	assert.False(t, holds(t, w), "the line is \"not ready\"")
	// A line longer than what is looked back for.
	f.print(t, "db-2", strings.Repeat("x", longLine+1))
	w = rd.waiter(logged("db-2", "^end$"))
	f.print(t, "db-2", "end\n")
	assert.True(t, holds(t, w))
}

func TestLogConditionOfANodeThatComesBackDoesNotSeeItsOldLines(t *testing.T) {
	rd, f := handRound(t)
	f.print(t, "api-2", "ready\n") // of the round before, or of its life before it was scaled away
	f.away["api-2"] = true
	w := rd.waiter(logged("api", "ready"))
	delete(f.away, "api-2")
	assert.False(t, holds(t, w))
	f.print(t, "api-2", "ready\n")
	assert.True(t, holds(t, w))
}

func TestLogConditionOnTheTargetOfAFaultCountsFromItsInjection(t *testing.T) {
	rd, f := handRound(t)
	w := rd.waiter(logged("$cut.target", "snapshot"))
	f.print(t, "db-2", "snapshot\nsnap")
	assert.False(t, holds(t, w), "the fault has no target yet")
	in := &injection{fault: plan.Fault{ID: "cut"}, n: 1}
	_, err := rd.life.resolve(t.Context(), in, plan.Target{Node: "db-2"}, 1)
	require.NoError(t, err)
	assert.False(t, holds(t, w), "the line was there before the fault")
	f.print(t, "db-3", "snapshot\n")
	assert.False(t, holds(t, w), "another node")
	f.print(t, "db-2", "shot taken\n")
	assert.True(t, holds(t, w))
}

func TestBaselineSeesWhatIsLoggedWhileItLastsAtLeast(t *testing.T) {
	d := newFake()
	p := planOf()
	p.Baseline = plan.Baseline{AtLeast: plan.Duration(100 * time.Millisecond), Until: logged("db-1", "warm"), Timeout: plan.Duration(200 * time.Millisecond)}
	w := &worker{run: func(ctx context.Context) error {
		time.Sleep(30 * time.Millisecond)
		d.c.print(t, "db-1", "warm\n")
		<-ctx.Done()
		return nil
	}}
	_, err := jobWith(t, t.Context(), three(), working(d, w), withWorkload(p))
	require.NoError(t, err)
}

func TestBaselineThatDoesNotComeToItsEndSaysWhatWasSeen(t *testing.T) {
	bound, err := plan.ParseBound(">= 5")
	require.NoError(t, err)
	p := planOf(fault("p", "pause", `{"node":"db-1"}`, 0, time.Millisecond))
	p.Baseline = plan.Baseline{Timeout: plan.Duration(60 * time.Millisecond),
		Until: &plan.Condition{Workload: &plan.WorkloadCondition{Workload: "w", Acked: bound}}}
	run, err := jobWith(t, t.Context(), three(), working(newFake(), &worker{acked: func() int64 { return 4 }}), withWorkload(p))
	require.ErrorContains(t, err, "the baseline did not come to its end")
	require.ErrorContains(t, err, "did not come to hold within 60ms")
	require.ErrorContains(t, err, "last seen: 4 operations acknowledged")
	assert.Empty(t, kinds(run, "p"))
	// A workload that died will never get there.
	p.Baseline.Timeout = plan.Duration(time.Hour)
	_, err = jobWith(t, t.Context(), three(), working(newFake(), &worker{run: func(context.Context) error { return errors.New("it died") }}), p)
	require.ErrorContains(t, err, "workload w: it died")
}

func TestFaultThatEndsUntilALineIsLogged(t *testing.T) {
	d := newFake()
	d.c.exec = func(context.Context, string, cluster.Process) (cluster.Exit, error) {
		d.c.print(t, "db-1", "too far behind\n")
		return cluster.Exit{}, nil
	}
	cut := fault("cut", "pause", `{"node":"db-1"}`, 0, 0)
	cut.Until = &plan.Trigger{When: logged("$cut.target", "behind"), Timeout: plan.Duration(10 * time.Second)}
	say := fault("say", "do", `{"exec":["say"]}`, 0, 0)
	say.At = plan.Trigger{After: &plan.EventRef{Fault: "cut", Event: plan.InEffect}}
	run, err := job(t, t.Context(), d, planOf(cut, say))
	require.NoError(t, err)
	assert.Equal(t, wholeLife, kinds(run, "cut"))
	undone, _ := run.Rounds[0].Moment(plan.EventRef{Fault: "cut", Event: plan.Undone})
	said, _ := run.Rounds[0].Moment(plan.EventRef{Fault: "say", Event: plan.Started})
	assert.Greater(t, undone, said)
}

func TestEndThatDoesNotComeUndoesTheFault(t *testing.T) {
	d := newFake()
	cut := fault("cut", "pause", `{"node":"db-1"}`, 0, 0)
	cut.Until = &plan.Trigger{When: logged("db-1", "never"), Timeout: plan.Duration(50 * time.Millisecond)}
	run, err := job(t, t.Context(), d, planOf(cut))
	require.ErrorContains(t, err, "its end (until) did not come")
	assert.Equal(t, []record.EventKind{record.FaultStarted, record.FaultInEffect, record.FaultFailed, record.FaultUndone, record.FaultGone}, kinds(run, "cut"))
}

func TestConditionsOverTheNetwork(t *testing.T) {
	rd, f := handRound(t)
	m := f.serve(t, "db-1", doc{})
	for _, c := range []*plan.Condition{
		{HTTP: "http://db-1:80/health"}, {HTTP: "http://:80/health", In: "db-1"}, {TCP: "db-1:80"}, {TCP: ":80", In: "db-1"},
	} {
		assert.True(t, holds(t, rd.waiter(c)), describe(c))
	}
	m.says(http.StatusServiceUnavailable, doc{})
	assert.False(t, holds(t, rd.waiter(&plan.Condition{HTTP: "http://db-1:80/health"})))
	assert.False(t, holds(t, rd.waiter(&plan.Condition{TCP: "db-2:80"})))
}

func requirementsOf(r *record.Run) map[string]bool {
	got := map[string]bool{}
	for _, e := range r.Events {
		if e.Kind == record.Required {
			got[e.ID] = *e.OK
		}
	}
	return got
}

func TestRequirementAtTheEndOfAPhaseSeesTheLinesOfThePhase(t *testing.T) {
	d := newFake()
	w := &worker{run: func(ctx context.Context) error {
		time.Sleep(20 * time.Millisecond)
		d.c.print(t, "db-1", "linked\n")
		<-ctx.Done()
		return nil
	}}
	p := withWorkload(planOf())
	p.Baseline.AtLeast = plan.Duration(100 * time.Millisecond)
	p.Require = []plan.Require{{ID: "linked", At: plan.PhaseBaseline, Condition: *logged("db-1", "linked")},
		{ID: "later", At: plan.PhaseRecovery, Condition: *logged("db-1", "linked")}}
	run, err := jobWith(t, t.Context(), three(), working(d, w), p)
	require.NoError(t, err)
	assert.Equal(t, map[string]bool{"linked": true, "later": false}, requirementsOf(run))
}

func TestRequirementOfAPhaseThatNeverCameIsNotTested(t *testing.T) {
	d := newFake()
	d.c.broken["pause db-1"] = errors.New("no such process")
	d.c.exec = func(context.Context, string, cluster.Process) (cluster.Exit, error) {
		return cluster.Exit{Code: 1}, nil
	}
	p := planOf(fault("bad", "pause", `{"node":"db-1"}`, 0, time.Millisecond))
	p.Require = []plan.Require{{ID: "end", By: "recovery", Condition: plan.Condition{Exec: []string{"false"}}}}
	run, err := job(t, t.Context(), d, p)
	require.ErrorContains(t, err, "no such process")
	assert.Empty(t, requirementsOf(run))
}

func TestRequirementMetInItsLastMomentStaysMet(t *testing.T) {
	d := newFake()
	asked := make(chan struct{})
	calls := 0
	d.c.exec = func(ctx context.Context, _ string, _ cluster.Process) (cluster.Exit, error) {
		if calls++; calls > 1 {
			return cluster.Exit{Code: 1}, nil
		}
		close(asked)
		<-ctx.Done() // the phase ends while the program runs, and it succeeds
		return cluster.Exit{}, nil
	}
	p := planOf()
	p.Baseline.AtLeast = plan.Duration(50 * time.Millisecond)
	p.Require = []plan.Require{{ID: "late", By: plan.PhaseBaseline, Condition: plan.Condition{Exec: []string{"true"}}}}
	run, err := job(t, t.Context(), d, p)
	require.NoError(t, err)
	<-asked
	assert.Equal(t, map[string]bool{"late": true}, requirementsOf(run))
}
