package assertions

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

func TestSLO(t *testing.T) {
	orders := Source{Load: "orders"}
	recovery := func(b Bounds) *SLO { return &SLO{Source: orders, During: "recovery", Bounds: b} } // 1000 requests
	for name, c := range map[string]struct {
		ask   *SLO
		spoil func(*story)
		want  Verdict
		says  string
	}{
		"success at the bound":        {recovery(Bounds{Success: bound(t, ">= 99.9%")}), func(s *story) { s.each(8*time.Second, 8*time.Second+5*ms, broken) }, Pass, "success 99.9 %, wanted >= 99.9% (1000 requests of orders in recovery)"},
		"success below":               {recovery(Bounds{Success: bound(t, ">= 99.9%")}), func(s *story) { s.each(8*time.Second, 8*time.Second+10*ms, broken) }, Fail, "success 99.8 %"},
		"all good":                    {recovery(Bounds{Success: bound(t, "= 100%")}), nil, Pass, "success 100 %"},
		"not all good":                {recovery(Bounds{Success: bound(t, "= 100%")}), func(s *story) { s.each(8*time.Second, 8*time.Second+5*ms, broken) }, Fail, "success 99.9 %"},
		"it should fail":              {recovery(Bounds{Success: bound(t, "< 10%")}), func(s *story) { s.each(7*time.Second, 12*time.Second, broken) }, Pass, "success 0 %"},
		"it should fail and does not": {recovery(Bounds{Success: bound(t, "< 10%")}), nil, Fail, "success 100 %"},
		"a broken neighbour phase":    {recovery(Bounds{Success: bound(t, "= 100%")}), func(s *story) { s.each(3*time.Second, 7*time.Second, broken) }, Pass, ""},
		"what the load could not make is not the service's": {recovery(Bounds{Success: bound(t, ">= 99%")}), func(s *story) {
			s.each(8*time.Second, 8100*ms, unmade)
		}, Invalid, "it would be FAIL, but the load orders could not make 20 requests: the message is no SimpleRequest"},
		"p95 at the bound": {recovery(Bounds{P95: bound(t, "<= 5ms")}), func(s *story) {
			s.each(8*time.Second, 8*time.Second+250*ms, func(q *record.Request) { q.Done += time.Second })
		}, Pass, "p95 5ms"},
		"p95 above": {recovery(Bounds{P95: bound(t, "<= 5ms")}), func(s *story) {
			s.each(8*time.Second, 8*time.Second+255*ms, func(q *record.Request) { q.Done += time.Second })
		}, Fail, "p95 1.005s"},
		"failed answers have latencies too": {recovery(Bounds{P99: bound(t, "<= 100ms")}), func(s *story) {
			s.each(8*time.Second, 9*time.Second, func(q *record.Request) { broken(q); q.Done = q.Due + time.Second })
		}, Fail, "p99 1s"},
		"latency counts from the due time": {recovery(Bounds{P50: bound(t, "<= 5ms")}), func(s *story) {
			s.each(7*time.Second, 12*time.Second, func(q *record.Request) { q.Sent += 40 * ms; q.Done = q.Sent + 6*ms })
		}, Fail, "p50 46ms"},
		"but what the generator was late is not the service's": {recovery(Bounds{P50: bound(t, "<= 5ms")}), func(s *story) {
			s.each(7*time.Second, 12*time.Second, func(q *record.Request) { q.Sent += 40 * ms; q.Done = q.Sent + ms })
		}, Invalid, "p50 41ms, wanted <= 5ms: the generator was late here, by up to 40ms; counted from when the requests were sent, p50 is 1ms"},
		"a late generator and a failure": {recovery(Bounds{P50: bound(t, "<= 5ms"), Success: bound(t, "= 100%")}), func(s *story) {
			s.each(7*time.Second, 12*time.Second, func(q *record.Request) { q.Sent += 40 * ms; q.Done = q.Sent + ms })
			s.each(8*time.Second, 8*time.Second+5*ms, broken)
		}, Fail, "success 99.9 %"},
		"too few for p99.9":                            {recovery(Bounds{P999: bound(t, "<= 1h")}), nil, Invalid, "p99.9 <= 1h needs 10000 samples and there are 1000"},
		"just enough for p99":                          {recovery(Bounds{P99: bound(t, "<= 5ms")}), nil, Pass, ""},
		"one too few for p99":                          {recovery(Bounds{P99: bound(t, "<= 5ms")}), func(s *story) { s.reqs = s.reqs[:2399] }, Invalid, "p99 <= 5ms needs 1000 samples and there are 999"},
		"what is decided fails though the rest is not": {recovery(Bounds{P999: bound(t, "<= 5ms"), Success: bound(t, "= 100%")}), func(s *story) { s.each(8*time.Second, 9*time.Second, broken) }, Fail, "needs 10000"},
		"no samples":                                   {&SLO{Source: orders, During: "recovery", Bounds: Bounds{Success: bound(t, "< 50%")}}, func(s *story) { s.reqs = s.reqs[:1400] }, Invalid, "needs 10 samples and there are 0"},
		"throughput":                                   {recovery(Bounds{Throughput: bound(t, ">= 200/s")}), nil, Pass, "throughput 200/s"},
		"throughput below":                             {recovery(Bounds{Throughput: bound(t, ">= 200/s")}), func(s *story) { s.each(8*time.Second, 8*time.Second+5*ms, broken) }, Fail, "throughput 199.8/s"},
		"one request": {&SLO{Source: Source{Load: "orders", Request: "create"}, During: "recovery", Bounds: Bounds{Success: bound(t, ">= 90%")}},
			func(s *story) {
				s.each(7*time.Second, 12*time.Second, func(q *record.Request) {
					if q.Request == "read" {
						broken(q)
					}
				})
			}, Pass, "250 requests of orders (create)"},
		"while the fault holds": {&SLO{Source: orders, During: "kill", Bounds: Bounds{Success: bound(t, "= 100%")}},
			func(s *story) {
				s.each(0, 3*time.Second-1, func(q *record.Request) {})
				s.each(7*time.Second, 12*time.Second, broken)
			}, Pass, "800 requests of orders in kill"},
		"while the fault holds, fails": {&SLO{Source: orders, During: "kill", Bounds: Bounds{Success: bound(t, "= 100%")}}, func(s *story) { s.each(7*time.Second-5*ms, 7*time.Second, broken) }, Fail, "success 99.875 %"},
		"a fault that never began":     {&SLO{Source: orders, During: "cut", Bounds: Bounds{Success: bound(t, "= 100%")}}, nil, Invalid, "cut never began"},
		"all the time":                 {&SLO{Source: orders, Bounds: Bounds{Success: bound(t, ">= 90%")}}, nil, Pass, "2399 requests of orders in all phases under load"},
		"relative": {recovery(Bounds{P95: bound(t, "<= 3x baseline")}), func(s *story) {
			s.each(7*time.Second, 12*time.Second, func(q *record.Request) { q.Done = q.Due + 15*ms })
		}, Pass, "p95 15ms, 3.00x the baseline's 5ms, wanted <= 3x baseline"},
		"relative, fails": {recovery(Bounds{P95: bound(t, "<= 3x baseline")}), func(s *story) {
			s.each(7*time.Second, 12*time.Second, func(q *record.Request) { q.Done = q.Due + 15*ms + time.Microsecond })
		}, Fail, "p95 15.001ms"},
		"only one is relative":                  {recovery(Bounds{P95: bound(t, "<= 3x baseline"), P99: bound(t, "<= 5ms")}), nil, Pass, "p99 5ms, wanted <= 5ms"},
		"relative to a baseline that never was": {recovery(Bounds{P95: bound(t, "<= 3x baseline")}), func(s *story) { s.drop(func(e record.Event) bool { return e.Phase == plan.PhaseBaseline }) }, Invalid, "the round did not reach the phase baseline"},
		"relative to too few":                   {recovery(Bounds{P99: bound(t, "<= 3x baseline")}), nil, Invalid, "in the baseline p99 <= 3x baseline needs 1000 samples and there are 579"},
		"relative to nothing":                   {&SLO{Source: orders, During: "recovery", Bounds: Bounds{P50: bound(t, "<= 3x baseline")}}, func(s *story) { s.each(0, 3*time.Second, func(q *record.Request) { q.Done = q.Due }) }, Invalid, "p50 is 0 there"},
		"operations":                            {&SLO{Source: Source{Workload: "regs"}, Bounds: Bounds{Success: bound(t, "= 100%")}}, func(s *story) { s.more(100) }, Pass, "operations of regs"},
		"operations that fail": {&SLO{Source: Source{Workload: "regs", Request: "put"}, Bounds: Bounds{Success: bound(t, "= 100%")}}, func(s *story) {
			s.more(100)
			s.ops[len(s.ops)-1].Outcome = record.Unknown
		}, Fail, "operations of regs (put)"},
		"a compare that found another value is an answer": {&SLO{Source: Source{Workload: "regs"}, Bounds: Bounds{Success: bound(t, "= 100%")}}, func(s *story) {
			s.more(100)
			s.ops[len(s.ops)-1].Outcome, s.ops[len(s.ops)-1].Kind = record.Failed, "cas"
		}, Pass, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory()
			s.ask(t, "slo", c.ask)
			if c.spoil != nil {
				c.spoil(s)
			}
			f := s.want(t, c.want, c.says)
			for _, e := range f.Evidence {
				assert.NotNil(t, e.Window)
			}
		})
	}
}

