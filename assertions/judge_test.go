package assertions

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

func fullSLO(t testing.TB) *SLO {
	return &SLO{Source: Source{Load: "orders"}, Bounds: Bounds{Success: bound(t, ">= 99%")}}
}

func TestAGoodRunPasses(t *testing.T) {
	s := newStory()
	s.ask(t, "slo", fullSLO(t))
	fs, v := s.judge(t)
	for id, f := range fs {
		assert.Equal(t, Pass, f.Verdict, "%s: %s %s", id, f.Summary, f.Reason)
	}
	assert.Equal(t, Pass, v)
	for _, id := range []string{"run", "record", "phases", "faults", "undone", "audit", "workload regs", "generator orders", "steady orders", "it", "exits"} {
		assert.Contains(t, fs, id)
	}
	assert.Equal(t, Premise, fs["audit"].Class)
	assert.Equal(t, Service, fs["it"].Class)
	assert.Equal(t, 1, fs["it"].Round)
	assert.Equal(t, Safety, fs["exits"].Class)
}

// Each premise, when it does not hold, is INVALID itself and takes the service finding with it, were it PASS or FAIL.
func TestServiceFindingsRestOnPremises(t *testing.T) {
	for name, c := range map[string]struct {
		spoil   func(s *story)
		premise string
		says    string
		it      Verdict // of the finding that would pass
	}{
		"interrupted": {func(s *story) { s.event(record.Event{T: 13 * time.Second, Kind: record.Interrupted, Error: "ctrl-c"}) }, "run", "interrupted in round 1: ctrl-c", Invalid},
		"failure": {func(s *story) {
			s.event(record.Event{T: 13 * time.Second, Kind: record.Failure, Error: "the plane died"})
		}, "run", "the plane died", Invalid},
		"a round is missing": {func(s *story) { s.plan.Rounds = append(s.plan.Rounds, plan.Round{N: 2}) }, "run", "1 of 2 rounds were not executed: 2", Invalid},
		"no end":             {func(s *story) { s.noEnd = true }, "record", "no end", Invalid},
		"a phase is missing": {func(s *story) {
			s.drop(func(e record.Event) bool { return e.Kind == record.PhaseEnd && e.Phase == plan.PhaseFault })
		}, "phases", "the phase fault did not", Invalid},
		"the fault never began": {func(s *story) { s.drop(func(e record.Event) bool { return e.Fault != "" }) }, "faults", "kill never began", Invalid},
		"the fault is not proved": {func(s *story) {
			s.drop(func(e record.Event) bool { return e.Kind == record.FaultInEffect })
		}, "faults", "not proved to be in effect", Invalid},
		"the fault failed": {func(s *story) {
			s.event(record.Event{T: 4 * time.Second, Kind: record.FaultFailed, Fault: "kill", Error: "no leader"})
		}, "faults", "no leader", Invalid},
		"nothing to act on": {func(s *story) { s.event(record.Event{T: 4 * time.Second, Kind: record.FaultUnproved, Fault: "kill"}) }, "faults", "nothing to act on", Invalid},
		"not gone":          {func(s *story) { s.drop(func(e record.Event) bool { return e.Kind == record.FaultGone }) }, "undone", "not proved to be gone", Invalid},
		"undo failed": {func(s *story) {
			s.event(record.Event{T: 8 * time.Second, Kind: record.UndoFailed, Fault: "kill", Error: "stuck"})
		}, "undone", "stuck", Invalid},
		"late generator": {func(s *story) { s.each(0, time.Hour, func(q *record.Request) { q.Sent += 51 * ms; q.Done += 51 * ms }) }, "generator orders", "51ms at p99", Invalid},
		"missed requests": {func(s *story) {
			s.drop(func(e record.Event) bool { return e.Kind == record.LoadSummary })
			s.event(record.Event{T: 13 * time.Second, Kind: record.LoadSummary, ID: "orders", Data: json.RawMessage(`{"missed":3}`)})
		}, "generator orders", "missed 3 requests", Invalid},
		"no figures":       {func(s *story) { s.drop(func(e record.Event) bool { return e.Kind == record.LoadSummary }) }, "generator orders", "no figures", Invalid},
		"failing baseline": {func(s *story) { s.each(1500*ms, 1575*ms, broken) }, "steady orders", "success was 94.827 % in its second half", Invalid},
		"empty baseline":   {func(s *story) { s.reqs = s.reqs[600-9:] }, "steady orders", "first half of the baseline has 0 answers", Invalid},
		"unmet requirement": {func(s *story) {
			s.plan.Require = []plan.Require{{ID: "linked"}}
			s.event(record.Event{T: 2 * time.Second, Kind: record.Required, ID: "linked", OK: flag(false), Evidence: "exited with 1"})
		}, "require linked", "was not met: exited with 1", Invalid},
		"untested requirement": {func(s *story) { s.plan.Require = []plan.Require{{ID: "linked"}} }, "require linked", "was not tested", Invalid},
		// The system under test may be judged whatever was left behind and whatever a workload did that is not measured; the run may not pass.
		"left behind": {func(s *story) {
			s.drop(func(e record.Event) bool { return e.Kind == record.Audited })
			s.event(record.Event{T: 14 * time.Second, Kind: record.Audited, OK: flag(false), Error: "a mount"})
		}, "audit", "a mount", Pass},
		"not audited": {func(s *story) { s.drop(func(e record.Event) bool { return e.Kind == record.Audited }) }, "audit", "not audited", Pass},
		"the workload died": {func(s *story) {
			s.event(record.Event{T: 4 * time.Second, Kind: record.WorkloadEnd, ID: "regs", Error: "line 3 is no JSON"})
		}, "workload regs", "line 3", Pass},
		"a silent workload": {func(s *story) { s.ops = nil }, "workload regs", "no operation that was acknowledged", Pass},
		"a lost workload":   {func(s *story) { s.drop(func(e record.Event) bool { return e.Kind == record.WorkloadEnd }) }, "workload regs", "did not come to its end", Pass},
	} {
		t.Run(name, func(t *testing.T) {
			for _, fails := range []bool{false, true} {
				s := newStory()
				slo := fullSLO(t)
				if fails {
					slo.During = plan.PhaseRecovery
					s.each(7*time.Second, 12*time.Second, broken)
				}
				s.ask(t, "slo", slo)
				c.spoil(s)
				fs, v := s.judge(t)
				require.Equal(t, Invalid, fs[c.premise].Verdict)
				require.Contains(t, fs[c.premise].Reason, c.says)
				want := c.it
				if want == Pass && fails {
					want = Fail
				}
				require.Equal(t, want, fs["it"].Verdict, "%s", fs["it"].Reason)
				if want == Invalid {
					require.Contains(t, fs["it"].Reason, c.says)
				}
				if want == Fail {
					require.Equal(t, Fail, v)
				} else {
					require.Equal(t, Invalid, v)
				}
			}
		})
	}
}

