package workload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/replicas/replicastest"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// memory is a Recorder that keeps everything.
type memory struct {
	dir   string
	start time.Time
	mu    sync.Mutex
	ops   []record.Op
	evs   []record.Event
}

func newMemory(t *testing.T) *memory { return &memory{dir: t.TempDir(), start: time.Now()} }

func (m *memory) Dir() string                  { return m.dir }
func (m *memory) At(t time.Time) time.Duration { return t.Sub(m.start) }
func (m *memory) Op(_ string, o record.Op) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ops = append(m.ops, o)
}
func (m *memory) Event(e record.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.evs = append(m.evs, e)
}

func (m *memory) all() []record.Op {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]record.Op(nil), m.ops...)
}

// service is a linearizable service of registers, and what may be wrong with it. Its handlers never sleep under its lock.
type service struct {
	mu       sync.Mutex
	revision int64
	regs     map[string]register

	drop    func(key string) bool // acknowledges, and forgets
	stale   bool                  // reads of the second replica see the first value of a key only
	first   map[string]register
	latency time.Duration
	fail    func(node, key string) int // answers with this status instead, when not 0
	puts    map[string]int
}

func newService() *service {
	return &service{regs: map[string]register{}, first: map[string]register{}, puts: map[string]int{}}
}

func (s *service) handler(node string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(s.latency)
		key := strings.TrimPrefix(r.URL.Path, "/registers/")
		if s.fail != nil {
			if code := s.fail(node, key); code != 0 {
				w.WriteHeader(code)
				return
			}
		}
		var code int
		var reg register
		if r.Method == http.MethodGet {
			code, reg = s.get(node, key)
		} else {
			code, reg = s.put(key, r)
		}
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(map[string]any{"key": key, "value": reg.Value, "revision": reg.Revision})
		time.Sleep(s.latency)
	})
}

func (s *service) get(node, key string) (int, register) {
	s.mu.Lock()
	defer s.mu.Unlock()
	reg, ok := s.regs[key]
	if s.stale && strings.HasSuffix(node, "2") {
		reg, ok = s.first[key]
	}
	if !ok {
		return http.StatusNotFound, register{}
	}
	return http.StatusOK, reg
}

