package reports

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/assertions"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

const (
	ms = time.Millisecond
	s  = time.Second
)

func at[T any](v T) *T { return &v }

// book is a record made by hand.
type book struct {
	plan     plan.Plan
	events   []record.Event
	requests []record.Request
	cut      bool // the harness was ended before the run was
	findings []assertions.Finding
	verdict  assertions.Verdict
	controls []ControlResult
}

func (b *book) event(round int, t time.Duration, k record.EventKind, more ...func(*record.Event)) {
	e := record.Event{T: t, Round: round, Kind: k}
	for _, m := range more {
		m(&e)
	}
	b.events = append(b.events, e)
}

func (b *book) phase(round int, name string, from, to time.Duration) {
	set := func(e *record.Event) { e.Phase = name }
	b.event(round, from, record.PhaseBegin, set)
	if to > 0 {
		b.event(round, to, record.PhaseEnd, set)
	}
}

func fault(id, kind string, n int, targets ...string) func(*record.Event) {
	return func(e *record.Event) { e.Fault, e.FaultKind, e.Occurrence, e.Targets = id, kind, n, targets }
}
func says(evidence string) func(*record.Event) {
	return func(e *record.Event) { e.Evidence = evidence }
}
func fails(text string) func(*record.Event)   { return func(e *record.Event) { e.Error = text } }
func due(t time.Duration) func(*record.Event) { return func(e *record.Event) { e.Planned = &t } }
func node(n string) func(*record.Event)       { return func(e *record.Event) { e.Node = n } }
func signal(sig string) func(*record.Event) {
	return func(e *record.Event) { e.Signal, e.Announced = sig, true }
}

// load adds requests every 5 ms that are answered after 4 ms, or badly after 900 ms between bad and good.
func (b *book) load(round int, from, to, bad, good time.Duration) {
	for t := from; t < to; t += 5 * ms {
		q := record.Request{Seq: uint64(len(b.requests)), Round: round, Request: "create", Due: t, Sent: t, Done: t + 4*ms, Code: 201, OK: true}
		if t >= bad && t < good {
			q.Done, q.Code, q.OK, q.Error = t+900*ms, 503, false, "status 503"
		}
		b.requests = append(b.requests, q)
	}
}

// result writes the record and reads it back. What differs from run to run is made the same.
func (b *book) result(t *testing.T) Result {
	t.Helper()
	b.plan.Version = plan.Version
	w, err := record.Create(filepath.Join(t.TempDir(), "run"), record.Meta{Tool: "v0.1.0", Driver: "sandbox", Host: "Linux 6.18, 2 cores, 24 GiB",
		Warnings: []string{"reference.yaml:31: services.gateway.cpu_shares has no effect: no driver applies it"}}, &b.plan)
	require.NoError(t, err)
	for _, e := range b.events {
		w.Event(e)
	}
	for _, q := range b.requests {
		w.Request("orders", q)
	}
	if !b.cut {
		w.Event(record.Event{Kind: record.RunEnd, T: b.events[len(b.events)-1].T})
	}
	require.NoError(t, w.Close())
	run, err := record.Open(w.Dir())
	require.NoError(t, err)
	for _, rd := range run.Rounds {
		for _, l := range run.Plan.Loads {
			_, err := rd.Requests(l.Name) // kept by the run, whose directory gets another name
			require.NoError(t, err)
		}
	}
	run.Dir = "runs/" + b.plan.Name
	run.Meta.Start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return Result{Run: run, Findings: b.findings, Verdict: b.verdict, Controls: b.controls}
}

func occurrences(n int, apart, hold time.Duration) (out []plan.Occurrence) {
	for i := range n {
		out = append(out, plan.Occurrence{Offset: plan.Duration(time.Duration(i) * apart), For: plan.Duration(hold), Params: json.RawMessage(`{}`)})
	}
	return out
}

func finding(v assertions.Verdict, class assertions.Class, id, kind string, round int, summary string, ev ...assertions.Evidence) assertions.Finding {
	f := assertions.Finding{ID: id, Kind: kind, Class: class, Round: round, Verdict: v, Summary: summary, Evidence: ev}
	if v == assertions.Invalid {
		f.Reason = summary
	}
	return f
}

