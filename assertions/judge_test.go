package assertions

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
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
	assert.Zero(t, fs["run"].Round, "of no round")
	assert.Zero(t, fs["record"].Round)
	assert.InDeltaMapValues(t, map[string]float64{"baseline": 3, "fault": 4, "recovery": 5}, fs["phases"].Evidence[0].Values, 1e-6)
	assert.Equal(t, "success was 100 % and 100 % in the two halves of the baseline", fs["steady orders"].Summary)
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
		"no end, after a failure": {func(s *story) {
			s.noEnd = true
			s.event(record.Event{T: 13 * time.Second, Kind: record.Failure, Error: "the plane died"})
		}, "record", "no end: the harness was ended", Invalid},
		"the record could not be written": {func(s *story) {
			s.noEnd = true
			s.event(record.Event{T: 15 * time.Second, Kind: record.RunEnd, Error: "no space left on device"})
		}, "record", "the record is not complete: no space left on device", Invalid},
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
		"unproved": {func(s *story) { s.event(record.Event{T: 4 * time.Second, Kind: record.FaultUnproved, Fault: "kill"}) }, "faults", "fault kill was not proved", Invalid},
		// Its window may close before the last occurrences, but not before the first.
		"a repeated fault never began": {func(s *story) {
			f := &s.plan.Rounds[0].Faults[0]
			f.Repeated, f.Window, f.Occurrences = true, plan.Duration(time.Second), make([]plan.Occurrence, 5)
			s.drop(func(e record.Event) bool { return e.Fault != "" })
		}, "faults", "fault kill never began", Invalid},
		"not gone": {func(s *story) { s.drop(func(e record.Event) bool { return e.Kind == record.FaultGone }) }, "undone", "not proved to be gone", Invalid},
		"undo failed": {func(s *story) {
			s.event(record.Event{T: 8 * time.Second, Kind: record.UndoFailed, Fault: "kill", Error: "stuck"})
		}, "undone", "stuck", Invalid},
		"late generator": {func(s *story) { s.each(0, time.Hour, func(q *record.Request) { q.Sent += 51 * ms; q.Done += 51 * ms }) }, "generator orders", "51ms at p99", Invalid},
		"missed requests": {func(s *story) {
			s.drop(func(e record.Event) bool { return e.Kind == record.LoadSummary })
			s.event(record.Event{T: 13 * time.Second, Kind: record.LoadSummary, ID: "orders", Data: json.RawMessage(`{"missed":3}`)})
		}, "generator orders", "missed 3 requests", Invalid},
		"a request that could not be made":                 {func(s *story) { s.each(8*time.Second, 8005*ms, unmade) }, "generator orders", "the load orders could not make 1 request: the message is no SimpleRequest", Invalid},
		"requests that could not be made, and no word why": {func(s *story) { s.each(8*time.Second, 8010*ms, func(q *record.Request) { unmade(q); q.Error = "" }) }, "generator orders", "could not make 2 requests", Invalid},
		"no figures": {func(s *story) { s.drop(func(e record.Event) bool { return e.Kind == record.LoadSummary }) }, "generator orders", "no figures", Invalid},
		"figures of another load": {func(s *story) {
			s.drop(func(e record.Event) bool { return e.Kind == record.LoadSummary })
			s.event(record.Event{T: 13 * time.Second, Kind: record.LoadSummary, ID: "others", Data: json.RawMessage(`{"requests":2400}`)})
		}, "generator orders", "no figures", Invalid},
		"failing baseline": {func(s *story) { s.each(1500*ms, 1575*ms, broken) }, "steady orders", "success was 94.827 % in its second half", Invalid},
		"empty baseline":   {func(s *story) { s.reqs = s.reqs[600-9:] }, "steady orders", "first half of the baseline has 0 answers", Invalid},
		"unmet requirement": {func(s *story) {
			s.plan.Require = []plan.Require{{ID: "linked"}}
			s.event(record.Event{T: 2 * time.Second, Kind: record.Required, ID: "linked", OK: flag(false), Evidence: "exited with 1"})
		}, "require linked", "was not met: exited with 1", Invalid},
		"untested requirement": {func(s *story) { s.plan.Require = []plan.Require{{ID: "linked"}} }, "require linked", "was not tested", Invalid},
		"another requirement was met": {func(s *story) {
			s.plan.Require = []plan.Require{{ID: "linked"}, {ID: "warm"}}
			s.event(record.Event{T: 1 * time.Second, Kind: record.Required, ID: "linked", OK: flag(false)})
			s.event(record.Event{T: 2 * time.Second, Kind: record.Required, ID: "warm", OK: flag(true)})
		}, "require linked", "was not met", Invalid},
		// The system under test may be judged whatever was left behind and whatever a workload did that is not measured; the run may not pass.
		"left behind": {func(s *story) {
			s.drop(func(e record.Event) bool { return e.Kind == record.Audited })
			s.event(record.Event{T: 14 * time.Second, Kind: record.Audited, OK: flag(false), Error: "a mount"})
		}, "audit", "a mount", Pass},
		"not audited": {func(s *story) { s.drop(func(e record.Event) bool { return e.Kind == record.Audited }) }, "audit", "not audited", Pass},
		"audited without a result": {func(s *story) {
			s.drop(func(e record.Event) bool { return e.Kind == record.Audited })
			s.event(record.Event{T: 14 * time.Second, Kind: record.Audited})
		}, "audit", "something was left behind", Pass},
		"the workload died": {func(s *story) {
			s.event(record.Event{T: 4 * time.Second, Kind: record.WorkloadEnd, ID: "regs", Error: "line 3 is no JSON"})
		}, "workload regs", "line 3", Pass},
		"a silent workload": {func(s *story) { s.ops = nil }, "workload regs", "no operation that was acknowledged", Pass},
		"a lost workload":   {func(s *story) { s.drop(func(e record.Event) bool { return e.Kind == record.WorkloadEnd }) }, "workload regs", "did not come to its end", Pass},
		"another workload ended": {func(s *story) {
			s.drop(func(e record.Event) bool { return e.Kind == record.WorkloadEnd })
			s.event(record.Event{T: 13 * time.Second, Kind: record.WorkloadEnd, ID: "others"})
		}, "workload regs", "did not come to its end", Pass},
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
		"one bad answer of twenty in a half": func(s *story) { s.few(15); s.each(0, 10*ms, broken) },
		"ten answers in each half":           func(s *story) { s.few(29) },
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
		require.NotContains(t, fs, "faults", "there is none to prove")
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
	t.Run("nothing was sent", func(t *testing.T) {
		s := newStory()
		s.ask(t, "slo", fullSLO(t))
		s.reqs = nil
		fs, v := s.judge(t)
		require.Equal(t, "load orders sent nothing", fs["generator orders"].Reason)
		require.Equal(t, Invalid, v)
	})
	t.Run("one half is not the other", func(t *testing.T) {
		s := newStory()
		s.ask(t, "slo", fullSLO(t))
		s.few(15)
		s.each(0, 10*ms, broken)
		fs, _ := s.judge(t)
		require.Equal(t, "success was 95 % and 100 % in the two halves of the baseline", fs["steady orders"].Summary)
		require.Equal(t, map[string]float64{"success, first half": 0.95, "success, second half": 1}, fs["steady orders"].Evidence[0].Values)
	})
	t.Run("one of ten is no share", func(t *testing.T) {
		s := newStory()
		s.ask(t, "slo", fullSLO(t))
		s.few(29)
		s.each(0, 10*ms, broken)
		fs, _ := s.judge(t)
		require.Equal(t, Pass, fs["steady orders"].Verdict)
		require.Equal(t, "success was 90 % and 100 % in the two halves of the baseline", fs["steady orders"].Summary)
		s.each(0, 200*ms, broken)
		s.want(t, Invalid, "success was 80 % in its first half")
	})
	t.Run("nine answers in a half", func(t *testing.T) {
		s := newStory()
		s.ask(t, "slo", fullSLO(t))
		s.few(29)
		s.reqs = s.reqs[1:]
		s.want(t, Invalid, "the first half of the baseline has 9 answers of orders, and it takes 10")
	})
	t.Run("more than one percent is late", func(t *testing.T) {
		s := newStory()
		s.ask(t, "slo", fullSLO(t))
		s.each(0, 25*5*ms, func(q *record.Request) { q.Sent += 100 * ms; q.Done += 100 * ms })
		s.want(t, Invalid, "late")
	})
}