// more adds puts under load, spread over its phases.
func (s *story) more(n int) {
	for i := range n {
		at := time.Duration(i) * 12 * time.Second / time.Duration(n)
		s.ops = append(s.ops, record.Op{Round: 1, Kind: "put", Key: "x", Value: "y", Call: at, Return: at + ms, Outcome: record.OK})
	}
}

func TestTheEvidenceOfAnSLO(t *testing.T) {
	s := newStory()
	s.ask(t, "slo", &SLO{Source: Source{Load: "orders"}, During: "kill", Bounds: Bounds{P95: bound(t, "<= 3x baseline"), Success: bound(t, ">= 50%")}})
	f := s.want(t, Pass)
	require.Len(t, f.Evidence, 2)
	assert.Equal(t, Evidence{What: "requests of orders due in baseline", File: "requests/orders.bin", Window: &Window{1, 2900 * ms}, Values: map[string]float64{"p95": 0.005}}, f.Evidence[0])
	assert.Equal(t, Evidence{What: "requests of orders due in kill", File: "requests/orders.bin", Window: &Window{3 * time.Second, 7 * time.Second}, Count: 800,
		Values: map[string]float64{"p95": 0.005, "success": 1, "good": 800, "seconds": 4}}, f.Evidence[1])
}

func TestTheWindowsOfAFault(t *testing.T) {
	s := newStory()
	at := func(t time.Duration, kind record.EventKind, n int) {
		s.event(record.Event{T: t, Kind: kind, Fault: "loop", Occurrence: n})
	}
	at(4*time.Second, record.FaultStarted, 1)
	at(5*time.Second, record.FaultUndone, 1)
	at(5500*ms, record.FaultGone, 1)
	at(6*time.Second, record.FaultStarted, 2)
	at(8*time.Second, record.FaultGone, 2) // nothing to undo
	at(7*time.Second, record.FaultStarted, 3)
	at(9*time.Second, record.FaultUndone, 3)
	at(11*time.Second, record.FaultStarted, 4) // held
	r := s.write(t).Rounds[0]
	ws, err := during("loop", r)
	require.NoError(t, err)
	assert.Equal(t, []Window{{4 * time.Second, 5 * time.Second}, {6 * time.Second, 9 * time.Second}, {11 * time.Second, 12 * time.Second}}, ws)
	assert.Equal(t, 5*time.Second, length(ws))
	ws, err = during("fault", r)
	require.NoError(t, err)
	assert.Equal(t, []Window{{3 * time.Second, 7 * time.Second}}, ws)

	// What never began has no window and ends none, and what began after the load takes nothing from the rest.
	at(4200*ms, record.FaultGone, 5)
	at(4300*ms, record.FaultUnproved, 6)
	at(12500*ms, record.FaultStarted, 7)
	ws, err = during("loop", s.write(t).Rounds[0])
	require.NoError(t, err)
	assert.Equal(t, 5*time.Second, length(ws))
	assert.Equal(t, Window{4 * time.Second, 5 * time.Second}, ws[0])
	assert.Equal(t, Window{12500 * ms, 12500 * ms}, ws[3])

	assert.Equal(t, []Window{{1, 3}, {4, 5}}, union([]Window{{4, 5}, {2, 3}, {1, 2}}), "windows that touch are one")
}

