package record

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	vegeta "github.com/tsenart/vegeta/v12/lib"

	"github.com/hasvc/gauntlet/harness/plan"
)

func testPlan() *plan.Plan {
	return &plan.Plan{
		Version: plan.Version, Name: "t", Seed: 7, Rounds: []plan.Round{{N: 1}, {N: 2}},
		Loads: []plan.Load{{Name: "web"}}, Workloads: []plan.Workload{{Name: "regs"}},
	}
}

func create(t *testing.T) *Writer {
	t.Helper()
	w, err := Create(filepath.Join(t.TempDir(), "run"), Meta{Tool: "v0", Driver: "sandbox"}, testPlan())
	require.NoError(t, err)
	return w
}

func open(t *testing.T, w *Writer) *Run {
	t.Helper()
	require.NoError(t, w.Close())
	r, err := Open(w.Dir())
	require.NoError(t, err)
	return r
}

func yes() *bool { b := true; return &b }

func TestAPhaseThatWasCutOffIsOverAndHasNotEnded(t *testing.T) {
	w := create(t)
	w.SetRound(1)
	w.Event(Event{Kind: PhaseBegin, Phase: plan.PhaseFault, T: 5})
	w.Event(Event{Kind: PhaseEnd, Phase: plan.PhaseFault, T: 10, Error: "the user interrupts"})
	w.Event(Event{Kind: RoundEnd, T: 20})
	r := open(t, w).Rounds[0]
	from, to, ok := r.Phase(plan.PhaseFault)
	assert.Equal(t, []any{time.Duration(5), time.Duration(10), true}, []any{from, to, ok})
	assert.False(t, r.Ended(plan.PhaseFault))
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	w := create(t)
	w.Event(Event{Kind: RunBegin})
	w.SetRound(1)
	w.Event(Event{Kind: PhaseBegin, Phase: plan.PhaseBaseline, T: 5})
	w.Event(Event{Kind: FaultStarted, Fault: "kill", Occurrence: 1, T: 20, Targets: []string{"a"}})
	w.Event(Event{Kind: FaultStarted, Fault: "kill", Occurrence: 2, T: 30})
	w.Event(Event{Kind: PhaseEnd, Phase: plan.PhaseBaseline, T: 10}) // written late: the reader sorts
	q := Request{Seq: 3, Phase: "baseline", Request: "create", ID: "x\"é\\\n", Due: 7, Sent: 8, Done: 1e9, Code: 201, OK: true, Node: "a-1", Outcome: Answered, RetryAfter: true, GRPC: new(int), BytesIn: 5, BytesOut: 6}
	first := Request{Seq: 2, Phase: "baseline", Due: 6, Sent: 6, Done: 2e9, Error: "refused"}
	w.Request("web", q)
	w.Request("web", first)
	w.Request("web", Request{Seq: 9, Round: 2, Due: 1})
	op := Op{Client: 1, Kind: "put", Key: "k", Value: "v", Call: 4, Return: 5, Outcome: OK, Found: yes()}
	w.Op("regs", op)
	w.Leader(LeaderPoll{T: 9, Group: "store", Member: "s1", Claims: true, Term: 3})
	w.Leader(LeaderPoll{T: 9, Group: "other", Member: "s1"})
	w.Ready(Readiness{T: 3, Node: "a", Ready: true})
	status := 14
	later := Call{Begin: 8, End: 9, From: "gateway-1", To: "orders-1", Port: 9090, Conn: 2, Proto: "grpc", Method: "POST", Path: "/x.Y/Z", Status: 200, GRPCStatus: &status}
	w.Call(later)
	w.Call(Call{Begin: 7, From: "client", To: "gateway-1", Proto: "http/1.1", Path: "/orders"})
	w.Surroundings(Surroundings{T: 9, For: 4, Cores: 2, Busy: 3, Own: 2, Waited: 1})
	w.SetRound(2)
	w.Event(Event{Kind: PhaseBegin, Phase: plan.PhaseUp, T: 40})
	w.Event(Event{Kind: Warning, T: 50})
	w.Event(Event{Kind: RunEnd, T: 60})
	r := open(t, w)

	require.True(t, r.Complete)
	require.Zero(t, r.Torn)
	require.Empty(t, r.Lost())
	assert.Equal(t, "v0", r.Meta.Tool)
	assert.Equal(t, Version, r.Meta.Version)
	assert.WithinDuration(t, time.Now(), r.Meta.Start, time.Minute)
	assert.Equal(t, uint64(7), r.Plan.Seed)
	require.Len(t, r.Rounds, 2)
	assert.Zero(t, r.Events[0].T, "RunBegin is the zero of the clock")
	assert.Zero(t, r.Events[0].Round)
	assert.Zero(t, r.Events[len(r.Events)-1].Round)

	one := r.Rounds[0]
	from, to, ok := one.Phase(plan.PhaseBaseline)
	assert.Equal(t, []any{time.Duration(5), time.Duration(10), true}, []any{from, to, ok})
	assert.True(t, one.Ended(plan.PhaseBaseline))
	at, ok := one.Moment(plan.EventRef{Fault: "kill", Event: plan.Started})
	assert.Equal(t, []any{time.Duration(20), true}, []any{at, ok})
	_, ok = one.Moment(plan.EventRef{Fault: "kill", Event: plan.Gone})
	assert.False(t, ok)
	_, _, ok = one.Phase(plan.PhaseFault)
	assert.False(t, ok)
	from, to, ok = r.Rounds[1].Phase(plan.PhaseUp)
	assert.Equal(t, []any{time.Duration(40), time.Duration(50), true}, []any{from, to, ok}, "a phase that did not end ends with the last event")
	assert.False(t, r.Rounds[1].Ended(plan.PhaseUp))

	reqs, err := one.Requests("web")
	require.NoError(t, err)
	first.Round, q.Round = 1, 1
	assert.Equal(t, []Request{first, q}, reqs, "in the order of due times")
	assert.Equal(t, time.Second-7, reqs[1].Latency())
	reqs, err = r.Rounds[1].Requests("web")
	require.NoError(t, err)
	assert.Len(t, reqs, 1)
	reqs, err = one.Requests("nobody")
	require.NoError(t, err)
	assert.Empty(t, reqs)
	op.Round = 1
	ops, err := one.History("regs")
	require.NoError(t, err)
	assert.Equal(t, []Op{op}, ops)
	polls, err := one.Leaders("store")
	require.NoError(t, err)
	assert.Equal(t, []LeaderPoll{{T: 9, Round: 1, Group: "store", Member: "s1", Claims: true, Term: 3}}, polls)
	ready, err := one.Readiness()
	require.NoError(t, err)
	assert.Equal(t, []Readiness{{T: 3, Round: 1, Node: "a", Ready: true}}, ready)
	around, err := one.Surroundings()
	require.NoError(t, err)
	assert.Equal(t, []Surroundings{{T: 9, Round: 1, For: 4, Cores: 2, Busy: 3, Own: 2, Waited: 1}}, around)
	calls, err := one.Calls()
	require.NoError(t, err)
	later.Round = 1
	require.Len(t, calls, 2)
	assert.Equal(t, "client", calls[0].From, "in the order in which they began")
	assert.Equal(t, later, calls[1])
}