// few leaves one request of each n in the baseline: of 29 ten in each half, of 15 twenty in the first.
func (s *story) few(n int) {
	s.reqs = slices.DeleteFunc(s.reqs, func(q record.Request) bool { return q.Due < 3*time.Second && q.Seq%uint64(n) != 1 })
}

// The figures of a generator are those of each request, sorted.
func TestTheLagOfAGenerator(t *testing.T) {
	s := newStory()
	s.ask(t, "slo", fullSLO(t))
	for i := range s.reqs {
		lag := time.Duration(1+(i*7)%2400) * time.Microsecond
		s.reqs[i].Sent, s.reqs[i].Done = s.reqs[i].Sent+lag, s.reqs[i].Done+lag
	}
	fs, _ := s.judge(t)
	f := fs["generator orders"]
	require.Equal(t, "2400 requests were sent 2.376ms late at p99, 2.4ms at most", f.Summary)
	require.Equal(t, map[string]float64{"missed": 0, "bound": 0.05, "p50": 0.0012, "p99": 0.002376, "max": 0.0024}, f.Evidence[0].Values)
}

// A reason says of what it speaks, in whole sentences: what happened outside the rounds and without an error has neither.
func TestReasonsAreWhole(t *testing.T) {
	s := newStory()
	s.events = append(s.events, record.Event{T: 1, Kind: record.Interrupted})
	s.event(record.Event{T: 4 * time.Second, Kind: record.FaultFailed, Fault: "kill", Occurrence: 1})
	fs, _ := s.judge(t)
	require.Equal(t, "the run was interrupted", fs["run"].Reason)
	require.Equal(t, "fault kill failed", fs["faults"].Reason)
	s = newStory()
	s.plan.Rounds[0].Faults[0].Occurrences = make([]plan.Occurrence, 2)
	s.event(record.Event{T: 4 * time.Second, Kind: record.FaultStarted, Fault: "kill", Occurrence: 2})
	s.event(record.Event{T: 4 * time.Second, Kind: record.FaultInEffect, Fault: "kill", Occurrence: 2})
	s.event(record.Event{T: 4 * time.Second, Kind: record.FaultFailed, Fault: "kill", Occurrence: 2, Error: "no leader\n"})
	fs, _ = s.judge(t)
	require.Equal(t, "fault kill (occurrence 2) failed: no leader", fs["faults"].Reason)
}

