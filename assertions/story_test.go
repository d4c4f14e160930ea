package assertions

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

const ms = time.Millisecond

// story is a run that went well in every respect, for a test to spoil in one.
//
//	0s baseline 3s fault 7s recovery 12s verify 13s; 200 requests a second of 5 ms; kill holds from 3s to 7s
type story struct {
	plan    plan.Plan
	meta    record.Meta
	events  []record.Event
	reqs    []record.Request
	ops     []record.Op
	polls   []record.LeaderPoll
	calls   []record.Call
	scrape  *fakeMetrics
	machine []record.Surroundings
	ready   []record.Readiness
	logs    []storyLine
	metrics record.Metrics
	noEnd   bool
}

// storyLine is a line of a node's log: a JSON object with fields, dated at; or text, as it is.
type storyLine struct {
	node   string
	at     time.Duration
	fields map[string]any
	text   string
}

func flag(b bool) *bool { return &b }
func status(n int) *int { return &n }

func bound(t testing.TB, s string) plan.Bound {
	t.Helper()
	b, err := plan.ParseBound(s)
	require.NoError(t, err)
	return b
}

func newStory() *story {
	s := &story{
		plan: plan.Plan{
			Version: plan.Version, Name: "story",
			Loads:     []plan.Load{{Name: "orders", To: "gateway", Requests: []plan.Request{{ID: "create"}, {ID: "read"}}}},
			Workloads: []plan.Workload{{Name: "regs", Kind: "registers"}},
			Rounds:    []plan.Round{{N: 1, Faults: []plan.Fault{{ID: "kill", Kind: "kill", Occurrences: []plan.Occurrence{{}}}}}},
		},
	}
	for i := 1; i <= 3; i++ {
		s.meta.Nodes = append(s.meta.Nodes, record.Node{Name: fmt.Sprint("store-", i), Service: fmt.Sprint("store-", i), Group: "store"})
	}
	ev := func(t time.Duration, kind record.EventKind, more func(*record.Event)) {
		e := record.Event{T: t, Kind: kind, Round: 1}
		if more != nil {
			more(&e)
		}
		s.events = append(s.events, e)
	}
	in := func(name string, from, to time.Duration) {
		ev(from, record.PhaseBegin, func(e *record.Event) { e.Phase = name })
		ev(to, record.PhaseEnd, func(e *record.Event) { e.Phase = name })
	}
	for _, n := range s.meta.Nodes {
		ev(1, record.NodeStarted, func(e *record.Event) { e.Node = n.Name })
	}
	in(plan.PhaseBaseline, 0, 3*time.Second)
	in(plan.PhaseFault, 3*time.Second, 7*time.Second)
	in(plan.PhaseRecovery, 7*time.Second, 12*time.Second)
	in(plan.PhaseVerify, 12*time.Second, 13*time.Second)
	kill := func(e *record.Event) { e.Fault, e.Occurrence, e.Targets = "kill", 1, []string{"store-1"} }
	ev(3*time.Second, record.FaultStarted, kill)
	ev(3*time.Second+10*ms, record.NodeExited, func(e *record.Event) { e.Node, e.Signal, e.Announced = "store-1", "SIGKILL", true })
	ev(3*time.Second+10*ms, record.FaultInEffect, kill)
	ev(7*time.Second, record.FaultUndone, kill)
	ev(7*time.Second, record.NodeStarted, func(e *record.Event) { e.Node = "store-1" })
	ev(7*time.Second+100*ms, record.FaultGone, kill)
	ev(13*time.Second, record.LoadSummary, func(e *record.Event) { e.ID, e.Data = "orders", json.RawMessage(`{"requests":2400}`) })
	ev(13*time.Second, record.WorkloadEnd, func(e *record.Event) { e.ID = "regs" })
	ev(14*time.Second, record.Audited, func(e *record.Event) { e.OK = flag(true) })
	for i := range 2400 {
		due := time.Duration(i) * 5 * ms
		q := record.Request{Seq: uint64(i), Round: 1, Request: "read", Due: due, Sent: due, Done: due + 5*ms, Code: 200, OK: true}
		if i%4 == 0 {
			q.Request = "create"
		}
		s.reqs = append(s.reqs, q)
	}
	// One client at a time: put, get, cas, insert; then verify reads.
	at := 100 * ms
	add := func(o record.Op) {
		o.Round, o.Call, o.Return = 1, at, at+ms
		if o.Outcome == "" {
			o.Outcome = record.OK
		}
		at += 100 * ms
		s.ops = append(s.ops, o)
	}
	for i := range 20 {
		v, next := fmt.Sprint("v", i), fmt.Sprint("n", i)
		add(record.Op{Kind: "put", Key: "r0", Value: v})
		add(record.Op{Kind: "get", Key: "r0", Value: v, Found: flag(true)})
		add(record.Op{Kind: "cas", Key: "r0", Old: v, Value: next})
		add(record.Op{Kind: "insert", Key: fmt.Sprint("w", i), Value: v})
	}
	for i := range 20 {
		for _, m := range []string{"store-1", "store-2", "store-3"} {
			add(record.Op{Kind: "read", Verify: true, Key: fmt.Sprint("w", i), Value: fmt.Sprint("v", i), Found: flag(true), Count: 1, Member: m})
		}
	}
	for t := time.Duration(0); t < 12*time.Second; t += 100 * ms {
		first := t < 3*time.Second
		for i := 1; i <= 3; i++ {
			p := record.LeaderPoll{T: t, Round: 1, Group: "store", Member: fmt.Sprint("store-", i), Term: 3, Leader: "store-2", Claims: i == 2}
			if first {
				p.Term, p.Leader, p.Claims = 2, "store-1", i == 1
			}
			s.polls = append(s.polls, p)
		}
	}
	return s
}