func (s *service) put(key string, r *http.Request) (int, register) {
	var req struct {
		Value  string `json:"value"`
		Expect *int64 `json:"expectRevision"`
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&req); err != nil || r.Header.Get("Content-Type") != "application/json" {
		return http.StatusBadRequest, register{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.puts[key]++
	if req.Expect != nil && *req.Expect != s.regs[key].Revision {
		return http.StatusConflict, register{}
	}
	s.revision++
	reg := register{req.Value, s.revision}
	if s.drop == nil || !s.drop(key) {
		s.regs[key] = reg
		if _, ok := s.first[key]; !ok {
			s.first[key] = reg
		}
	}
	return http.StatusOK, reg
}

// topology is a replicastest.Topology that can run programs.
type topology struct {
	*replicastest.Topology
	exec func(ctx context.Context, node string, p cluster.Process) (cluster.Execution, error)
}

func (t topology) Exec(ctx context.Context, node string, p cluster.Process) (cluster.Execution, error) {
	return t.exec(ctx, node, p)
}

func env(t *testing.T, top *replicastest.Topology) (Env, *memory) {
	m := newMemory(t)
	return Env{Cluster: topology{Topology: top}, Record: m, Round: 3, RunID: "run7", Ready: top.Ready}, m
}

func registersPlan() plan.Workload {
	return plan.Workload{Name: "regs", Kind: KindRegisters, To: "api", Clients: 4, Keys: 5, Rate: 500, Timeout: plan.Duration(time.Second), Seed: 1}
}

// work runs a workload for d of (fake) time, verifies and closes it.
func work(t *testing.T, w plan.Workload, e Env, d time.Duration, during func()) {
	t.Helper()
	x, err := New(w, e)
	require.NoError(t, err)
	require.NoError(t, x.Prepare(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var side sync.WaitGroup
	if during != nil {
		side.Go(during)
	}
	require.NoError(t, x.Run(ctx))
	side.Wait()
	require.NoError(t, x.Verify(t.Context()))
	require.NoError(t, x.Close())
}

// linearizable checks the history of each register key by porcupine.
func linearizable(t *testing.T, ops []record.Op) bool {
	t.Helper()
	type input struct{ kind, value, old string }
	type output struct {
		value   string
		found   bool
		unknown bool
	}
	model := porcupine.Model{
		Init: func() any { return "" },
		Step: func(state, in, out any) (bool, any) {
			i, o := in.(input), out.(output)
			switch i.kind {
			case "put":
				return true, i.value
			case "cas":
				if state == i.old {
					return true, i.value
				}
				return o.unknown, state
			}
			return o.value == state && o.found == (state != ""), state
		},
	}
	keys := map[string][]porcupine.Operation{}
	for _, o := range ops {
		if o.Outcome == record.Failed || o.Kind == "insert" || o.Verify {
			continue
		}
		p := porcupine.Operation{ClientId: o.Client, Call: int64(o.Call), Return: int64(o.Return), Input: input{o.Kind, o.Value, o.Old}, Output: output{o.Value, o.Found != nil && *o.Found, false}}
		if o.Outcome == record.Unknown {
			p.Return, p.Output = 1<<62, output{unknown: true}
		}
		keys[o.Key] = append(keys[o.Key], p)
	}
	require.NotEmpty(t, keys)
	ok := true
	for _, h := range keys {
		ok = porcupine.CheckOperations(model, h) && ok
	}
	return ok
}

// lost are acknowledged inserts that a replica did not have.
func lost(ops []record.Op) (lost, read int) {
	acked := map[string]string{}
	for _, o := range ops {
		if o.Kind == "insert" && o.Outcome == record.OK {
			acked[o.Key] = o.Value
		}
	}
	for _, o := range ops {
		v, ok := acked[o.Key]
		if !o.Verify || !ok || o.Outcome != record.OK {
			continue
		}
		if read++; !*o.Found || o.Value != v {
			lost++
		}
	}
	return lost, read
}

func TestRegistersOfAServiceThatIsRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := replicastest.New(t)
		s := newService()
		s.latency = time.Millisecond
		top.Service("api", 2, s.handler)
		e, m := env(t, top)
		work(t, registersPlan(), e, 4*time.Second, nil)

		kinds, values, members := map[string]int{}, map[string]bool{}, map[string]int{}
		for _, o := range m.all() {
			require.Equal(t, 3, o.Round)
			require.GreaterOrEqual(t, o.Return, o.Call)
			if o.Verify {
				require.Equal(t, "read", o.Kind)
				require.Equal(t, record.OK, o.Outcome)
				members[o.Member]++
				continue
			}
			kinds[o.Kind]++
			if o.Kind != "cas" {
				require.Equal(t, record.OK, o.Outcome, "%+v", o)
			}
			if o.Kind == "cas" {
				require.NotEmpty(t, o.Old)
				require.NotEqual(t, record.Unknown, o.Outcome)
			}
			if o.Kind != "get" {
				require.False(t, values[o.Value], "the value %s was written twice", o.Value)
				values[o.Value] = true
			}
		}
		total := 0
		for _, k := range []string{"put", "get", "cas", "insert"} {
			assert.Greater(t, kinds[k], 100, k)
			total += kinds[k]
		}
		assert.InDelta(t, 2000, total, 30, "the rate is that of all clients together")
		inserts := kinds["insert"]
		assert.Equal(t, map[string]int{"api-1": inserts + 5, "api-2": inserts + 5}, members, "every key was read through each replica")
		assert.True(t, linearizable(t, m.all()))
		l, read := lost(m.all())
		assert.Zero(t, l)
		assert.Equal(t, 2*inserts, read)

		require.Equal(t, 1, len(m.evs))
		var stats record.WorkloadStats
		require.NoError(t, json.Unmarshal(m.evs[0].Data, &stats))
		assert.Equal(t, record.WorkloadEnd, m.evs[0].Kind)
		assert.Equal(t, "regs", m.evs[0].ID)
		assert.Empty(t, m.evs[0].Error)
		assert.Equal(t, total, stats.OK+stats.Failed)
		assert.Equal(t, 2*(inserts+5), stats.Read)
	})
}

func TestEveryRegisterIsThereBeforeTheBaseline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := replicastest.New(t)
		s := newService()
		refusals := 3
		s.fail = func(string, string) int {
			if refusals--; refusals >= 0 {
				return http.StatusServiceUnavailable
			}
			return 0
		}
		top.Service("api", 1, s.handler)
		e, m := env(t, top)
		x, err := New(registersPlan(), e)
		require.NoError(t, err)
		require.NoError(t, x.Prepare(t.Context()))
		assert.Len(t, s.regs, 5)
		assert.EqualValues(t, 5, x.Acked())
		assert.Equal(t, 8, len(m.all()), "what failed is in the history too")
		assert.Equal(t, record.Unknown, m.all()[0].Outcome)

		s.fail = func(string, string) int { return http.StatusServiceUnavailable }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorContains(t, x.Prepare(ctx), "workload regs: writing the first value of r0: status 503")
	})
}

func TestAServiceThatForgetsShowsInTheHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := replicastest.New(t)
		s := newService()
		s.drop = func(key string) bool { s.revision++; return s.revision%20 == 0 && strings.HasPrefix(key, "w-") }
		top.Service("api", 2, s.handler)
		e, m := env(t, top)
		work(t, registersPlan(), e, 4*time.Second, nil)
		l, read := lost(m.all())
		assert.Greater(t, l, 3)
		assert.Greater(t, read, l)
	})
}

func TestAServiceThatReadsStaleShowsInTheHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := replicastest.New(t)
		s := newService()
		s.stale = true
		top.Service("api", 2, s.handler)
		e, m := env(t, top)
		work(t, registersPlan(), e, 2*time.Second, nil)
		assert.False(t, linearizable(t, m.all()))
	})
}

func TestOutcomes(t *testing.T) {
	for _, c := range []struct {
		name        string
		code        int
		mode        replicastest.Mode
		cut         bool
		switches    bool
		silent      bool
		write, read record.Outcome
		text        string
	}{
		{name: "conflict", code: 409, write: record.Failed, read: record.Failed, text: "status 409"},
		{name: "precondition", code: 412, write: record.Failed, read: record.Failed, text: "status 412"},
		{name: "bad request", code: 400, write: record.Failed, read: record.Failed, text: "status 400"},
		{name: "too many", code: 429, write: record.Failed, read: record.Failed, text: "status 429"},
		{name: "request timeout", code: 408, write: record.Unknown, read: record.Failed, text: "status 408"},
		{name: "error", code: 500, write: record.Unknown, read: record.Failed, text: "status 500"},
		{name: "unavailable", code: 503, write: record.Unknown, read: record.Failed, text: "status 503"},
		{name: "deadline", code: 504, write: record.Unknown, read: record.Failed, text: "status 504"},
		{name: "redirect", code: 302, write: record.Unknown, read: record.Failed, text: "status 302"},
		{name: "refused", mode: replicastest.Refusing, write: record.Failed, read: record.Failed, text: "connection refused"},
		{name: "dropped", mode: replicastest.Dropping, write: record.Failed, read: record.Failed, text: "no answer within 1s"},
		{name: "switching protocols", switches: true, write: record.Unknown, read: record.Failed, text: "status 101"},
		{name: "cut", cut: true, write: record.Unknown, read: record.Failed, text: "EOF"},
		{name: "silent", silent: true, write: record.Unknown, read: record.Failed, text: "no answer within 1s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				top := replicastest.New(t)
				top.Service("api", 1, func(node string) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						switch {
						case c.cut:
							top.Node(node).Cut()
						case c.switches:
							_, _ = io.Copy(io.Discard, r.Body)
							replicastest.Switching(t)(w, r)
						case c.silent:
							_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that the client has gone
							<-r.Context().Done()
						default:
							w.WriteHeader(c.code)
						}
					})
				})
				top.Node("api-1").Set(c.mode)
				e, _ := env(t, top)
				r, err := newRegisters(registersPlan(), e)
				require.NoError(t, err)
				a := newAPI(r.set.Pool(time.Second), r.set.Host(), time.Second)
				defer a.close()
				put := a.put(t.Context(), "k", "v", nil)
				assert.Equal(t, c.write, put.outcome)
				assert.Contains(t, put.err, c.text)
				get := a.get(t.Context(), "k")
				assert.Equal(t, c.read, get.outcome)
				assert.Contains(t, get.err, c.text)
			})
		})
	}
}

func TestGetOfNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := replicastest.New(t)
		top.Service("api", 1, newService().handler)
		e, _ := env(t, top)
		r, err := newRegisters(registersPlan(), e)
		require.NoError(t, err)
		c := r.client(0, r.set.Pool(time.Second))
		defer c.api.close()
		o := c.get("none")
		require.Equal(t, record.OK, o.Outcome)
		require.NotNil(t, o.Found)
		require.False(t, *o.Found)
	})
}

func TestOperationsUnderWayAreFinishedAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := replicastest.New(t)
		s := newService()
		top.Service("api", 1, s.handler)
		e, m := env(t, top)
		w := registersPlan()
		w.Rate = 0
		x, err := New(w, e)
		require.NoError(t, err)
		require.NoError(t, x.Prepare(t.Context()))
		before := len(m.all())
		s.latency = 200 * time.Millisecond
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		require.NoError(t, x.Run(ctx))
		ops := m.all()[before:]
		require.Equal(t, 4, len(ops), "each of 4 clients had one under way, which took 400 ms")
		for _, o := range ops {
			assert.NotEqual(t, record.Unknown, o.Outcome, "the end of the workload is no reason not to wait for the answer")
		}
	})
}

func TestMembersThatCannotBeReadAreUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := replicastest.New(t)
		s := newService()
		top.Service("api", 3, s.handler)
		e, m := env(t, top)
		w := registersPlan()
		x, err := New(w, e)
		require.NoError(t, err)
		require.NoError(t, x.Prepare(t.Context()))
		top.Node("api-2").Set(replicastest.Refusing) // its program has ended
		s.fail = func(node, _ string) int {
			if node == "api-3" {
				return 503
			}
			return 0
		}
		require.NoError(t, x.Verify(t.Context()))
		got := map[string]int{}
		for _, o := range m.all() {
			if o.Verify {
				got[o.Member+" "+string(o.Outcome)]++
				if o.Member == "api-3" {
					require.Contains(t, o.Error, "503")
				}
			}
		}
		assert.Equal(t, map[string]int{"api-1 ok": 5, "api-3 failed": 5}, got)
	})
}

func TestVerifyEndsWithItsContextAlsoWhileReadsSucceed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := replicastest.New(t)
		s := newService()
		top.Service("api", 2, s.handler)
		e, m := env(t, top)
		w := registersPlan()
		w.Keys = 1000
		x, err := New(w, e)
		require.NoError(t, err)
		require.NoError(t, x.Prepare(t.Context()))
		s.latency = 200 * time.Millisecond // before and after the answer is made
		begin, late := time.Now(), errors.New("it took too long")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 2100*time.Millisecond, late)
		defer cancel()
		require.ErrorIs(t, x.Verify(ctx), late)
		require.Equal(t, 2400*time.Millisecond, time.Since(begin), "what was under way is finished")
		read, unread := 0, 0
		for _, o := range m.all() {
			switch {
			case !o.Verify:
			case o.Outcome == record.OK:
				read++
			default:
				unread++
				require.Equal(t, "not tried: verify ended: it took too long", o.Error)
			}
		}
		require.Equal(t, 2*4*6, read, "six in a row by each of four clients of each replica")
		require.Equal(t, 2*1000, read+unread, "and all others are known not to have been read")
	})
}

func TestNobodyIsThereToReadFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := replicastest.New(t)
		top.Service("api", 1, newService().handler)
		e, m := env(t, top)
		x, err := New(registersPlan(), e)
		require.NoError(t, err)
		top.Node("api-1").Set(replicastest.Refusing)
		require.NoError(t, x.Verify(t.Context()))
		require.Equal(t, 5, len(m.all()))
		for _, o := range m.all() {
			assert.Equal(t, record.Failed, o.Outcome)
			assert.Contains(t, o.Error, "no replica of api is running")
			assert.True(t, o.Verify)
		}
	})
}

func TestSameSeedSameOperations(t *testing.T) {
	first := func() []string {
		var out []string
		synctest.Test(t, func(t *testing.T) {
			top := replicastest.New(t)
			top.Service("api", 1, newService().handler)
			e, m := env(t, top)
			w := registersPlan()
			w.Clients = 1
			work(t, w, e, time.Second, nil)
			for _, o := range m.all() {
				out = append(out, fmt.Sprint(o.Kind, o.Key, o.Value))
			}
		})
		return out
	}
	a := first()
	assert.Greater(t, len(a), 100)
	assert.Equal(t, a, first())
}

func TestBadWorkloads(t *testing.T) {
	top := replicastest.New(t)
	top.Service("api", 1, newService().handler)
	e, _ := env(t, top)
	for want, change := range map[string]func(*plan.Workload){
		`called "apy"`:     func(w *plan.Workload) { w.To = "apy" },
		`called "regs"`:    func(w *plan.Workload) { w.Kind = "regs" },
		"must be positive": func(w *plan.Workload) { w.Clients = -1 },
		"which program":    func(w *plan.Workload) { w.Kind = KindExec },
	} {
		w := registersPlan()
		change(&w)
		_, err := New(w, e)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "workload regs")
	}
}