func TestPremisesAtTheirBounds(t *testing.T) {
	for name, spoil := range map[string]func(s *story){
		"lag at the bound": func(s *story) { s.each(0, time.Hour, func(q *record.Request) { q.Sent += 50 * ms; q.Done += 50 * ms }) },
		"one percent is late": func(s *story) {
			s.each(0, 24*5*ms, func(q *record.Request) { q.Sent += time.Second; q.Done += time.Second })
		},
		"95 percent of half the baseline": func(s *story) { s.each(1500*ms, 1570*ms, broken) },
		"small medians may differ":        func(s *story) { s.each(1500*ms, 3*time.Second, func(q *record.Request) { q.Done = q.Due + 55*ms }) },
		"a third": func(s *story) {
			s.each(0, time.Hour, func(q *record.Request) { q.Done = q.Due + 100*ms })
			s.each(0, 1500*ms, func(q *record.Request) { q.Done = q.Due + 300*ms })
		},
		"the last test of a requirement counts": func(s *story) {
			s.plan.Require = []plan.Require{{ID: "linked"}}
			s.event(record.Event{T: 1 * time.Second, Kind: record.Required, ID: "linked", OK: flag(false)})
			s.event(record.Event{T: 2 * time.Second, Kind: record.Required, ID: "linked", OK: flag(true)})
		},
		"a repeated fault whose window closed": func(s *story) {
			f := &s.plan.Rounds[0].Faults[0]
			f.Repeated, f.Window, f.Occurrences = true, plan.Duration(time.Second), make([]plan.Occurrence, 5)
		},
		"a held fault is not gone": func(s *story) {
			s.plan.Rounds[0].Faults[0].Held = true
			s.drop(func(e record.Event) bool { return e.Kind == record.FaultGone || e.Kind == record.FaultUndone })
		},
		"a fault with nothing to undo": func(s *story) { s.drop(func(e record.Event) bool { return e.Kind == record.FaultUndone }) },
		"no faults": func(s *story) {
			s.plan.Rounds[0].Faults = nil
			s.drop(func(e record.Event) bool { return e.Fault != "" })
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory()
			s.ask(t, "slo", &SLO{Source: Source{Load: "orders"}, Bounds: Bounds{Success: bound(t, ">= 50%")}})
			spoil(s)
			fs, v := s.judge(t)
			for id, f := range fs {
				require.Equal(t, Pass, f.Verdict, "%s: %s", id, f.Reason)
			}
			require.Equal(t, Pass, v)
		})
	}
	t.Run("no faults and a bad baseline, which is part of what is judged", func(t *testing.T) {
		s := newStory()
		s.plan.Rounds[0].Faults = nil
		s.drop(func(e record.Event) bool { return e.Fault != "" })
		s.each(0, time.Hour, broken)
		s.ask(t, "slo", &SLO{Source: Source{Load: "orders"}, Bounds: Bounds{Success: bound(t, ">= 50%")}})
		fs, v := s.judge(t)
		require.NotContains(t, fs, "steady orders")
		require.Equal(t, Fail, fs["it"].Verdict, fs["it"].Reason)
		require.Equal(t, Fail, v)
	})
	t.Run("a repeated fault by times", func(t *testing.T) {
		s := newStory()
		s.plan.Rounds[0].Faults[0].Occurrences = make([]plan.Occurrence, 2)
		fs, v := s.judge(t)
		require.Contains(t, fs["faults"].Reason, "kill (occurrence 2) never began")
		require.Equal(t, Invalid, v)
	})
	t.Run("more than one percent is late", func(t *testing.T) {
		s := newStory()
		s.ask(t, "slo", fullSLO(t))
		s.each(0, 25*5*ms, func(q *record.Request) { q.Sent += 100 * ms; q.Done += 100 * ms })
		s.want(t, Invalid, "late")
	})
}

