package harness

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/assertions"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// unchangedRun is a run whose fault phase went from 3 s to 7 s.
func unchangedRun(t *testing.T, p *plan.Plan, ended bool) *record.Run {
	t.Helper()
	w, err := record.Create(filepath.Join(t.TempDir(), "run"), record.Meta{}, p)
	require.NoError(t, err)
	w.SetRound(1)
	phase := func(name string, from, to time.Duration) {
		w.Event(record.Event{T: from, Kind: record.PhaseBegin, Phase: name})
		w.Event(record.Event{T: to, Kind: record.PhaseEnd, Phase: name})
	}
	phase(plan.PhaseBaseline, time.Second, 3*time.Second)
	if ended {
		phase(plan.PhaseFault, 3*time.Second, 7*time.Second)
		phase(plan.PhaseRecovery, 7*time.Second, 9*time.Second)
	}
	at := func(t time.Duration, k record.EventKind, id string) {
		w.Event(record.Event{T: t, Kind: k, Fault: id, FaultKind: "kill", Occurrence: 1, Targets: []string{"a-1"}, Evidence: "killed"})
	}
	at(3500*time.Millisecond, record.FaultStarted, "kill")
	at(3600*time.Millisecond, record.FaultInEffect, "kill")
	at(6*time.Second, record.FaultUndone, "kill")
	at(6500*time.Millisecond, record.FaultGone, "kill")
	at(4*time.Second, record.FaultStarted, "held")
	at(10*time.Second, record.FaultUndone, "held")
	w.Event(record.Event{T: 11 * time.Second, Kind: record.RunEnd})
	require.NoError(t, w.Close())
	r, err := record.Open(w.Dir())
	require.NoError(t, err)
	return r
}

func quietPlan() *plan.Plan {
	return &plan.Plan{Version: plan.Version, Rounds: []plan.Round{{N: 1, Faults: []plan.Fault{{ID: "kill"}, {ID: "held"}}}},
		Baseline: plan.Baseline{AtLeast: plan.Duration(time.Second), Until: &plan.Condition{TCP: "a:1"}},
		Recovery: plan.Duration(time.Second), RecoveryUntil: &plan.Condition{Event: &plan.EventRef{Fault: "kill", Event: plan.Gone}},
		Require: []plan.Require{{ID: "up", Condition: plan.Condition{TCP: "a:1"}}, {ID: "gone", Condition: plan.Condition{Event: &plan.EventRef{Fault: "kill"}}},
			{ID: "said", Condition: plan.Condition{Log: &plan.LogCondition{Node: "$kill.target", Matches: "x"}}}},
	}
}

func TestThePlanWithoutFaults(t *testing.T) {
	p := quietPlan()
	occurs := func(params string) []plan.Occurrence { return []plan.Occurrence{{Params: json.RawMessage(params)}} }
	p.Rounds[0].Faults = append(p.Rounds[0].Faults, plan.Fault{ID: "slow", Kind: "latency", Occurrences: occurs(`{"from": "a", "to": "b", "latency": "5ms"}`)},
		plan.Fault{ID: "fails", Kind: "http-error", Occurrences: occurs(`{"from": "b", "to": "c", "status": 503}`)})
	require.NoError(t, withoutFaults(p, unchangedRun(t, quietPlan(), true)))
	assert.Empty(t, p.Rounds[0].Faults)
	q := p.Rounds[0].Quiet
	require.NotNil(t, q)
	assert.Equal(t, plan.Duration(4*time.Second), q.For)
	at := func(d time.Duration, id string, e plan.FaultEvent) plan.Moment {
		return plan.Moment{Fault: id, Kind: "kill", Occurrence: 1, Event: e, At: plan.Duration(d), Targets: []string{"a-1"}}
	}
	assert.Equal(t, []plan.Moment{
		at(500*time.Millisecond, "kill", plan.Started), at(600*time.Millisecond, "kill", plan.InEffect), at(time.Second, "held", plan.Started),
		at(3*time.Second, "kill", plan.Undone), at(3500*time.Millisecond, "kill", plan.Gone),
	}, q.Moments, "what comes after the phase is left out")
	assert.Equal(t, []plan.LinkEnds{{From: "a", To: "b"}}, q.Toxic)
	assert.Equal(t, []plan.LinkEnds{{From: "b", To: "c"}}, q.Replied)
	assert.Equal(t, plan.Baseline{AtLeast: plan.Duration(2 * time.Second)}, p.Baseline)
	assert.Nil(t, p.RecoveryUntil)
	assert.Equal(t, plan.Duration(2*time.Second), p.Recovery)
	require.Len(t, p.Require, 1)
	assert.Equal(t, "up", p.Require[0].ID)

	require.ErrorContains(t, withoutFaults(quietPlan(), nil), "none is given")
	require.ErrorContains(t, withoutFaults(quietPlan(), unchangedRun(t, quietPlan(), false)), "did not come to its end")
	p = quietPlan()
	p.Rounds = append(p.Rounds, plan.Round{N: 2})
	require.ErrorContains(t, withoutFaults(p, unchangedRun(t, quietPlan(), true)), "has no round 2")
}