// A window needs the phases that it is of.
func TestWindowsOfARoundThatDidNotGetThere(t *testing.T) {
	for missing, words := range map[string]map[string]string{
		plan.PhaseRecovery: {"": "did not get through its phases under load", "kill": "did not get through its phases under load", "recovery": "did not reach the phase recovery"},
		plan.PhaseBaseline: {"": "did not get through its phases under load", "kill": "did not get through its phases under load", "baseline": "did not reach the phase baseline"},
	} {
		s := newStory()
		s.drop(func(e record.Event) bool { return e.Phase == missing })
		r := s.write(t).Rounds[0]
		for word, says := range words {
			_, err := during(word, r)
			require.ErrorContains(t, err, says, "%s without %s", word, missing)
			for _, a := range []Params{
				&SLO{Source: Source{Load: "orders"}, During: word, Bounds: Bounds{Success: bound(t, ">= 1%")}},
				&ZeroDrop{Load: "orders", During: word}, &Logs{Load: "orders", Hops: []string{"edge"}, During: word},
				&Shed{Load: "orders", During: word, Goodput: bound(t, ">= 1/s")},
			} {
				f := a.Judge(t.Context(), &s.plan, r)
				require.Equal(t, Invalid, f.Verdict)
				require.Contains(t, f.Reason, "the round did not ", "%T in %q without %s", a, word, missing)
			}
		}
	}
	// A fault that was there before leaves nothing of the baseline.
	s := newStory()
	s.events = slices.Insert(s.events, 0, record.Event{T: 1, Round: 1, Kind: record.FaultStarted, Fault: "early"})
	w, err := phase(s.write(t).Rounds[0], plan.PhaseBaseline)
	require.NoError(t, err)
	require.Equal(t, Window{1, 1}, w)
}