// Each fault has a life of its own.
func TestFaultsAreProvedOneByOne(t *testing.T) {
	s := newStory()
	s.plan.Rounds[0].Faults = append(s.plan.Rounds[0].Faults, plan.Fault{ID: "cut", Occurrences: make([]plan.Occurrence, 2)})
	fs, v := s.judge(t)
	require.Equal(t, Invalid, v)
	require.Equal(t, "fault cut never began; fault cut (occurrence 2) never began", fs["faults"].Reason)
	for _, k := range []record.EventKind{record.FaultStarted, record.FaultInEffect, record.FaultUndone, record.FaultGone} {
		s.event(record.Event{T: 5 * time.Second, Kind: k, Fault: "cut", Occurrence: 1})
	}
	s.event(record.Event{T: 6 * time.Second, Kind: record.FaultStarted, Fault: "cut", Occurrence: 2})
	s.event(record.Event{T: 6 * time.Second, Kind: record.FaultInEffect, Fault: "cut", Occurrence: 2})
	fs, v = s.judge(t)
	require.Equal(t, Pass, v, "%s", fs["faults"].Reason)
	require.Equal(t, "3 injections of 2 faults proved", fs["faults"].Summary)
	s.event(record.Event{T: 7 * time.Second, Kind: record.FaultUndone, Fault: "cut", Occurrence: 2})
	fs, v = s.judge(t)
	require.Equal(t, Invalid, v)
	require.Equal(t, "fault cut (occurrence 2) was not proved to be gone", fs["undone"].Reason)
	require.Equal(t, Pass, fs["faults"].Verdict)
}

