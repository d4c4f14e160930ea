package edge

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/trace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const soon = 20 * time.Second

// replica is a gateway whose answers the test decides.
type replica struct {
	*httptest.Server
	ready atomic.Bool
	calls atomic.Int64
	do    atomic.Pointer[http.HandlerFunc] // nil: 200

	mu   sync.Mutex
	last *http.Request
	body string
}

func (g *replica) addr() string { return g.Listener.Addr().String() }

func (g *replica) answer(h http.HandlerFunc) { g.do.Store(&h) }

func startReplica(t *testing.T) *replica {
	t.Helper()
	g := &replica{}
	g.ready.Store(true)
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			if !g.ready.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return
		}
		g.calls.Add(1)
		body, _ := io.ReadAll(r.Body)
		g.mu.Lock()
		g.last, g.body = r, string(body)
		g.mu.Unlock()
		w.Header().Set(trace.Header, "the gateway's own")
		if h := g.do.Load(); h != nil {
			(*h)(w, r)
		}
	}))
	t.Cleanup(g.Close)
	return g
}

// running is an edge in front of replicas.
type running struct {
	*Server
	t    *testing.T
	url  string
	logs *observer.ObservedLogs
}

func startEdge(t *testing.T, change func(*config.Config), replicas ...*replica) *running {
	t.Helper()
	cfg, err := config.Parse(nil, ":0")
	require.NoError(t, err)
	if change != nil {
		change(&cfg)
	}
	reg := prometheus.NewRegistry()
	tracer, err := trace.New("", "edge", "test", cfg.Defects)
	require.NoError(t, err)
	core, seen := observer.New(zap.InfoLevel)
	s := New(cfg, reg, tracer, zap.New(core), func(*http.ServeMux) {})
	front := httptest.NewServer(s)
	t.Cleanup(func() {
		front.Close()
		s.Close()
	})
	var addrs []string
	for _, g := range replicas {
		addrs = append(addrs, g.addr())
	}
	s.Gateways(addrs)
	return &running{Server: s, t: t, url: front.URL, logs: seen}
}

// waitReady waits until so many gateways are ready.
func (e *running) waitReady(n int) {
	e.t.Helper()
	for end := time.Now().Add(soon); ; time.Sleep(5 * time.Millisecond) {
		got := 0
		for _, g := range e.pool.all {
			if g.ready.Load() {
				got++
			}
		}
		if got == n {
			return
		}
		require.True(e.t, time.Now().Before(end), "%d gateways are ready, not %d", got, n)
	}
}