// Nothing was executed, so nothing was shown.
func TestAPlanWithoutRounds(t *testing.T) {
	s := newStory()
	s.plan.Rounds = nil
	fs, v := s.judge(t)
	require.Equal(t, Invalid, v)
	require.Equal(t, "the plan has no round", fs["run"].Reason)
}

// unreadable spoils a file of a run directory: a request log loses its sidecar, another file cannot be opened.
func unreadable(t *testing.T, run *record.Run, file string) {
	path := filepath.Join(run.Dir, filepath.FromSlash(file))
	if side, ok := strings.CutSuffix(path, ".bin"); ok {
		require.NoError(t, os.Remove(side+".jsonl"))
		return
	}
	unopenable(t, run, file)
}

// What rests on a file that cannot be read is INVALID, and says which file it is: none of it is taken for empty.
func TestFilesThatCannotBeRead(t *testing.T) {
	good := Bounds{Success: bound(t, ">= 99%")}
	requests, history := record.RequestFile("orders"), record.HistoryFile("regs")
	for _, c := range []struct {
		file, kind string
		ask        any
		premises   []string // that say so too
	}{
		{requests, "recovers", &Recovers{Source: Source{Load: "orders"}, After: "kill.in-effect", Within: plan.Duration(time.Second), Bounds: good}, []string{"record", "generator orders", "steady orders"}},
		{requests, "metastable", &Metastable{Load: "orders", After: "kill.undone", Within: plan.Duration(time.Second), Goodput: bound(t, ">= 90%")}, []string{"record", "generator orders", "steady orders", "drift orders"}},
		{requests, "leaks", &Leaks{Nodes: "store", Goroutines: bound(t, "<= 10"), Within: plan.Duration(time.Second)}, []string{"generator orders"}},
		{history, "recovers", &Recovers{Source: Source{Workload: "regs"}, After: "kill.in-effect", Within: plan.Duration(time.Second), Bounds: good}, []string{"record", "workload regs", "steady regs"}},
		{history, "no-lost-writes", NoLostWrites{Workload: "regs"}, nil},
		{history, "no-duplicates", NoDuplicates{Workload: "regs"}, nil},
		{history, "members-agree", MembersAgree{Workload: "regs", Group: "store"}, nil},
		{history, "linearizable", Linearizable{Workload: "regs"}, nil},
		{record.LeadersFile(), "unique-leader", UniqueLeader{Group: "store"}, []string{"record"}},
	} {
		t.Run(c.kind+" without "+c.file, func(t *testing.T) {
			s := newStory()
			s.ask(t, c.kind, c.ask)
			s.metrics = levelGauges()
			run := s.write(t)
			unreadable(t, run, c.file)
			fs, v := Judge(context.Background(), run)
			require.Equal(t, Invalid, v)
			said := map[string]string{}
			for _, f := range fs {
				said[f.ID] = f.Verdict.String() + ": " + f.Reason
			}
			name, _, _ := strings.Cut(filepath.Base(c.file), ".")
			for _, id := range append(c.premises, "it") {
				require.Regexp(t, "^INVALID: .*/"+name+".jsonl: ", said[id], id)
			}
		})
	}
}