// passed is a run of one round in which all went well, with two controls, one of which was not noticed.
func passed() *book {
	b := &book{verdict: assertions.Pass, plan: plan.Plan{
		Name: "store-leader-kill", Summary: "The store's leader is killed under load; writes resume on a new leader and no acknowledged write is lost.",
		Tags: []string{"store"}, File: "scenarios/store-leader-kill.yaml", Topology: "scenarios/topologies/reference.yaml", Seed: 18446744073709551615,
		Loads:     []plan.Load{{Name: "orders", To: "gateway"}},
		Workloads: []plan.Workload{{Name: "registers", Kind: "registers"}},
		Assert:    []plan.Assert{{ID: "steady", Kind: "slo"}, {ID: "back", Kind: "recovers"}, {ID: "kept", Kind: "no-lost-writes"}},
		Rounds:    []plan.Round{{N: 1, Faults: []plan.Fault{{ID: "leader-gone", Kind: "kill", Occurrences: occurrences(1, 0, 4*s)}}}},
	}}
	b.phase(1, plan.PhaseUp, 1*ms, 900*ms)
	b.event(1, 500*ms, record.NodeStarted, node("store-1"))
	b.phase(1, plan.PhaseReady, 900*ms, 1200*ms)
	b.phase(1, plan.PhaseBaseline, 1200*ms, 4200*ms)
	b.phase(1, plan.PhaseFault, 4200*ms, 8200*ms)
	kill := fault("leader-gone", "kill", 1, "store-2")
	b.event(1, 4200*ms, record.Bound, kill, func(e *record.Event) { e.ID = "the leader of group store" })
	b.event(1, 4203*ms, record.FaultStarted, fault("leader-gone", "kill", 1), due(4200*ms))
	b.event(1, 4207*ms, record.NodeExited, node("store-2"), signal("SIGKILL"))
	b.event(1, 4208*ms, record.FaultInEffect, kill, says("store-2 was reaped with SIGKILL"))
	b.event(1, 8208*ms, record.FaultUndone, kill)
	b.event(1, 8210*ms, record.NodeStarted, node("store-2"))
	b.event(1, 8400*ms, "node.ready", node("store-2"))
	b.event(1, 8410*ms, record.FaultGone, kill, says("store-2 runs and is ready"))
	b.phase(1, plan.PhaseRecovery, 8410*ms, 13410*ms)
	b.event(1, 13411*ms, record.LoadSummary, func(e *record.Event) {
		e.ID, e.Data = "orders", json.RawMessage(`{"requests":2442,"lagP50":21000,"lagP99":310000,"lagMax":900000}`)
	})
	b.event(1, 13412*ms, record.WorkloadEnd, func(e *record.Event) {
		e.ID, e.Data = "registers", json.RawMessage(`{"ok":1210,"failed":4,"unknown":9,"read":48}`)
	})
	b.phase(1, plan.PhaseVerify, 13420*ms, 13900*ms)
	b.phase(1, plan.PhaseDown, 13900*ms, 14200*ms)
	b.event(1, 14*s, record.NodeExited, node("gateway-1"), signal("SIGTERM"))
	b.event(1, 14300*ms, record.Audited, func(e *record.Event) {
		e.OK, e.Evidence = at(true), "no process, rule, mount, namespace or cgroup of this run is left"
	})
	b.load(1, 1200*ms, 13410*ms, 4205*ms, 5405*ms)
	b.findings = []assertions.Finding{
		finding(assertions.Pass, assertions.Premise, "run", "run", 0, "1 round executed to the end"),
		finding(assertions.Pass, assertions.Premise, "faults", "faults", 1, "1 injection of 1 fault proved"),
		finding(assertions.Pass, assertions.Service, "steady", "slo", 1, "success 100 %, wanted >= 99.9%; p95 4ms, wanted <= 100ms (600 requests of orders in baseline)",
			assertions.Evidence{What: "requests of orders due in baseline", File: "requests/orders.bin", Window: &assertions.Window{From: 1200 * ms, To: 4200 * ms}, Count: 600, Values: map[string]float64{"success": 1, "p95": 0.004}}),
		finding(assertions.Pass, assertions.Service, "back", "recovers", 1, "recovered 1.197s after leader-gone.in-effect, wanted within 2.5s",
			assertions.Evidence{What: "requests of orders due from leader-gone.in-effect to the end of recovery", File: "requests/orders.bin", Window: &assertions.Window{From: 4208 * ms, To: 13410 * ms}, Count: 1841}),
		finding(assertions.Pass, assertions.Safety, "kept", "no-lost-writes", 1, "410 acknowledged writes, all of them read back",
			assertions.Evidence{What: "writes and what verify read", File: "histories/registers.jsonl", Count: 410}),
		finding(assertions.Pass, assertions.Safety, "exits", "exits", 1, "only announced deaths"),
	}
	b.controls = []ControlResult{
		{Name: "ack-early in orders", Verdict: assertions.Pass, Reason: "failed as they must: kept", Dir: "runs/store-leader-kill-control-1",
			Findings: []assertions.Finding{finding(assertions.Fail, assertions.Safety, "kept", "no-lost-writes", 1, "3 acknowledged writes are lost")}},
		{Name: "single-endpoint in orders", Verdict: assertions.Fail, Reason: "did not fail: back PASS (recovered 1.2s after leader-gone.in-effect)", Dir: "runs/store-leader-kill-control-2",
			Findings: []assertions.Finding{finding(assertions.Pass, assertions.Service, "back", "recovers", 1, "recovered")}},
	}
	return b
}