func (e *running) ask(method, path, body string, headers ...string) (*http.Response, map[string]string) {
	e.t.Helper()
	r, err := http.NewRequestWithContext(e.t.Context(), method, e.url+path, strings.NewReader(body))
	require.NoError(e.t, err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	require.NoError(e.t, err)
	defer resp.Body.Close()
	got := map[string]string{}
	_ = json.NewDecoder(resp.Body).Decode(&got) // only errors are JSON here
	return resp, got
}

// A replica that is not ready gets no new request; with the defect it gets its share.
func TestEdgeNoChecks(t *testing.T) {
	for _, wrong := range []bool{false, true} {
		a, b := startReplica(t), startReplica(t)
		e := startEdge(t, func(c *config.Config) { c.Defects = defect.Set{defect.EdgeNoChecks: wrong} }, a, b)
		e.waitReady(2)
		for range 10 {
			e.ask("GET", "/orders/x", "")
		}
		assert.EqualValues(t, 5, a.calls.Load(), "round robin")
		b.ready.Store(false)
		e.waitReady(1)
		before := b.calls.Load()
		for range 10 {
			resp, _ := e.ask("GET", "/orders/x", "")
			assert.Equal(t, http.StatusOK, resp.StatusCode)
		}
		assert.Equal(t, wrong, b.calls.Load() > before)
		require.NoError(t, testutil.CollectAndCompare(e.pool, strings.NewReader(`
# HELP hasvc_edge_backends Gateways that the registry names, by what their last check said.
# TYPE hasvc_edge_backends gauge
hasvc_edge_backends{state="not_ready"} 1
hasvc_edge_backends{state="ready"} 1
`)))
		b.ready.Store(true)
		e.waitReady(2)
	}
}

func TestNoneReady(t *testing.T) {
	a := startReplica(t)
	a.ready.Store(false)
	e := startEdge(t, nil, a)
	require.Error(t, e.Ping(t.Context()))
	resp, body := e.ask("GET", "/orders/x", "", trace.Header, "t1")
	assert.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	assert.Equal(t, "1", resp.Header.Get("Retry-After"))
	assert.Equal(t, "t1", body["traceId"])
	assert.NotEmpty(t, body["error"])
	assert.Zero(t, a.calls.Load())
}

// A replica that the registry does not name any more gets nothing.
func TestLeavesTheRegistry(t *testing.T) {
	a, b := startReplica(t), startReplica(t)
	e := startEdge(t, nil, a, b)
	e.waitReady(2)
	e.Gateways([]string{a.addr()})
	for range 10 {
		e.ask("GET", "/orders/x", "")
	}
	assert.Zero(t, b.calls.Load())
}

// dead is a gateway that looks ready and is not there: it died a moment ago.
func dead(t *testing.T, e *running) *gateway {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	g := &gateway{addr: l.Addr().String(), stop: func() {}}
	require.NoError(t, l.Close())
	g.ready.Store(true)
	e.pool.mu.Lock()
	defer e.pool.mu.Unlock()
	e.pool.all = append(e.pool.all, g)
	return g
}

// What was not sent goes to another replica, whatever it is.
func TestUnsent(t *testing.T) {
	a := startReplica(t)
	e := startEdge(t, nil, a)
	e.waitReady(1)
	for i, method := range []string{"GET", "PUT", "POST"} {
		gone := dead(t, e)
		for n := range 4 {
			resp, _ := e.ask(method, "/registers/k", "the body")
			require.Equal(t, http.StatusOK, resp.StatusCode, "%s %d", method, n)
			assert.Equal(t, "the body", a.body)
		}
		assert.EqualValues(t, 4*(i+1), a.calls.Load())
		assert.True(t, gone.doubt.Load(), "it is left out at once")
	}
}

// A client does not notice a gateway that dies and is ready by its last check; with the defect it does.
func TestEdgeNoRetry(t *testing.T) {
	for _, wrong := range []bool{false, true} {
		a := startReplica(t)
		e := startEdge(t, func(c *config.Config) { c.Defects = defect.Set{defect.EdgeNoRetry: wrong} }, a)
		e.waitReady(1)
		gone := dead(t, e)
		failed := 0
		for range 2 { // round robin: one of them begins at the dead one
			resp, _ := e.ask("POST", "/orders", "the body", "Idempotency-Key", "k")
			if resp.StatusCode != http.StatusOK {
				assert.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
				failed++
			}
		}
		assert.Equal(t, wrong, failed == 1, "%d failed", failed)
		assert.True(t, gone.doubt.Load())
	}
}

// One in doubt gets nothing while there is another, and its share where all are in doubt; what its check says clears it.
func TestDoubt(t *testing.T) {
	p := &pool{choose: choosers["round_robin"], check: func(*gateway) func() { return func() {} }}
	p.set([]string{"a:1", "b:1"})
	a, b := p.all[0], p.all[1]
	took := func(tried ...*gateway) map[*gateway]int {
		n := map[*gateway]int{}
		for range 4 {
			n[p.take(tried)]++
		}
		return n
	}
	a.ready.Store(true)
	b.ready.Store(true)
	a.doubt.Store(true)
	assert.Equal(t, map[*gateway]int{b: 4}, took())
	assert.Equal(t, map[*gateway]int{a: 4}, took(b), "rather than nobody")
	b.doubt.Store(true)
	assert.Equal(t, map[*gateway]int{a: 2, b: 2}, took())
	b.ready.Store(false)
	assert.Equal(t, map[*gateway]int{a: 4}, took(), "what a check says is no doubt")
	assert.Equal(t, map[*gateway]int{nil: 4}, took(a))

	r := startReplica(t)
	e := startEdge(t, nil, r)
	e.waitReady(1)
	e.pool.all[0].doubt.Store(true)
	require.NoError(t, e.Ping(t.Context()))
	require.Eventually(t, func() bool { return !e.pool.all[0].doubt.Load() }, soon, 5*time.Millisecond)
}

// What was sent and not answered goes to another replica only when that does no harm.
func TestBrokenAfterSending(t *testing.T) {
	for _, test := range []struct {
		method, key string
		status      int
	}{
		{"GET", "", http.StatusOK},
		{"POST", "k", http.StatusOK},
		{"POST", "", http.StatusBadGateway},
		{"PUT", "", http.StatusBadGateway},
		{"PUT", "k", http.StatusBadGateway}, // the service asks it for no key, and would not know it again
	} {
		a, b := startReplica(t), startReplica(t)
		var calls atomic.Int64
		for _, g := range []*replica{a, b} {
			g.answer(func(w http.ResponseWriter, _ *http.Request) {
				if calls.Add(1) == 1 {
					panic(http.ErrAbortHandler)
				}
			})
		}
		e := startEdge(t, nil, a, b)
		e.waitReady(2)
		var headers []string
		if test.key != "" {
			headers = []string{"Idempotency-Key", test.key}
		}
		resp, body := e.ask(test.method, "/orders", "b", headers...)
		assert.Equal(t, test.status, resp.StatusCode, "%s %q %v", test.method, test.key, body)
		want := int64(1)
		if test.status == http.StatusOK {
			want = 2
		}
		assert.Equal(t, want, calls.Load(), "%s %q", test.method, test.key)
	}
}

// Nor does the transport repeat it on a new connection to the same replica, for which a header is enough where it has one already.
func TestTransportDoesNotRepeat(t *testing.T) {
	for _, test := range []struct{ method, header, value string }{
		{"POST", "X-Idempotency-Key", "k"}, {"POST", "Idempotency-Key", ""}, {"PUT", "Idempotency-Key", "k"},
	} {
		a := startReplica(t)
		e := startEdge(t, nil, a)
		e.waitReady(1)
		resp, _ := e.ask("GET", "/orders/x", "")
		require.Equal(t, http.StatusOK, resp.StatusCode)
		var calls atomic.Int64
		a.answer(func(http.ResponseWriter, *http.Request) {
			calls.Add(1)
			panic(http.ErrAbortHandler)
		})
		resp, body := e.ask(test.method, "/orders", "b", test.header, test.value)
		assert.Equal(t, http.StatusBadGateway, resp.StatusCode, "%v %v", test, body)
		assert.EqualValues(t, 1, calls.Load(), "%v", test)
	}
}

// The time of a request counts from its arrival: while it waits for its turn, and while its body is on the way.
func TestDeadlineOfWaiting(t *testing.T) {
	a := startReplica(t)
	e := startEdge(t, func(c *config.Config) { c.Limit.Kind, c.Limit.Rate, c.Limit.Burst = "leaky", 0.1, 5 }, a)
	e.waitReady(1)
	resp, _ := e.ask("GET", "/orders/x", "")
	require.Equal(t, http.StatusOK, resp.StatusCode)
	begin := time.Now()
	resp, _ = e.ask("GET", "/orders/x", "", "Request-Timeout", "100") // its turn is in ten seconds
	assert.Equal(t, http.StatusGatewayTimeout, resp.StatusCode)
	assert.Less(t, time.Since(begin), 3*time.Second)

	never, writer := io.Pipe()
	defer writer.Close()
	r, err := http.NewRequestWithContext(t.Context(), "POST", e.url+"/orders", never)
	require.NoError(t, err)
	r.Header.Set("Request-Timeout", "100")
	r.Header.Set("X-Client-ID", "another")
	begin = time.Now()
	resp, err = (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, http.StatusRequestTimeout, resp.StatusCode)
	assert.Less(t, time.Since(begin), 3*time.Second)
	assert.EqualValues(t, 1, a.calls.Load())
}

func TestWhatPasses(t *testing.T) {
	a := startReplica(t)
	e := startEdge(t, nil, a)
	e.waitReady(1)
	resp, _ := e.ask("POST", "/orders?x=1", "body", "X-Request-ID", "r1", "Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"X-Priority", "high", "Idempotency-Key", "k", "Request-Timeout", "500", "X-Client-ID", "c1")
	assert.Equal(t, []string{"4bf92f3577b34da6a3ce929d0e0e4736"}, resp.Header.Values(trace.Header))
	h := a.last.Header
	assert.Equal(t, "x=1", a.last.URL.RawQuery)
	assert.Equal(t, "body", a.body)
	assert.Equal(t, "r1", h.Get("X-Request-ID"))
	assert.Contains(t, h.Get("Traceparent"), "00-4bf92f3577b34da6a3ce929d0e0e4736-", "the edge's span is the parent now")
	assert.Equal(t, "high", h.Get("X-Priority"))
	assert.Equal(t, "k", h.Get("Idempotency-Key"))
	assert.Equal(t, "c1", h.Get("X-Client-ID"))
	assert.Equal(t, "127.0.0.1", h.Get("X-Forwarded-For"))
	ms, err := strconv.Atoi(h.Get("Request-Timeout"))
	require.NoError(t, err)
	assert.LessOrEqual(t, ms, 500)
	assert.Positive(t, ms)

	e.ask("GET", "/orders/x", "")
	h = a.last.Header
	assert.NotEmpty(t, h.Get("X-Request-ID"), "one is made")
	assert.Equal(t, "127.0.0.1", h.Get("X-Client-ID"))
	assert.NotEmpty(t, h.Get("Request-Timeout"))
}

// Whatever its path is, the gateway sees it as it was sent: it is the one that answers.
func TestPathsPass(t *testing.T) {
	a := startReplica(t)
	a.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	e := startEdge(t, nil, a)
	e.waitReady(1)
	for i, path := range []string{"//orders", "/orders/../x", "/orders/.", "/stream", "/stream//stock/a", "/orders/%2F..", "/orders/%2e%2e", "/a%2F%2Fb?c=//d"} {
		resp, _ := e.ask("POST", path, "the body")
		assert.Equal(t, http.StatusNotFound, resp.StatusCode, path)
		assert.NotEmpty(t, resp.Header.Get(trace.Header), path)
		assert.EqualValues(t, i+1, a.calls.Load(), path)
		assert.Equal(t, path, a.last.RequestURI)
		assert.Equal(t, "the body", a.body)
	}
}

func TestRefusals(t *testing.T) {
	a := startReplica(t)
	a.answer(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	e := startEdge(t, func(c *config.Config) { c.Deadline, c.MaxBody = 50*time.Millisecond, 10 }, a)
	e.waitReady(1)
	for _, test := range []struct {
		body, timeout string
		status        int
	}{
		{"", "", http.StatusGatewayTimeout},
		{"", "20", http.StatusGatewayTimeout},
		{"", "0", http.StatusGatewayTimeout},
		{"", "1s", http.StatusBadRequest},
		{"more than ten", "", http.StatusRequestEntityTooLarge},
	} {
		headers := []string{}
		if test.timeout != "" {
			headers = []string{"Request-Timeout", test.timeout}
		}
		resp, body := e.ask("POST", "/orders", test.body, headers...)
		assert.Equal(t, test.status, resp.StatusCode, "%v", test)
		assert.NotEmpty(t, body["error"], "%v", test)
		assert.NotEmpty(t, body["traceId"], "%v", test)
	}
}

// A line of a stream arrives when it was sent, and a stream may outlast the deadline.
func TestStream(t *testing.T) {
	a := startReplica(t)
	next := make(chan struct{})
	a.answer(func(w http.ResponseWriter, _ *http.Request) {
		for n := range 3 {
			fmt.Fprintln(w, n)
			_ = http.NewResponseController(w).Flush()
			<-next
		}
	})
	e := startEdge(t, func(c *config.Config) { c.Deadline = 200 * time.Millisecond }, a)
	e.waitReady(1)
	resp, err := http.Get(e.url + "/stream/stock/a")
	require.NoError(t, err)
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for n := range 3 {
		require.True(t, lines.Scan(), "%v", lines.Err())
		assert.Equal(t, strconv.Itoa(n), lines.Text())
		assert.EqualValues(t, 1, e.pool.all[0].inFlight.Load())
		time.Sleep(150 * time.Millisecond) // 450 ms in all
		next <- struct{}{}
	}
	assert.False(t, lines.Scan())
	require.NoError(t, lines.Err())
	http.DefaultClient.CloseIdleConnections()
}

// An answer that ends too early must not look whole.
func TestCutAnswer(t *testing.T) {
	a := startReplica(t)
	a.answer(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	e := startEdge(t, nil, a)
	e.waitReady(1)
	resp, err := http.Get(e.url + "/orders/x")
	require.NoError(t, err)
	defer resp.Body.Close()
	_, err = io.ReadAll(resp.Body)
	require.Error(t, err)
	http.DefaultClient.CloseIdleConnections()
	told := e.logs.Filter(func(l observer.LoggedEntry) bool {
		return strings.Contains(fmt.Sprint(l.Message, l.ContextMap()), "unexpected EOF")
	}).All()
	require.Len(t, told, 1)
	assert.Equal(t, zap.WarnLevel, told[0].Level)
	assert.Equal(t, resp.Header.Get(trace.Header), told[0].ContextMap()["traceId"])
	assert.Equal(t, resp.Header.Get(trace.RequestHeader), told[0].ContextMap()["requestId"])
}

func TestChoosers(t *testing.T) {
	var from []*gateway
	for range 3 {
		from = append(from, &gateway{})
	}
	for policy, choose := range choosers {
		got := map[*gateway]int{}
		for n := range uint64(3000) {
			got[choose(n, from)]++
		}
		for _, g := range from {
			assert.InDelta(t, 1000, got[g], 200, policy)
		}
	}
	from[0].inFlight.Store(2)
	from[1].inFlight.Store(1)
	for n := range uint64(10) {
		assert.Same(t, from[2], leastConnections(n, from))
	}
}