// ask adds an assertion.
func (s *story) ask(t testing.TB, kind string, params any) {
	t.Helper()
	b, err := json.Marshal(params)
	require.NoError(t, err)
	s.plan.Assert = append(s.plan.Assert, plan.Assert{ID: "it", Kind: kind, Params: b})
}

// drop removes the events that match.
func (s *story) drop(match func(record.Event) bool) { s.events = slices.DeleteFunc(s.events, match) }

// event adds an event of the round.
func (s *story) event(e record.Event) {
	if e.Round == 0 {
		e.Round = 1
	}
	s.events = append(s.events, e)
}

// each changes the requests that are due in a window.
func (s *story) each(from, to time.Duration, change func(*record.Request)) {
	for i := range s.reqs {
		if q := &s.reqs[i]; q.Due >= from && q.Due < to {
			change(q)
		}
	}
}

func broken(q *record.Request) { q.OK, q.Code, q.Error = false, 503, "503" }

func unmade(q *record.Request) {
	q.OK, q.Code, q.Outcome, q.Error = false, 0, record.Missed, "the message is no SimpleRequest"
}

// write writes the story down and reads it back.
func (s *story) write(t testing.TB) *record.Run {
	t.Helper()
	s.plan.Version = plan.Version
	w, err := record.Create(filepath.Join(t.TempDir(), "run"), s.meta, &s.plan)
	require.NoError(t, err)
	w.Event(record.Event{Kind: record.RunBegin})
	for _, e := range s.events {
		if e.T == 0 {
			e.T = 1
		}
		w.Event(e)
	}
	for _, q := range s.reqs {
		w.Request("orders", q)
	}
	for _, o := range s.ops {
		w.Op("regs", o)
	}
	for _, p := range s.polls {
		w.Leader(p)
	}
	for _, m := range s.machine {
		w.Surroundings(m)
	}
	for _, c := range s.ready {
		c.Round = 1
		w.Ready(c)
	}
	for _, c := range s.calls {
		c.Round = 1
		w.Call(c)
	}
	if !s.noEnd {
		w.Event(record.Event{Kind: record.RunEnd, T: 15 * time.Second})
	}
	require.NoError(t, w.Close())
	run, err := record.Open(w.Dir())
	require.NoError(t, err)
	if s.scrape != nil {
		s.scrape.start = run.Meta.Start
		run.Metrics = s.scrape
	}
	s.writeLogs(t, run)
	if s.metrics != nil {
		run.Metrics = s.metrics
	}
	return run
}

func (s *story) writeLogs(t testing.TB, run *record.Run) {
	files := map[string]*bytes.Buffer{}
	for _, l := range s.logs {
		if files[l.node] == nil {
			files[l.node] = &bytes.Buffer{}
		}
		if l.fields == nil {
			fmt.Fprintln(files[l.node], l.text)
			continue
		}
		fields := maps.Clone(l.fields)
		fields["time"] = run.Meta.Start.Add(l.at).Format(time.RFC3339Nano)
		require.NoError(t, json.NewEncoder(files[l.node]).Encode(fields))
	}
	for node, b := range files {
		file := filepath.Join(run.Dir, filepath.FromSlash(record.LogFile(node)))
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, b.Bytes(), 0o644))
	}
}

// judge returns the findings by id, and the verdict of the run.
func (s *story) judge(t testing.TB) (map[string]Finding, Verdict) {
	t.Helper()
	fs, v := Judge(context.Background(), s.write(t))
	m := map[string]Finding{}
	for _, f := range fs {
		require.NotContains(t, m, f.ID)
		require.NotEmpty(t, f.Summary, f.ID)
		if f.Verdict == Invalid {
			require.NotEmpty(t, f.Reason, f.ID)
		}
		m[f.ID] = f
	}
	return m, v
}

// want judges and compares the finding "it".
func (s *story) want(t *testing.T, v Verdict, says ...string) Finding {
	t.Helper()
	fs, _ := s.judge(t)
	f, ok := fs["it"]
	require.True(t, ok)
	require.Equal(t, v.String(), f.Verdict.String(), "%s / %s", f.Summary, f.Reason)
	for _, x := range says {
		require.Contains(t, f.Summary+" / "+f.Reason, x)
	}
	return f
}