func TestAWorkloadTellsWhatItDid(t *testing.T) {
	s := newStory()
	s.ops[0].Outcome, s.ops[4].Outcome, s.ops[8].Outcome = record.Failed, record.Unknown, record.Unknown
	fs, _ := s.judge(t)
	require.Equal(t, "77 operations acknowledged, 1 failed, 2 unknown", fs["workload regs"].Summary)
}

// What is relative to the baseline rests on its latency too; what is not does not.
func TestADriftingBaseline(t *testing.T) {
	for _, c := range []struct {
		bounds string
		took   time.Duration
		want   Verdict
	}{
		{"<= 100x baseline", 55*ms + 1, Invalid},
		{"<= 100x baseline", 55 * ms, Pass},
		{"<= 1s", 55*ms + 1, Pass},
	} {
		s := newStory()
		s.ask(t, "slo", &SLO{Source: Source{Load: "orders", Request: "read"}, During: "recovery", Bounds: Bounds{P50: bound(t, c.bounds)}})
		s.each(1500*ms, 3*time.Second, func(q *record.Request) { q.Done = q.Due + c.took })
		if c.want == Invalid {
			s.want(t, c.want, "the baseline of orders drifted: the median latency was 5ms in its first half and 55ms in its second")
		} else {
			s.want(t, c.want)
		}
		fs, v := s.judge(t)
		require.Equal(t, c.want, v)
		if _, asked := fs["drift orders"]; asked != (c.bounds != "<= 1s") {
			t.Fatal("the latency of the baseline is judged where something rests on it, and nowhere else")
		}
	}
	s := newStory()
	s.ask(t, "slo", &SLO{Source: Source{Load: "orders"}, During: "recovery", Bounds: Bounds{P50: bound(t, "<= 3x baseline")}})
	s.each(0, 1500*ms, func(q *record.Request) { q.Done = q.Due + 300*ms })
	s.each(1500*ms, 12*time.Second, func(q *record.Request) { q.Done = q.Due + 100*ms })
	s.want(t, Pass) // three times is not more than three times
}

// A finding about the baseline alone rests neither on faults nor on steadiness: it is what measures that.
func TestAFindingAboutTheBaseline(t *testing.T) {
	ask := func(spoil func(*story)) *story {
		s := newStory()
		slo := fullSLO(t)
		slo.During = plan.PhaseBaseline
		s.ask(t, "slo", slo)
		spoil(s)
		return s
	}
	ask(func(s *story) { s.each(0, 3*time.Second, broken) }).want(t, Fail)
	ask(func(s *story) { s.drop(func(e record.Event) bool { return e.Fault != "" }) }).want(t, Pass)
	s := ask(func(s *story) {})
	fs, _ := s.judge(t)
	require.NotContains(t, fs, "steady orders", "nothing rests on it")
	ask(func(s *story) {
		s.drop(func(e record.Event) bool { return e.Kind == record.PhaseEnd && e.Phase == plan.PhaseBaseline })
	}).want(t, Invalid, "phase baseline did not")
}

// A safety finding that fails stays so, whatever else went wrong; one that passes rests on a whole history.
func TestSafetyFindings(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*story)
		pass  Verdict // what a PASS becomes
	}{
		"interrupted":    {func(s *story) { s.event(record.Event{T: 13 * time.Second, Kind: record.Interrupted}) }, Pass},
		"fault unproved": {func(s *story) { s.drop(func(e record.Event) bool { return e.Fault != "" }) }, Pass},
		"no end":         {func(s *story) { s.noEnd = true }, Invalid},
		"verify was cut": {func(s *story) {
			s.drop(func(e record.Event) bool { return e.Kind == record.PhaseEnd && e.Phase == plan.PhaseVerify })
		}, Invalid},
		"workload died": {func(s *story) {
			s.event(record.Event{T: 9 * time.Second, Kind: record.WorkloadEnd, ID: "regs", Error: "died"})
		}, Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory()
			s.ask(t, "no-lost-writes", NoLostWrites{Workload: "regs"})
			c.spoil(s)
			s.want(t, c.pass)
			_, v := s.judge(t)
			require.Equal(t, Invalid, v, "a premise does not hold")

			s = newStory()
			s.ask(t, "no-lost-writes", NoLostWrites{Workload: "regs"})
			c.spoil(s)
			s.ops = s.ops[:len(s.ops)-1]
			for i := range s.ops {
				if o := &s.ops[i]; o.Verify && o.Key == "w3" {
					o.Found, o.Value = flag(false), ""
				}
			}
			s.want(t, Fail)
			_, v = s.judge(t)
			require.Equal(t, Fail, v, "FAIL over INVALID")
		})
	}
}