func TestTheLogIsVegetas(t *testing.T) {
	w := create(t)
	for i := range 3 {
		w.Request("web", Request{Seq: uint64(i), Due: 1, Sent: time.Duration(i) * time.Second, Done: time.Duration(i)*time.Second + 5*time.Millisecond, Code: 200, OK: true, Error: ""})
	}
	require.NoError(t, w.Close())
	f, err := os.Open(filepath.Join(w.Dir(), "requests", "web.bin"))
	require.NoError(t, err)
	defer f.Close()
	dec := vegeta.DecoderFor(f) // as vegeta's command opens it
	require.NotNil(t, dec)
	var m vegeta.Metrics
	for {
		var res vegeta.Result
		if err := dec.Decode(&res); err == io.EOF {
			break
		} else {
			require.NoError(t, err)
		}
		m.Add(&res)
	}
	m.Close()
	assert.EqualValues(t, 3, m.Requests)
	assert.Equal(t, 1.0, m.Success)
	assert.Equal(t, 5*time.Millisecond, m.Latencies.Max)
	assert.Equal(t, 2*time.Second, m.Duration)
	assert.Equal(t, map[string]int{"200": 3}, m.StatusCodes)
}

// A record is written as the run goes on: what a SIGKILL loses is what came in the last 100 ms.
func TestRowsAreOnDiskBeforeClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := create(t)
		w.SetRound(1)
		w.Event(Event{Kind: PhaseBegin, Phase: "up"})
		w.Request("web", Request{Seq: 1})
		w.Op("regs", Op{Kind: "put"})
		r, err := Open(w.Dir())
		require.NoError(t, err)
		require.Len(t, r.Events, 1, "events at once")
		time.Sleep(flushEvery)
		synctest.Wait()
		reqs, err := r.Rounds[0].Requests("web")
		require.NoError(t, err)
		assert.Len(t, reqs, 1)
		ops, err := r.Rounds[0].History("regs")
		require.NoError(t, err)
		assert.Len(t, ops, 1)
		assert.False(t, r.Complete)
		require.NoError(t, w.Close())
		require.NoError(t, w.Close(), "twice is once")
	})
}

func TestOffsetsCountFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := create(t)
		time.Sleep(3 * time.Second)
		assert.Equal(t, 3*time.Second, w.Now())
		assert.Equal(t, 5*time.Second, w.At(time.Now().Add(2*time.Second)))
		w.Event(Event{Kind: Warning})
		r := open(t, w)
		assert.Equal(t, 3*time.Second, r.Events[0].T)
	})
}

func TestManyWriters(t *testing.T) {
	w := create(t)
	var wg sync.WaitGroup
	const writers, each = 8, 2000
	for i := range writers {
		wg.Go(func() {
			for n := range each {
				w.Request("web", Request{Seq: uint64(i*each + n), Round: 1 + i%2, Due: time.Duration(n), Node: fmt.Sprint("n", i)})
				if n%100 == 0 {
					w.Op("regs", Op{Client: i, Round: 1})
					w.Event(Event{Kind: Warning, Round: 1})
				}
			}
		})
	}
	wg.Wait()
	w.Event(Event{Kind: RunEnd})
	r := open(t, w)
	require.True(t, r.Complete)
	require.Empty(t, r.Lost())
	seen := map[uint64]bool{}
	for _, round := range []*Round{{N: 1, run: r}, {N: 2, run: r}} {
		reqs, err := round.Requests("web")
		require.NoError(t, err)
		require.Len(t, reqs, writers*each/2)
		for i, q := range reqs {
			seen[q.Seq] = true
			require.Equal(t, fmt.Sprint("n", q.Seq/each), q.Node)
			require.True(t, i == 0 || reqs[i-1].Due <= q.Due)
		}
	}
	assert.Len(t, seen, writers*each)
	for i := range r.Events[1:] {
		assert.LessOrEqual(t, r.Events[i].T, r.Events[i+1].T)
	}
}

func TestADirectoryHoldsOneRecord(t *testing.T) {
	w := create(t)
	defer w.Close()
	_, err := Create(w.Dir(), Meta{}, testPlan())
	require.ErrorContains(t, err, "holds a record already")
	_, err = Create(t.TempDir(), Meta{}, nil)
	require.ErrorContains(t, err, "no plan")
}

func TestNamesStayInTheirDirectory(t *testing.T) {
	w := create(t)
	w.SetRound(1)
	w.Event(Event{Kind: Warning})
	w.Request("../../x/y", Request{Seq: 1})
	w.Op("../h", Op{Kind: "get"})
	r := open(t, w)
	reqs, err := r.Rounds[0].Requests("../../x/y")
	require.NoError(t, err)
	assert.Len(t, reqs, 1)
	files, err := filepath.Glob(filepath.Join(w.Dir(), "*", "*"))
	require.NoError(t, err)
	assert.Len(t, files, 3)
}

func TestOtherVersionsAreRefused(t *testing.T) {
	w := create(t)
	require.NoError(t, w.Close())
	for _, name := range []string{metaFile, planFile} {
		path := filepath.Join(w.Dir(), name)
		good, err := os.ReadFile(path)
		require.NoError(t, err)
		var m map[string]any
		require.NoError(t, json.Unmarshal(good, &m))
		m["version"] = 99
		b, err := json.Marshal(m)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, b, 0o644))
		_, err = Open(w.Dir())
		require.ErrorContains(t, err, "version 99")
		require.ErrorContains(t, err, "version 1")
		require.NoError(t, os.WriteFile(path, good, 0o644))
	}
	_, err := Open(t.TempDir())
	require.ErrorContains(t, err, "not a run directory")
}