// What was never begun is not measured, however good the rest is.
func TestPhasesThatWereNotReached(t *testing.T) {
	back := Recovers{Source: Source{Load: "orders"}, After: "kill.in-effect", Within: plan.Duration(time.Second), Bounds: Bounds{P50: bound(t, "<= 1s")}}
	meta := Metastable{Load: "orders", After: "kill.undone", Within: plan.Duration(time.Second), Goodput: bound(t, ">= 100/s")}
	leak := Leaks{Nodes: "store", Goroutines: bound(t, "<= 10"), Within: plan.Duration(time.Second)}
	for _, c := range []struct {
		phase string
		ask   Params
	}{
		{plan.PhaseRecovery, &back}, {plan.PhaseRecovery, &meta}, {plan.PhaseBaseline, &meta}, {plan.PhaseRecovery, &leak}, {plan.PhaseBaseline, &leak},
	} {
		s := newStory()
		s.metrics = levelGauges()
		s.drop(func(e record.Event) bool { return e.Phase == c.phase && e.Kind == record.PhaseBegin })
		run := s.write(t)
		f := c.ask.Judge(context.Background(), run.Plan, run.Rounds[0])
		require.Equal(t, Invalid.String(), f.Verdict.String(), "%T: %s", c.ask, f.Summary)
		require.Equal(t, "the round did not reach the phase "+c.phase, f.Reason, "%T", c.ask)
	}
	s := newStory()
	s.ask(t, "recovers", &back)
	s.drop(func(e record.Event) bool { return e.Phase == plan.PhaseBaseline })
	fs, _ := s.judge(t)
	require.Equal(t, "the round did not reach the phase baseline", fs["steady orders"].Reason)
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

// A finding rests on the source that it measures and on no other.
func TestAFindingRestsOnItsOwnSource(t *testing.T) {
	ask := func(src Source) *story {
		s := newStory()
		s.ask(t, "slo", &SLO{Source: src, During: plan.PhaseRecovery, Bounds: Bounds{Success: bound(t, ">= 50%")}})
		s.more(200)
		s.every(func(o *record.Op) bool { return o.Call < 3*time.Second }, func(o *record.Op) { o.Outcome = record.Unknown })
		s.plan.Loads = append(s.plan.Loads, plan.Load{Name: "others", To: "gateway"}) // which sent nothing
		return s
	}
	ask(Source{Workload: "regs"}).want(t, Invalid, "it would be PASS, but the baseline of regs was not steady: success was 0 % in its first half")
	ask(Source{Load: "orders"}).want(t, Pass)
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
	s.ask(t, "slo", &SLO{Source: Source{Load: "orders"}, During: "recovery", Bounds: Bounds{P50: bound(t, "<= 100x baseline")}})
	s.each(0, 1450*ms, func(q *record.Request) { q.Done = q.Due + 60*ms })
	s.want(t, Invalid, "the median latency was 60ms in its first half and 5ms in its second") // it got faster, which is a drift too
	s.each(0, 1450*ms, func(q *record.Request) { q.Done = q.Due + 6*ms })
	fs, _ := s.judge(t)
	require.Equal(t, "the median latency was 6ms and 5ms in the two halves of the baseline", fs["drift orders"].Summary)
	require.Equal(t, 579, fs["drift orders"].Evidence[0].Count)
	require.Equal(t, map[string]float64{"p50, first half": 0.006, "p50, second half": 0.005}, fs["drift orders"].Evidence[0].Values)
	require.Equal(t, 579, fs["steady orders"].Evidence[0].Count)
	s = newStory()
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
		"autoscale": {`{"service": "orders"}`, "this version knows the assertion autoscale but cannot judge it yet"},
	} {
		s := newStory()
		s.plan.Assert = []plan.Assert{{ID: "it", Kind: kind, Params: json.RawMessage(c.params)}}
		s.want(t, Invalid, c.says)
	}
	run := newStory().write(t)
	run.Plan.Assert = []plan.Assert{{ID: "it", Kind: "exits"}} // a plan need not write parameters where none must be given
	_, v := Judge(context.Background(), run)
	require.Equal(t, Pass, v)
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
}