// A value that nobody is seen to have written contradicts a whole history. When the workload died, or the record was cut
// off, whoever wrote it may just be missing.
func TestLinearizableFailsOnAWholeHistoryOnly(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*story)
		want  Verdict
		says  string
	}{
		"whole": {func(*story) {}, Fail, ""},
		"workload died": {func(s *story) {
			s.event(record.Event{T: 9 * time.Second, Kind: record.WorkloadEnd, ID: "regs", Error: "line 3 is no JSON"})
		}, Invalid, "the history is not whole: "},
		"cut off": {func(s *story) { s.noEnd = true }, Invalid, "the history is not whole: "},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory()
			s.ask(t, "linearizable", Linearizable{Workload: "regs"})
			s.ops[1].Value = "from nowhere"
			c.spoil(s)
			fs, _ := s.judge(t)
			require.Equal(t, c.want, fs["it"].Verdict)
			require.Contains(t, fs["it"].Reason, c.says)
		})
	}
}

func TestAnAbortFails(t *testing.T) {
	s := newStory()
	s.ask(t, "slo", fullSLO(t))
	s.event(record.Event{T: 5 * time.Second, Kind: record.Aborted, ID: "orders", Evidence: "success of orders was 3 %"})
	fs, v := s.judge(t)
	assert.Equal(t, Fail, v)
	assert.Equal(t, Fail, fs["abort orders"].Verdict)
	assert.Contains(t, fs["abort orders"].Summary, "3 %")
	assert.Equal(t, Invalid, fs["it"].Verdict)
}

func TestRoundsAreJudgedOneByOne(t *testing.T) {
	s := newStory()
	s.ask(t, "no-lost-writes", NoLostWrites{Workload: "regs"})
	s.plan.Rounds = append(s.plan.Rounds, plan.Round{N: 2, Faults: s.plan.Rounds[0].Faults})
	for _, e := range append([]record.Event(nil), s.events...) {
		e.Round, e.T = 2, e.T+20*time.Second
		s.events = append(s.events, e)
	}
	for _, o := range append([]record.Op(nil), s.ops...) {
		o.Round, o.Call, o.Return = 2, o.Call+20*time.Second, o.Return+20*time.Second
		if o.Verify && o.Key == "w1" {
			o.Found, o.Value = flag(false), ""
		}
		s.ops = append(s.ops, o)
	}
	fs, v := Judge(context.Background(), s.write(t))
	var got []string
	for _, f := range fs {
		if f.ID == "it" {
			got = append(got, f.Verdict.String())
		}
	}
	assert.Equal(t, []string{"PASS", "FAIL"}, got)
	assert.Equal(t, Fail, v)
}

// fake is a checker that misbehaves.
type fake struct {
	judge func(ctx context.Context) Finding
}

func (fake) Validate(Scope) error { return nil }
func (f fake) Judge(ctx context.Context, _ *plan.Plan, _ *record.Round) Finding {
	return f.judge(ctx)
}

func TestACheckerThatPanicsOrHangsIsInvalid(t *testing.T) {
	run := newStory().write(t)
	synctest.Test(t, func(t *testing.T) { misbehave(t, run) })
}