// What a judgement rests on and cannot be read makes it INVALID by itself, whatever the premise "record" says.
func TestWhatCannotBeRead(t *testing.T) {
	gone := func(dir, file string) error { return os.Remove(filepath.Join(dir, file)) }
	put := func(dir, file string) error { // a directory in its place
		path := filepath.Join(dir, file)
		return errors.Join(os.RemoveAll(path), os.MkdirAll(path, 0o755))
	}
	text := func(dir, file string) error { // no directory in its place
		path := filepath.Join(dir, file)
		return errors.Join(os.RemoveAll(path), os.WriteFile(path, nil, 0o644))
	}
	success := Bounds{Success: bound(t, ">= 1%")}
	zeroDrop, logs := &ZeroDrop{Load: "orders", During: "kill"}, &Logs{Load: "orders", Hops: []string{"edge"}, During: "kill"}
	for _, c := range []struct {
		ask   Params
		spoil func(dir, file string) error
		file  string
		says  string
	}{
		{&SLO{Source: Source{Load: "orders"}, During: "kill", Bounds: success}, gone, "requests/orders.jsonl", "reading the request log"},
		{&SLO{Source: Source{Workload: "regs"}, Bounds: success}, put, "histories/regs.jsonl", "is a directory"},
		{&Shed{Load: "orders", During: "kill", Goodput: bound(t, ">= 1/s")}, gone, "requests/orders.jsonl", "reading the request log"},
		{zeroDrop, gone, "requests/orders.jsonl", "reading the request log"},
		{zeroDrop, put, "logs/edge-2.log", "reading the log of edge-2"},
		{zeroDrop, text, "logs", "reading the logs"},
		{logs, gone, "requests/orders.jsonl", "reading the request log"},
		{logs, put, "logs/edge-2.log", "reading the log of edge-2"},
		{logs, text, "logs", "reading the logs"},
	} {
		s := newServed()
		run := s.write(t)
		require.NoError(t, c.spoil(run.Dir, c.file))
		f := c.ask.Judge(t.Context(), &s.plan, run.Rounds[0])
		require.Equal(t, Invalid, f.Verdict, "%T without %s", c.ask, c.file)
		require.Contains(t, f.Reason, c.says, "%T without %s", c.ask, c.file)
	}
	// Nor is what there was no time to read taken for what there is.
	s := newServed()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, a := range []Params{zeroDrop, logs} {
		f := a.Judge(ctx, &s.plan, s.write(t).Rounds[0])
		require.Equal(t, Invalid, f.Verdict)
		require.Equal(t, "context canceled", f.Reason)
	}
}