func TestQuiet(t *testing.T) {
	p := &plan.Plan{Assert: []plan.Assert{
		{ID: "up", Kind: "slo", Params: json.RawMessage(`{"load": "l", "success": ">= 99%"}`)},
		{ID: "down", Kind: "slo", Params: json.RawMessage(`{"load": "l", "success": "< 10%"}`)},
		{ID: "kept", Kind: "no-lost-writes", Params: json.RawMessage(`{"workload": "w"}`)},
	}}
	f := func(id string, v assertions.Verdict) assertions.Finding {
		return assertions.Finding{ID: id, Verdict: v, Class: assertions.Service, Summary: "said so", Reason: "who knows"}
	}
	premise := func(kind string, v assertions.Verdict) assertions.Finding {
		return assertions.Finding{ID: kind, Kind: kind, Class: assertions.Premise, Verdict: v, Reason: "who knows"}
	}
	executed, whole := premise("run", assertions.Pass), premise("record", assertions.Pass)
	for name, c := range map[string]struct {
		unchanged assertions.Verdict
		fs        []assertions.Finding
		verdict   assertions.Verdict
		says      string
	}{
		"all hold":                    {assertions.Pass, []assertions.Finding{f("up", assertions.Pass), f("kept", assertions.Pass), executed, whole, premise("audit", assertions.Invalid)}, assertions.Pass, "2 findings hold"},
		"damage is not asked for":     {assertions.Pass, []assertions.Finding{f("up", assertions.Pass), f("down", assertions.Fail)}, assertions.Pass, "they ask for the damage of a fault: down"},
		"a bound is broken":           {assertions.Pass, []assertions.Finding{f("up", assertions.Fail), f("kept", assertions.Pass)}, assertions.Fail, "the bound is wrong: up (said so)"},
		"something else is broken":    {assertions.Pass, []assertions.Finding{f("up", assertions.Pass), f("exits", assertions.Fail)}, assertions.Fail, "exits"},
		"nothing was shown":           {assertions.Pass, []assertions.Finding{f("up", assertions.Invalid), f("kept", assertions.Pass)}, assertions.Invalid, "nothing was shown of: up (who knows)"},
		"no round was executed":       {assertions.Pass, []assertions.Finding{premise("run", assertions.Invalid), whole}, assertions.Invalid, "nothing was shown of: run (who knows)"},
		"one round was not executed":  {assertions.Pass, []assertions.Finding{premise("run", assertions.Invalid), whole, f("kept", assertions.Pass)}, assertions.Invalid, "nothing was shown of: run (who knows)"},
		"the record is not whole":     {assertions.Pass, []assertions.Finding{executed, premise("record", assertions.Invalid), f("kept", assertions.Pass)}, assertions.Invalid, "nothing was shown of: record (who knows)"},
		"there is no finding":         {assertions.Pass, []assertions.Finding{executed, whole}, assertions.Invalid, "nothing was shown: no finding holds"},
		"the unchanged run failed":    {assertions.Fail, []assertions.Finding{f("up", assertions.Pass)}, assertions.Invalid, "the unchanged run is FAIL"},
		"the unchanged run is no run": {assertions.Invalid, []assertions.Finding{f("up", assertions.Pass)}, assertions.Invalid, "the unchanged run is INVALID"},
	} {
		t.Run(name, func(t *testing.T) {
			verdict, why := Right(c.unchanged, p, plan.Control{Name: "no-fault", NoFault: true}, c.fs)
			assert.Equal(t, c.verdict, verdict)
			assert.Contains(t, why, c.says)
		})
	}
	w, err := record.Create(filepath.Join(t.TempDir(), "run"), record.Meta{}, &plan.Plan{Version: plan.Version, Rounds: []plan.Round{{N: 1}}})
	require.NoError(t, err)
	w.Event(record.Event{Kind: record.Interrupted})
	w.Event(record.Event{Kind: record.RunEnd})
	require.NoError(t, w.Close())
	run, err := record.Open(w.Dir())
	require.NoError(t, err)
	fs, _ := assertions.Judge(t.Context(), run)
	verdict, why := Right(assertions.Pass, run.Plan, plan.Control{NoFault: true}, fs)
	assert.Equal(t, assertions.Invalid, verdict, "interrupted before its first round: %s", why)
	assert.Contains(t, why, "nothing was shown of: run (the run was interrupted")

	killed, _ := Right(assertions.Pass, p, plan.Control{MustFail: []string{"up"}}, []assertions.Finding{f("up", assertions.Fail)})
	assert.Equal(t, assertions.Pass, killed, "the other controls must fail")
}