func misbehave(t *testing.T, run *record.Run) {
	j := judge{run: run, deadline: time.Millisecond}
	ask := func(f func(context.Context) Finding) Finding {
		return j.guarded(context.Background(), asked{params: fake{f}}, run.Rounds[0])
	}
	f := ask(func(context.Context) Finding { panic("boom") })
	assert.Equal(t, Invalid, f.Verdict)
	assert.Contains(t, f.Reason, "boom")
	release := make(chan struct{})
	defer close(release)
	f = ask(func(context.Context) Finding { <-release; return Finding{Verdict: Pass} })
	assert.Equal(t, Invalid, f.Verdict)
	assert.Contains(t, f.Reason, "did not come to an end within 1ms")
	f = ask(func(ctx context.Context) Finding { <-ctx.Done(); return Finding{Verdict: Fail} })
	assert.Equal(t, Fail, f.Verdict, "what it knew by then counts")
}

func TestAssertionsThatCannotBeRead(t *testing.T) {
	for kind, c := range map[string]struct{ params, says string }{
		"nonsense":  {`{}`, `no assertion is called "nonsense"`},
		"slo":       {`{"success": 3}`, "cannot be read"},
		"autoscale": {`{"service": "orders"}`, "cannot judge it yet"},
	} {
		s := newStory()
		s.plan.Assert = []plan.Assert{{ID: "it", Kind: kind, Params: json.RawMessage(c.params)}}
		s.want(t, Invalid, c.says)
	}
}

// The table is what scenario files, their schema and the reference are made from.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Table {
		assert.False(t, seen[k.Name], k.Name)
		seen[k.Name] = true
		assert.NotEmpty(t, k.Doc)
		assert.Contains(t, []Class{Service, Safety}, k.Class)
		b, err := json.Marshal(k.New())
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(b, k.New()), "zero parameters are read as they are written: %s", b)
		require.Error(t, k.validateZero(), k.Name)
		got, ok := ByName(k.Name)
		assert.True(t, ok)
		assert.Equal(t, k.Doc, got.Doc)
		if _, ok := k.New().(measurer); ok {
			assert.Equal(t, Service, k.Class)
		}
	}
	_, ok := ByName("x")
	assert.False(t, ok)
}

// validateZero validates parameters that were all left out; exits has none that must be there.
func (k Kind) validateZero() error {
	p := k.New()
	if x, ok := p.(*Exits); ok {
		x.Allow = []string{"nobody"}
	}
	return p.Validate(Scope{Plan: &plan.Plan{}})
}

func TestFindingsAreSavedAndLoaded(t *testing.T) {
	run := newStory().write(t)
	fs, v := Judge(context.Background(), run)
	require.NoError(t, Save(run.Dir, fs, v))
	got, gotV, err := Load(run.Dir)
	require.NoError(t, err)
	assert.Equal(t, v, gotV)
	a, err := json.Marshal(fs)
	require.NoError(t, err)
	b, err := json.Marshal(got)
	require.NoError(t, err)
	assert.JSONEq(t, string(a), string(b))
	again, _ := Judge(context.Background(), run)
	c, err := json.Marshal(again)
	require.NoError(t, err)
	assert.Equal(t, string(a), string(c), "the same findings every time")
	_, _, err = Load(t.TempDir())
	require.ErrorContains(t, err, "check writes them")
}

// Every figure of a finding names the file it can be computed from.
func TestEvidenceNamesItsFile(t *testing.T) {
	s := newStory()
	s.ask(t, "slo", fullSLO(t))
	fs, _ := s.judge(t)
	for id, f := range fs {
		require.NotEmpty(t, f.Evidence, id)
		for _, e := range f.Evidence {
			assert.NotEmpty(t, e.File, id)
			assert.NotEmpty(t, e.What, id)
		}
		assert.False(t, strings.Contains(f.Summary, "%!"), f.Summary)
	}
}

func TestWorst(t *testing.T) {
	assert.Equal(t, Invalid, Worst())
	assert.Equal(t, Pass, Worst(Pass, Pass))
	assert.Equal(t, Invalid, Worst(Pass, Invalid, Pass))
	assert.Equal(t, Fail, Worst(Invalid, Fail, Pass))
	assert.Equal(t, Fail, Worst(Fail, Invalid))
}