// The answers to a workload are those of the operations called in the window, without what verify read.
func TestTheSamplesOfAWorkload(t *testing.T) {
	s := newStory()
	s.ops = nil
	for i, o := range []record.Op{
		{Kind: "put", Call: 3*time.Second - 1, Outcome: record.OK},
		{Kind: "put", Call: 3 * time.Second, Outcome: record.OK},
		{Kind: "get", Call: 4 * time.Second, Outcome: record.Unknown},
		{Kind: "put", Call: 4100 * ms, Outcome: record.Failed},
		{Kind: "cas", Call: 4200 * ms, Outcome: record.OK},
		{Kind: "cas", Call: 4300 * ms, Outcome: record.Failed},
		{Kind: "cas", Call: 4400 * ms, Outcome: record.Failed, Error: "no leader"},
		{Kind: "cas", Call: 4500 * ms, Outcome: record.Unknown},
		{Kind: "read", Call: 5 * time.Second, Outcome: record.OK, Verify: true},
		{Kind: "insert", Call: 7*time.Second - 1, Outcome: record.OK},
		{Kind: "put", Call: 7 * time.Second, Outcome: record.OK},
	} {
		o.Round, o.Return = 1, o.Call+time.Duration(i)*ms
		s.ops = append(s.ops, o)
	}
	r := s.write(t).Rounds[0]
	w := Window{3 * time.Second, 7 * time.Second}
	cas := []sample{{4200 * ms, 4 * ms, true, 0}, {4300 * ms, 5 * ms, true, 0}, {4400 * ms, 6 * ms, false, 0}, {4500 * ms, 7 * ms, false, 0}}
	got, err := Source{Workload: "regs"}.samples(r, w)
	require.NoError(t, err)
	want := append([]sample{{3 * time.Second, 1 * ms, true, 0}, {4 * time.Second, 2 * ms, false, 0}, {4100 * ms, 3 * ms, false, 0}}, cas...)
	assert.Equal(t, append(want, sample{7*time.Second - 1, 9 * ms, true, 0}), got)
	got, err = Source{Workload: "regs", Request: "cas"}.samples(r, w)
	require.NoError(t, err)
	assert.Equal(t, cas, got)
}

// Of many occurrences the first ones are shown; all of them are judged.
func TestTheEvidenceOfManyOccurrences(t *testing.T) {
	s := newStory()
	s.ask(t, "slo", &SLO{Source: Source{Load: "orders"}, During: "kill", Bounds: Bounds{Success: bound(t, "= 100%")}})
	s.plan.Rounds[0].Faults[0].Occurrences = make([]plan.Occurrence, 12)
	for n := 2; n <= 12; n++ {
		at := 7*time.Second + time.Duration(n)*200*ms
		for i, k := range []record.EventKind{record.FaultStarted, record.FaultInEffect, record.FaultUndone, record.FaultGone} {
			s.event(record.Event{T: at + time.Duration(i/2)*100*ms, Kind: k, Fault: "kill", Occurrence: n})
		}
	}
	f := s.want(t, Pass, "1020 requests of orders in kill")
	require.Len(t, f.Evidence, maxDetails)
	assert.Equal(t, "requests of orders due in kill, occurrence 10 of 12; count and values are of all", f.Evidence[9].What)
	s.each(9400*ms, 9405*ms, broken) // in the last
	s.want(t, Fail)
}

func TestEveryOccurrenceOfAFaultCounts(t *testing.T) {
	s := newStory()
	s.ask(t, "slo", &SLO{Source: Source{Load: "orders"}, During: "kill", Bounds: Bounds{Success: bound(t, "= 100%")}})
	s.plan.Rounds[0].Faults[0].Occurrences = make([]plan.Occurrence, 2)
	for _, k := range []record.EventKind{record.FaultStarted, record.FaultInEffect} {
		s.event(record.Event{T: 9 * time.Second, Kind: k, Fault: "kill", Occurrence: 2})
	}
	for _, k := range []record.EventKind{record.FaultUndone, record.FaultGone} {
		s.event(record.Event{T: 10 * time.Second, Kind: k, Fault: "kill", Occurrence: 2})
	}
	f := s.want(t, Pass, "1000 requests of orders in kill")
	require.Len(t, f.Evidence, 2)
	assert.Equal(t, &Window{9 * time.Second, 10 * time.Second}, f.Evidence[1].Window)
	s.each(8*time.Second, 9*time.Second, broken)
	s.want(t, Pass)
	s.each(9*time.Second, 9*time.Second+5*ms, broken)
	s.want(t, Fail)
	s.each(9*time.Second, 9*time.Second+5*ms, func(q *record.Request) { q.OK = true })
	s.each(3*time.Second, 3*time.Second+5*ms, broken)
	s.want(t, Fail)
}