func TestTornRowsAreCounted(t *testing.T) {
	build := func(t *testing.T) (*Writer, func(file string, drop int)) {
		w := create(t)
		w.SetRound(1)
		for i := range 5 {
			w.Request("web", Request{Seq: uint64(i), Due: time.Duration(i), ID: "id"})
			w.Op("regs", Op{Kind: "put", Key: "k"})
			w.Leader(LeaderPoll{Group: "g"})
		}
		w.Event(Event{Kind: Warning})
		w.Event(Event{Kind: RunEnd})
		require.NoError(t, w.Close())
		return w, func(file string, drop int) {
			path := filepath.Join(w.Dir(), file)
			st, err := os.Stat(path)
			require.NoError(t, err)
			require.NoError(t, os.Truncate(path, st.Size()-int64(drop)))
		}
	}
	for _, file := range []string{"requests/web.bin", "requests/web.jsonl"} {
		t.Run(file, func(t *testing.T) {
			w, cut := build(t)
			cut(file, 3)
			r, err := Open(w.Dir())
			require.NoError(t, err)
			reqs, err := r.Rounds[0].Requests("web")
			require.NoError(t, err)
			assert.Len(t, reqs, 4, "the torn one is dropped, the others stay")
			assert.Equal(t, 1, r.load("web").torn)
			assert.Equal(t, []string{"requests/web.bin has 4 of the 5 rows that were written"}, r.Lost())
		})
	}
	t.Run("history", func(t *testing.T) {
		w, cut := build(t)
		cut("histories/regs.jsonl", 3)
		r, err := Open(w.Dir())
		require.NoError(t, err)
		ops, err := r.Rounds[0].History("regs")
		require.NoError(t, err)
		assert.Len(t, ops, 4)
		assert.Len(t, r.Lost(), 1)
	})
	t.Run("polls", func(t *testing.T) {
		w, cut := build(t)
		cut("leaders.jsonl", 3)
		r, err := Open(w.Dir())
		require.NoError(t, err)
		assert.Len(t, r.Lost(), 1)
	})
	t.Run("events", func(t *testing.T) {
		w, cut := build(t)
		cut("events.jsonl", 3)
		r, err := Open(w.Dir())
		require.NoError(t, err)
		assert.False(t, r.Complete, "its end is torn")
		assert.Equal(t, 1, r.Torn)
		assert.Equal(t, []string{"events.jsonl has 1 torn rows"}, r.Lost())
	})
	t.Run("the sidecar is gone", func(t *testing.T) {
		w, _ := build(t)
		require.NoError(t, os.Remove(filepath.Join(w.Dir(), "requests/web.jsonl")))
		r, err := Open(w.Dir())
		require.NoError(t, err)
		_, err = r.Rounds[0].Requests("web")
		require.Error(t, err)
		require.Len(t, r.Lost(), 1)
	})
	t.Run("the log is gone", func(t *testing.T) {
		w, _ := build(t)
		require.NoError(t, os.Remove(filepath.Join(w.Dir(), "requests/web.bin")))
		r, err := Open(w.Dir())
		require.NoError(t, err)
		assert.Equal(t, []string{"requests/web.bin has 0 of the 5 rows that were written"}, r.Lost())
	})
}

// A disk that fills is reported at the end, never to the engine, and the record does not pass for complete.
// A log that stops being readable is an error, and no endless search for its end: a directory can be opened and not read.
func TestALogThatCannotBeReadIsAnError(t *testing.T) {
	dir := t.TempDir()
	bin, side := filepath.Join(dir, "x.bin"), filepath.Join(dir, "x.jsonl")
	require.NoError(t, os.WriteFile(bin, nil, 0o644))
	require.NoError(t, os.Mkdir(side, 0o755))
	_, _, err := readRequests(bin, side, time.Time{}, 0)
	require.ErrorIs(t, err, syscall.EISDIR)
}

func TestAFailedWriteIsKept(t *testing.T) {
	w := create(t)
	require.NoError(t, os.WriteFile(filepath.Join(w.Dir(), "requests"), nil, 0o644)) // in the way of the directory
	w.SetRound(1)
	w.Request("web", Request{Seq: 1})
	w.Event(Event{Kind: Warning})
	w.Event(Event{Kind: RunEnd})
	w.Request("web", Request{Seq: 2})
	require.ErrorContains(t, w.Close(), "writing the record")
	r, err := Open(w.Dir())
	require.NoError(t, err)
	assert.False(t, r.Complete)
	assert.Contains(t, r.Events[len(r.Events)-1].Error, "writing the record")
}

func TestWhatComesAfterCloseIsAnError(t *testing.T) {
	w := create(t)
	require.NoError(t, w.Close())
	w.Request("web", Request{})
	w.Event(Event{Kind: Warning})
	require.ErrorContains(t, w.Err(), "after the record was closed")
}

func TestAnEventWithBadDataKeepsItsRest(t *testing.T) {
	w := create(t)
	w.Event(Event{Kind: UserFinding, ID: "mine", Data: json.RawMessage("{nonsense")})
	require.Error(t, w.Close())
	r, err := Open(w.Dir())
	require.NoError(t, err)
	require.Len(t, r.Events, 1)
	assert.Equal(t, "mine", r.Events[0].ID)
}

func TestLongLines(t *testing.T) {
	w := create(t)
	w.SetRound(1)
	long := strings.Repeat("x", 3<<20)
	w.Event(Event{Kind: Warning, Error: long})
	w.Request("web", Request{ID: long})
	r := open(t, w)
	assert.Equal(t, long, r.Events[0].Error)
	reqs, err := r.Rounds[0].Requests("web")
	require.NoError(t, err)
	assert.Equal(t, long, reqs[0].ID)
}

// Records from before a field was there are read as they are.
func TestOldSidecarsAreRead(t *testing.T) {
	var r Request
	require.NoError(t, parseSide([]byte(`{"due":7,"round":1,"phase":"fault","ok":true}`), &r, interner{}))
	assert.Equal(t, Request{Due: 7, Round: 1, Phase: "fault", OK: true}, r)
}