// A figure that JSON has no number for, such as a ratio to nothing, takes nothing else with it.
func TestFindingsAreSavedWithoutFiguresThatAreNoNumbers(t *testing.T) {
	dir := t.TempDir()
	figures := map[string]float64{"least": 1, "greatest": math.Inf(1), "before": math.Inf(-1), "p50": math.NaN()}
	saved := []Finding{{ID: "ratio", Verdict: Fail, Summary: "was +Inf", Evidence: []Evidence{{What: "a / b", Values: figures}, {What: "c / d", Values: map[string]float64{"least": math.Inf(1)}}}}}
	require.NoError(t, Save(dir, saved, Fail))
	require.Len(t, figures, 4, "who judges goes on with what he has")
	got, v, err := Load(dir)
	require.NoError(t, err)
	require.Equal(t, Fail, v)
	require.Len(t, got, 1)
	require.Equal(t, "was +Inf", got[0].Summary)
	require.Equal(t, map[string]float64{"least": 1}, got[0].Evidence[0].Values)
	require.Empty(t, got[0].Evidence[1].Values)
}

// Findings that cannot be kept or read are an error, never a verdict.
func TestFindingsThatCannotBeSavedOrLoaded(t *testing.T) {
	for says, content := range map[string]string{
		"check writes them":            "",
		"unexpected end of JSON input": `{"version": 1, "verdict": "PASS"`,
		"version 2":                    `{"version": 2, "verdict": "PASS", "findings": []}`,
		`no verdict is called "OK"`:    `{"version": 1, "verdict": "OK", "findings": []}`,
		"cannot unmarshal number":      `{"version": 1, "verdict": 1, "findings": []}`,
	} {
		dir := t.TempDir()
		if content != "" {
			require.NoError(t, os.WriteFile(filepath.Join(dir, FindingsFile), []byte(content), 0o644))
		}
		_, v, err := Load(dir)
		require.ErrorContains(t, err, says)
		require.Equal(t, Invalid, v, says)
	}
	good := []Finding{{ID: "it", Verdict: Pass}}
	for _, taken := range []string{FindingsFile, FindingsFile + ".tmp"} {
		dir := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(dir, taken), 0o755))
		require.ErrorContains(t, Save(dir, good, Pass), "writing the findings", taken)
	}
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

func TestLists(t *testing.T) {
	assert.Equal(t, "none", list(nil))
	assert.Equal(t, "a", list([]string{"a"}))
	assert.EqualError(t, oneOf("load", "x", nil), `no load is called "x"; there is none here`)
	assert.EqualError(t, oneOf("load", "x", []string{"orders"}), `no load is called "x"; there is orders`)
}

func TestWorst(t *testing.T) {
	assert.Equal(t, Invalid, Worst())
	assert.Equal(t, Pass, Worst(Pass, Pass))
	assert.Equal(t, Invalid, Worst(Pass, Invalid, Pass))
	assert.Equal(t, Fail, Worst(Invalid, Fail, Pass))
	assert.Equal(t, Fail, Worst(Fail, Invalid))
}