func TestNeed(t *testing.T) {
	for b, want := range map[string]int{">= 0%": 10, ">= 60%": 10, ">= 90%": 10, ">= 95%": 20, ">= 98%": 50, ">= 99%": 100, ">= 99.9%": 100, "= 100%": 100, ">= 3x baseline": 10} {
		assert.Equal(t, want, figure{name: "success", bound: bound(t, b)}.need(), b)
	}
	for p, want := range map[int]int{500: 20, 900: 100, 950: 200, 990: 1000, 999: 10000} {
		assert.Equal(t, want, figure{permille: p}.need(), p)
	}
	assert.Equal(t, 10, figure{name: "throughput", bound: bound(t, ">= 5/s")}.need())
}

// Each figure is its own, not its neighbour.
func TestFiguresOfManySamples(t *testing.T) {
	ss := make([]sample, 10000)
	for i := range ss {
		ss[i] = sample{latency: time.Duration(len(ss)-i) * time.Microsecond, ok: i%4 > 0}
	}
	sum := summarise(ss, 10*time.Second)
	b := bound(t, "<= 1h")
	got := map[string]float64{}
	for _, f := range (Bounds{Success: b, P50: b, P90: b, P95: b, P99: b, P999: b, Throughput: b}).figures() {
		v, err := sum.figure(f)
		require.NoError(t, err)
		got[f.name] = v
	}
	require.Equal(t, map[string]float64{"success": 0.75, "p50": 0.005, "p90": 0.009, "p95": 0.0095, "p99": 0.0099, "p99.9": 0.00999, "throughput": 750}, got)
}

// The rank is never less than its share of the samples, and of no samples none is enough.
func TestRank(t *testing.T) {
	for _, c := range []struct{ permille, n, want int }{
		{500, 0, 1}, {500, 1, 1}, {500, 2, 1}, {500, 3, 2}, {900, 10, 9}, {900, 11, 10}, {999, 1, 1}, {999, 999, 999}, {999, 1000, 999}, {999, 1001, 1000},
	} {
		require.Equal(t, c.want, rank(c.permille, c.n), "%v", c)
	}
}

// The quantile is the smallest value that at least its share of the values do not exceed.
func TestQuantileIsNearestRank(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOfN(rapid.Int64Range(0, 20), 1, 60).Draw(t, "values")
		permille := rapid.SampledFrom([]int{500, 900, 950, 990, 999}).Draw(t, "q")
		var vs []time.Duration
		for _, v := range raw {
			vs = append(vs, time.Duration(v))
		}
		slices.Sort(vs)
		naive := time.Duration(-1)
		for _, v := range vs {
			atMost := 0
			for _, w := range vs {
				if w <= v {
					atMost++
				}
			}
			if atMost*1000 >= permille*len(vs) {
				naive = v
				break
			}
		}
		if got := vs[rank(permille, len(vs))-1]; got != naive {
			t.Fatalf("q%d of %v is %v, not %v", permille, vs, naive, got)
		}
	})
}

func TestSharesAreShownRoundedDown(t *testing.T) {
	assert.Equal(t, "100 %", percent(1))
	assert.Equal(t, "99.999 %", percent(0.9999999))
	assert.Equal(t, "99.9 %", percent(0.999))
	assert.Equal(t, "71.3 %", percent(0.713))
	assert.Equal(t, "0 %", percent(0))
	assert.Equal(t, "29 %", percent(0.29))
}