// failed is a run with a link fault, a precondition, a death that nothing announced, output of a program that would steer a terminal, and findings that
// are FAIL.
func failed() *book {
	b := &book{verdict: assertions.Fail, plan: plan.Plan{
		Name: "cut", Summary: "A follower is cut off.", File: "my scenarios/cut.yaml", Seed: 7,
		Loads:   []plan.Load{{Name: "orders", To: "gateway"}},
		Assert:  []plan.Assert{{ID: "up", Kind: "slo"}, {ID: "kept", Kind: "no-lost-writes"}},
		Control: &plan.Control{Name: "x", Env: map[string]string{"MYDB_VERSION": "v1.0.0"}, MustFail: []string{"kept"}},
		Rounds: []plan.Round{{N: 1, Faults: []plan.Fault{
			{ID: "isolate", Kind: "partition", Occurrences: occurrences(1, 0, 0), Until: &plan.Trigger{}},
			{ID: "down", Kind: "kill", Occurrences: occurrences(1, 0, 0), Held: true},
		}}},
	}}
	b.phase(1, plan.PhaseBaseline, 1*s, 3*s)
	b.phase(1, plan.PhaseFault, 3*s, 6*s)
	cut := func(e *record.Event) {
		fault("isolate", "partition", 1, "mydb-3")(e)
		e.Links = []string{"mydb-1 -> mydb-3", "mydb-3 -> mydb-1", "mydb-2 -> mydb-3", "mydb-3 -> mydb-2", "client -> mydb-3", "mydb-3 -> client"}
	}
	b.event(1, 3*s, record.FaultStarted, cut, due(3*s))
	b.event(1, 3100*ms, record.FaultInEffect, cut, says("6 of 6 links: a connection from each end timed out after 250 ms"))
	b.event(1, 4*s, record.NodeExited, node("mydb-2"), func(e *record.Event) { e.ExitCode = at(2) })
	b.event(1, 4*s, record.ExecEnd, func(e *record.Event) {
		e.ID, e.ExitCode, e.Evidence = "compact", at(1), "\x1b[2Jpanic: \a everything is broken"
	})
	b.event(1, 5*s, record.FaultUndone, cut, says("312 packets dropped"))
	b.event(1, 5100*ms, record.FaultGone, cut, says("6 of 6 links connect again"))
	down := fault("down", "kill", 1, "mydb-1")
	b.event(1, 5200*ms, record.FaultStarted, down)
	b.event(1, 5210*ms, record.FaultInEffect, down, says("mydb-1 was reaped with SIGKILL"))
	b.phase(1, plan.PhaseRecovery, 6*s, 8*s)
	b.event(1, 8*s, record.Required, func(e *record.Event) { e.ID, e.OK, e.Evidence = "snapshot", at(true), "mydb-3: received snapshot" })
	b.phase(1, plan.PhaseVerify, 8*s, 9*s)
	b.event(1, 9*s, record.FaultUndone, down)
	b.event(1, 9100*ms, record.Audited, func(e *record.Event) { e.OK, e.Error = at(false), "\nleft: process 4711\nleft: rule 3" })
	b.load(1, 1*s, 8*s, 3*s, 6*s)
	var lost []assertions.Evidence
	for i := range 14 {
		lost = append(lost, assertions.Evidence{What: "lost", File: "histories/writes.jsonl", Nodes: []string{"mydb-1"}, Detail: fmt.Sprintf("key w%d was acknowledged at 4.%03d by client 3 and is not there", i, i)})
	}
	b.findings = []assertions.Finding{
		finding(assertions.Pass, assertions.Premise, "run", "run", 0, "1 round executed to the end"),
		finding(assertions.Invalid, assertions.Premise, "audit", "audit", 1, "left: process 4711; left: rule 3"),
		finding(assertions.Fail, assertions.Safety, "kept", "no-lost-writes", 1, "14 of 500 acknowledged writes are lost", lost...),
		finding(assertions.Fail, assertions.Safety, "exits", "exits", 1, "mydb-2 ended, which no fault had announced",
			assertions.Evidence{What: "a death that no fault announced", File: "events.jsonl", Nodes: []string{"mydb-2"}, Window: &assertions.Window{From: 4 * s, To: 4 * s}, Detail: "status 2"}),
		{ID: "up", Kind: "slo", Class: assertions.Service, Round: 1, Verdict: assertions.Invalid, Summary: "success 57.142 %, wanted >= 60% (1400 requests of orders in all phases under load)",
			Reason: "it would be FAIL, but something is left behind"},
	}
	return b
}