func TestValidateSLOAndRecovers(t *testing.T) {
	scope := Scope{Plan: &newStory().plan, Services: []string{"gateway"}, Groups: []string{"store", "other"}, Leaders: []string{"store"}}
	good := Bounds{Success: bound(t, ">= 99%")}
	orders := Source{Load: "orders"}
	for _, c := range []struct {
		p    Params
		says []string
	}{
		{&SLO{Source: orders, Bounds: good}, nil},
		{&SLO{Source: Source{Load: "orders", Request: "create"}, During: "kill", Bounds: good}, nil},
		{&SLO{Source: Source{Workload: "regs", Request: "put"}, During: "fault", Bounds: Bounds{P999: bound(t, "<= 3x baseline"), Throughput: bound(t, ">= 1/s")}}, nil},
		{&SLO{}, []string{"load or workload is missing", "no bound is given"}},
		{&SLO{Source: Source{Load: "orders", Workload: "regs"}, Bounds: good}, []string{"exclude each other"}},
		{&SLO{Source: Source{Load: "ordres"}, Bounds: good}, []string{`no load is called "ordres"; there is orders`}},
		{&SLO{Source: Source{Workload: "x", Request: "y"}, Bounds: good}, []string{`no workload is called "x"`, `no operation is called "y"`}},
		{&SLO{Source: Source{Load: "orders", Request: "creat"}, Bounds: good}, []string{`"creat"; there is create, read`}},
		{&SLO{Source: orders, During: "kil", Bounds: good}, []string{`no phase or fault is called "kil"; there is baseline, fault, recovery, kill`}},
		{&SLO{Source: orders, During: "baseline", Bounds: good}, nil},
		{&SLO{Source: orders, During: "baseline", Bounds: Bounds{P50: bound(t, "<= 2x baseline")}}, []string{"means nothing in the baseline"}},
		{&SLO{Source: orders, Bounds: Bounds{Success: bound(t, ">= 5ms")}}, []string{`success ">= 5ms": write it as ">= 99.9%"`}},
		{&SLO{Source: orders, Bounds: Bounds{P50: bound(t, "<= 5%"), Throughput: bound(t, ">= 5"), P90: bound(t, "= 5ms")}}, []string{"p50", "throughput", "no latency is exactly that"}},
		{&Recovers{Source: orders, After: "kill.in-effect", Within: plan.Duration(time.Second), Bounds: good}, nil},
		{&Recovers{Source: orders, Bounds: good}, []string{"after is missing", "within is missing"}},
		{&Recovers{Source: orders, After: "kill", Within: 1, Window: -1, Bounds: good}, []string{`after "kill": write it as`, "window is negative"}},
		{&Recovers{Source: orders, After: "cut.gone", Within: 1, Bounds: good}, []string{`no fault is called "cut"; there is kill`}},
		{&NoLostWrites{}, []string{"workload is missing"}},
		{&NoLostWrites{Workload: "regs"}, nil},
		{&NoDuplicates{Workload: "x"}, []string{`no workload is called "x"; there is regs`}},
		{&Linearizable{Workload: "x"}, []string{`no workload is called "x"`}},
		{&MembersAgree{}, []string{"workload is missing", "group is missing"}},
		{&MembersAgree{Workload: "regs", Group: "x"}, []string{`no group is called "x"; there is store, other`}},
		{&MembersAgree{Workload: "regs", Group: "store"}, nil},
		{&UniqueLeader{}, []string{"group is missing"}},
		{&UniqueLeader{Group: "store"}, nil},
		{&UniqueLeader{Group: "other"}, []string{"group other has no leader"}},
		{&UniqueLeader{Group: "x"}, []string{`no group with a leader is called "x"; there is store`}},
		{&Exits{Allow: []string{"gateway", "gateway-12"}}, nil},
		{&Exits{Allow: []string{"gateway-", "gatewayx", "gateway-x"}}, []string{`"gateway-"`, `"gatewayx"`, `"gateway-x"`}},
		{&Exec{}, []string{"exec is missing"}},
		{&Exec{Exec: []string{"check"}}, nil},
	} {
		err := c.p.Validate(scope)
		if c.says == nil {
			assert.NoError(t, err, "%#v", c.p)
			continue
		}
		for _, s := range c.says {
			assert.ErrorContains(t, err, s, "%#v", c.p)
		}
	}
}

// What was in hand when the fault began says nothing about the baseline, unless it was slow before.
func TestTheBaselineEndsBeforeTheFault(t *testing.T) {
	for from, want := range map[time.Duration]Verdict{2900 * ms: Pass, 2895 * ms: Fail} {
		s := newStory()
		s.ask(t, "slo", &SLO{Source: Source{Load: "orders"}, During: "baseline", Bounds: Bounds{Success: bound(t, "= 100%")}})
		s.each(from, 3*time.Second, broken)
		s.want(t, want)
	}
	s := newStory()
	s.ask(t, "slo", &SLO{Source: Source{Load: "orders"}, During: "baseline", Bounds: Bounds{Success: bound(t, "= 100%")}})
	s.plan.Rounds[0].Faults = nil
	s.drop(func(e record.Event) bool { return e.Fault != "" })
	s.each(2995*ms, 3*time.Second, broken)
	s.want(t, Fail, "success 99.")
}