// invalid is a record that was cut off after a fault had failed.
func invalid() *book {
	b := &book{verdict: assertions.Invalid, cut: true, plan: plan.Plan{
		Name: "slow", Seed: 3, File: "slow.yaml", Loads: []plan.Load{{Name: "orders"}},
		Rounds: []plan.Round{{N: 1, Faults: []plan.Fault{{ID: "delay", Kind: "delay", Occurrences: occurrences(1, 0, s)}}}, {N: 2}},
	}}
	b.phase(1, plan.PhaseBaseline, 1*s, 2*s)
	b.phase(1, plan.PhaseFault, 2*s, 0)
	delay := fault("delay", "delay", 1)
	b.event(1, 2*s, record.FaultStarted, delay, due(2*s))
	b.event(1, 2100*ms, record.FaultUnproved, delay, fails("no packet passed the link client -> db"))
	b.event(1, 2200*ms, record.UndoFailed, delay, fails("the plane does not answer"))
	b.event(1, 2300*ms, record.Failure, fails("fault delay: the plane does not answer"))
	b.event(0, 2400*ms, record.Interrupted, fails("interrupted by the user"))
	b.findings = []assertions.Finding{
		finding(assertions.Invalid, assertions.Premise, "run", "run", 0, "the run was interrupted: interrupted by the user; 1 of 2 rounds were not executed: 2"),
		finding(assertions.Invalid, assertions.Premise, "record", "record", 0, "the record has no end: the harness was ended, or could not write"),
	}
	return b
}

// rounds is a run of twelve rounds with a repeated fault, one of which lost a write.
func rounds() *book {
	b := &book{verdict: assertions.Fail, plan: plan.Plan{Name: "loop", Seed: 1, File: "loop.yaml", Assert: []plan.Assert{{ID: "kept", Kind: "no-lost-writes"}}}}
	for n := 1; n <= 12; n++ {
		b.plan.Rounds = append(b.plan.Rounds, plan.Round{N: n, Faults: []plan.Fault{{ID: "loop", Kind: "kill", Repeated: true, Occurrences: occurrences(9, 500*ms, 100*ms)}}})
		t0 := time.Duration(n) * 10 * s
		b.phase(n, plan.PhaseFault, t0, t0+5*s)
		for i := 1; i <= 9; i++ {
			t := t0 + time.Duration(i)*500*ms
			f := fault("loop", "kill", i, "mydb-1")
			b.event(n, t, record.FaultStarted, f, due(t))
			b.event(n, t+2*ms, record.NodeExited, node("mydb-1"), signal("SIGKILL"))
			b.event(n, t+3*ms, record.FaultInEffect, f, says("mydb-1 was reaped with SIGKILL"))
			b.event(n, t+time.Duration(100+i)*ms, record.FaultUndone, f)
			b.event(n, t+time.Duration(110+i)*ms, record.FaultGone, f, says("mydb-1 runs"))
		}
		v, text := assertions.Pass, "80 acknowledged writes, all of them read back"
		if n == 7 {
			v, text = assertions.Fail, "1 of 80 acknowledged writes is lost"
		}
		b.findings = append(b.findings,
			finding(assertions.Pass, assertions.Premise, "faults", "faults", n, "9 injections of 1 fault proved"),
			finding(v, assertions.Safety, "kept", "no-lost-writes", n, text),
			finding(assertions.Pass, assertions.Safety, "exits", "exits", n, "only announced deaths"))
	}
	return b
}

var books = map[string]func() *book{"passed": passed, "failed": failed, "invalid": invalid, "rounds": rounds}
