package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/ordersv1"
	"github.com/hasvc/gauntlet/hasvc/internal/requests"
	"github.com/hasvc/gauntlet/hasvc/internal/trace"
)

// fake stands for orders: it answers, or fails with err, or waits for the deadline.
type fake struct {
	ordersv1.OrdersClient
	err     error
	wait    bool
	created []*ordersv1.CreateOrderRequest
	put     []*ordersv1.PutRegisterRequest
	trace   string
	request string
}

func (f *fake) end(ctx context.Context) error {
	f.trace, f.request = trace.ID(ctx), trace.RequestID(ctx)
	if f.wait {
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	}
	return f.err
}

func (f *fake) CreateOrder(ctx context.Context, r *ordersv1.CreateOrderRequest, _ ...grpc.CallOption) (*ordersv1.Order, error) {
	f.created = append(f.created, r)
	return &ordersv1.Order{Id: "o1", Sku: r.GetSku(), Quantity: r.GetQuantity(), Status: "accepted"}, f.end(ctx)
}

func (f *fake) GetOrder(ctx context.Context, r *ordersv1.GetOrderRequest, _ ...grpc.CallOption) (*ordersv1.Order, error) {
	return &ordersv1.Order{Id: r.GetId()}, f.end(ctx)
}

func (f *fake) GetRegister(ctx context.Context, r *ordersv1.GetRegisterRequest, _ ...grpc.CallOption) (*ordersv1.Register, error) {
	return &ordersv1.Register{Key: r.GetKey(), Value: "v", Revision: 7}, f.end(ctx)
}

func (f *fake) PutRegister(ctx context.Context, r *ordersv1.PutRegisterRequest, _ ...grpc.CallOption) (*ordersv1.Register, error) {
	f.put = append(f.put, r)
	return &ordersv1.Register{Key: r.GetKey(), Value: r.GetValue(), Revision: 8}, f.end(ctx)
}

func (f *fake) GetStock(ctx context.Context, r *ordersv1.GetStockRequest, _ ...grpc.CallOption) (*ordersv1.Stock, error) {
	return &ordersv1.Stock{Sku: r.GetSku(), Level: 3}, f.end(ctx)
}

func (f *fake) WatchStock(ctx context.Context, _ *ordersv1.WatchStockRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[ordersv1.Stock], error) {
	return nil, f.end(ctx)
}

func serve(t testing.TB, f ordersv1.OrdersClient, defects ...defect.Name) *Server {
	t.Helper()
	cfg, err := config.Parse(nil, ":0")
	require.NoError(t, err)
	cfg.Deadline = 50 * time.Millisecond
	cfg.Defects = defect.Set{}
	for _, d := range defects {
		cfg.Defects[d] = true
	}
	return New(cfg, f, prometheus.NewRegistry(), tracerOf(t, cfg), zap.NewNop(), func(*http.ServeMux) {})
}

func tracerOf(t testing.TB, cfg config.Config) *trace.Tracer {
	t.Helper()
	tracer, err := trace.New("", "gateway", "test", cfg.Defects)
	require.NoError(t, err)
	return tracer
}

type want map[string]any

func TestAPI(t *testing.T) {
	away := status.Error(codes.Unavailable, "no replica")
	for _, test := range []struct {
		name    string
		fake    fake
		method  string
		path    string
		headers string // "Name: value", one to a line
		body    string
		status  int
		body2   want // some fields of the answer
		header  string
	}{
		{name: "create", method: "POST", path: "/orders", body: `{"sku":"a","quantity":2}`, status: 201, body2: want{"id": "o1", "sku": "a", "quantity": 2.0}, header: "Location: /orders/o1"},
		{name: "create with a charset", method: "POST", path: "/orders", headers: "Content-Type: application/json; charset=utf-8", body: `{"sku":"a","quantity":2}`, status: 201},
		{name: "read an order", method: "GET", path: "/orders/x", status: 200, body2: want{"id": "x"}},
		{name: "read a register", method: "GET", path: "/registers/k", status: 200, body2: want{"key": "k", "value": "v", "revision": 7.0}},
		{name: "write a register", method: "PUT", path: "/registers/k", body: `{"value":""}`, status: 200, body2: want{"revision": 8.0}},
		{name: "compare and set", method: "PUT", path: "/registers/k", body: `{"value":"x","expectRevision":0}`, status: 200},

		{name: "not found", fake: fake{err: status.Error(codes.NotFound, "none")}, method: "GET", path: "/orders/x", status: 404},
		{name: "conflict", fake: fake{err: status.Error(codes.Aborted, "other")}, method: "PUT", path: "/registers/k", body: `{"value":"x","expectRevision":3}`, status: 409},
		{name: "key reused", fake: fake{err: status.Error(codes.AlreadyExists, "other")}, method: "POST", path: "/orders", body: `{"sku":"a","quantity":2}`, status: 409},
		{name: "refused by orders", fake: fake{err: status.Error(codes.InvalidArgument, "bad")}, method: "GET", path: "/registers/k", status: 400},
		{name: "away", fake: fake{err: away}, method: "GET", path: "/registers/k", status: 503, header: "Retry-After: 1"},
		{name: "broken", fake: fake{err: status.Error(codes.Internal, "x")}, method: "GET", path: "/registers/k", status: 500},
		{name: "too late", fake: fake{wait: true}, method: "GET", path: "/registers/k", status: 504},
		{name: "too late for the client", fake: fake{wait: true}, method: "GET", path: "/registers/k", headers: "Request-Timeout: 1", status: 504},
		{name: "passed", method: "GET", path: "/registers/k", headers: "Request-Timeout: 0", status: 504},
		{name: "no number", method: "GET", path: "/registers/k", headers: "Request-Timeout: 1s", status: 400},
		{name: "negative", method: "GET", path: "/registers/k", headers: "Request-Timeout: -1", status: 400},

		{name: "no body", method: "POST", path: "/orders", status: 400},
		{name: "no JSON", method: "POST", path: "/orders", body: `sku=a`, status: 400},
		{name: "an array", method: "POST", path: "/orders", body: `[]`, status: 400},
		{name: "cut off", method: "POST", path: "/orders", body: `{"sku":"a"`, status: 400},
		{name: "two objects", method: "POST", path: "/orders", body: `{"sku":"a","quantity":1}{}`, status: 400},
		{name: "unknown field", method: "POST", path: "/orders", body: `{"sku":"a","quantity":1,"price":1}`, status: 400},
		{name: "wrong type", method: "POST", path: "/orders", body: `{"sku":"a","quantity":"1"}`, status: 400},
		{name: "not UTF-8", method: "POST", path: "/orders", body: "{\"sku\":\"\xff\",\"quantity\":1}", status: 400},
		{name: "too large", method: "PUT", path: "/registers/k", body: `{"value":"` + strings.Repeat("x", 64*1024) + `"}`, status: 413},
		{name: "wrong content type", method: "POST", path: "/orders", headers: "Content-Type: text/plain", body: `{"sku":"a","quantity":1}`, status: 415},
		{name: "value missing", method: "PUT", path: "/registers/k", body: `{}`, status: 400},
		{name: "consistency unknown", method: "GET", path: "/registers/k?consistency=eventual", status: 400},
		{name: "key not UTF-8", method: "GET", path: "/registers/%ff", status: 400},
		{name: "id not UTF-8", method: "GET", path: "/orders/%ff", status: 400},
		{name: "idempotency key not UTF-8", method: "POST", path: "/orders", headers: "Idempotency-Key: \xff", body: `{"sku":"a","quantity":1}`, status: 400},
		{name: "no such resource", method: "GET", path: "/nothing", status: 404},
		{name: "two slashes", method: "POST", path: "//orders", body: `{"sku":"a","quantity":2}`, status: 404},
		{name: "two slashes at the end", method: "GET", path: "/orders/x//", status: 404},
		{name: "dots", method: "POST", path: "/orders/../x", body: `{"sku":"a","quantity":2}`, status: 404},
		{name: "a dot", method: "GET", path: "/registers/./k", status: 404},
		{name: "dots in a stream", method: "GET", path: "/stream/stock/../stock/a", status: 404},
		{name: "an encoded slash is part of a name", method: "GET", path: "/orders/%2F..", status: 200, body2: want{"id": "/.."}},
		{name: "encoded dots are a name", method: "GET", path: "/orders/%2e%2e", status: 200, body2: want{"id": ".."}},
		{name: "wrong method", method: "DELETE", path: "/orders/x", status: 405, header: "Allow: GET"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest(test.method, test.path, strings.NewReader(test.body))
			r.Header.Set("Content-Type", "application/json")
			for line := range strings.SplitSeq(test.headers, "\n") {
				if k, v, ok := strings.Cut(line, ": "); ok {
					r.Header.Set(k, v)
				}
			}
			w := httptest.NewRecorder()
			serve(t, &test.fake).ServeHTTP(w, r)
			resp := w.Result()
			got := want{}
			require.NoError(t, json.NewDecoder(resp.Body).Decode(&got))
			assert.Equal(t, test.status, resp.StatusCode, "%v", got)
			assert.Equal(t, "application/json", resp.Header.Get("Content-Type"))
			for k, v := range test.body2 {
				assert.Equal(t, v, got[k], k)
			}
			if k, v, ok := strings.Cut(test.header, ": "); ok {
				assert.Equal(t, v, resp.Header.Get(k), k)
			}
			if test.status >= 400 {
				assert.NotEmpty(t, got["error"])
				assert.Equal(t, resp.Header.Get(trace.Header), got["traceId"])
			}
		})
	}
}

func TestWhatOrdersIsAsked(t *testing.T) {
	f := &fake{}
	s := serve(t, f)
	send := func(method, path, body string, headers ...string) {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		s.ServeHTTP(httptest.NewRecorder(), r)
	}
	send("POST", "/orders", `{"sku":"a","quantity":2}`, "Idempotency-Key", "k")
	send("POST", "/orders", `{"sku":"a","quantity":2}`)
	require.Len(t, f.created, 2)
	assert.Equal(t, "k", f.created[0].GetIdempotencyKey())
	assert.NotEmpty(t, f.created[1].GetIdempotencyKey(), "one is made, or a retry of ours would make two orders")
	send("PUT", "/registers/k", `{"value":"x"}`)
	send("PUT", "/registers/k", `{"value":"x","expectRevision":0}`)
	require.Len(t, f.put, 2)
	assert.Nil(t, f.put[0].ExpectRevision)
	assert.NotNil(t, f.put[1].ExpectRevision, "0 is not the same as absent")

	send("GET", "/orders/x", "", trace.Header, "from-the-client")
	assert.Equal(t, "from-the-client", f.trace)
	send("GET", "/orders/x", "", "Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", trace.Header, "other")
	assert.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", f.trace)
	send("GET", "/orders/x", "", trace.Header, "not\nclean")
	assert.Len(t, f.trace, 32)
	send("GET", "/orders/x", "", trace.RequestHeader, "r1")
	assert.Equal(t, "r1", f.request)
}

func TestNoDeadline(t *testing.T) {
	for _, test := range []struct {
		defects []defect.Name
		ends    bool
	}{{nil, true}, {[]defect.Name{defect.NoDeadline}, false}} {
		f := &gate{open: make(chan struct{})}
		s := serve(t, &fake{}, test.defects...)
		s.orders = f
		done := make(chan int, 1)
		go func() {
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest("GET", "/orders/x", nil))
			done <- w.Code
		}()
		select {
		case code := <-done:
			assert.True(t, test.ends, "defects %v", test.defects)
			assert.Equal(t, http.StatusGatewayTimeout, code)
		case <-time.After(time.Second): // 20 times the deadline
			assert.False(t, test.ends, "defects %v", test.defects)
		}
		close(f.open)
		if !test.ends {
			assert.Equal(t, http.StatusOK, <-done)
		}
	}
}

// gate answers when it is opened.
type gate struct {
	fake
	open chan struct{}
}

func (g *gate) GetOrder(ctx context.Context, r *ordersv1.GetOrderRequest, _ ...grpc.CallOption) (*ordersv1.Order, error) {
	select {
	case <-g.open:
		return &ordersv1.Order{Id: r.GetId()}, nil
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"sku":"a","quantity":2}`, `{"value":"x","expectRevision":0}`, `{}`, `[]`, `nul`, "\xff", `{"value":1e999}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, v := range []any{&orderRequest{}, &registerRequest{}} {
			if err := decodeBody(body, v); err != nil {
				p := asProblem(err)
				require.Equal(t, http.StatusBadRequest, p.Status)
				require.NotEmpty(t, p.Message)
			}
		}
	})
}

// streamless has no streams.
type streamless struct{ fake }

func (streamless) WatchStock(context.Context, *ordersv1.WatchStockRequest, ...grpc.CallOption) (grpc.ServerStreamingClient[ordersv1.Stock], error) {
	return nil, status.Error(codes.Unavailable, "no replica")
}

// Whatever is asked, the answer is JSON with a status that fits, and nothing panics: nobody recovers here.
func FuzzRequest(f *testing.F) {
	f.Add("POST", "/orders", "application/json", "100", "key", []byte(`{"sku":"a","quantity":2}`))
	f.Add("PUT", "/registers/k", "application/json", "", "", []byte(`{"value":"x"}`))
	f.Add("GET", "/orders/%ff", "", "-1", "\xff", []byte(nil))
	f.Add("GET", "/stock/a", "", "", "", []byte(nil))
	f.Add("POST", "/orders/..//", "", "", "", []byte(nil))
	f.Add("GET", "/stream/stock/a?after=1", "", "20", "", []byte(nil))
	f.Add("GET", "/stream/stock/a?for=10ms", "", "20", "", []byte(nil))
	f.Fuzz(func(t *testing.T, method, path, ct, timeout, key string, body []byte) {
		r, err := http.NewRequest(method, "http://gateway"+path, io.NopCloser(strings.NewReader(string(body))))
		if err != nil || r.URL.Path == "" || r.URL.Path[0] != '/' {
			t.Skip("no request that Go's server would let through")
		}
		r.Header.Set("Content-Type", ct)
		r.Header.Set("Request-Timeout", timeout)
		r.Header.Set("Idempotency-Key", key)
		w := httptest.NewRecorder()
		serve(t, &streamless{}, defect.NoRecover).ServeHTTP(w, r)
		if w.Code >= 300 {
			require.Contains(t, []int{400, 401, 404, 405, 409, 411, 413, 415, 422, 429, 503, 504}, w.Code)
			require.True(t, json.Valid(w.Body.Bytes()), w.Body.String())
		}
	})
}

// A request that panics is answered, and the next one too.
func TestPoison(t *testing.T) {
	for _, defects := range [][]defect.Name{nil, {defect.NoRecover}} {
		s := serve(t, &fake{}, defects...)
		s.cfg.Poison = "bad"
		ask := func(sku string) *httptest.ResponseRecorder {
			r := httptest.NewRequest("POST", "/orders", strings.NewReader(`{"sku":"`+sku+`","quantity":1}`))
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			return w
		}
		if defects != nil {
			assert.Panics(t, func() { ask("bad") })
			continue
		}
		w := ask("bad")
		assert.Equal(t, http.StatusInternalServerError, w.Code)
		got := want{}
		require.NoError(t, json.NewDecoder(w.Body).Decode(&got))
		assert.NotEmpty(t, got["error"])
		assert.Equal(t, w.Header().Get(trace.Header), got["traceId"])
		assert.NotContains(t, got["error"], "poison", "what it was is nothing for the client")
		assert.Equal(t, http.StatusCreated, ask("good").Code)
	}
}

func TestLimit(t *testing.T) {
	for _, defects := range [][]defect.Name{nil, {defect.NoLimit}} {
		cfg, err := config.Parse([]string{"HASVC_LIMIT=token", "HASVC_LIMIT_RATE=0.5", "HASVC_LIMIT_BURST=2"}, ":0")
		require.NoError(t, err)
		for _, d := range defects {
			cfg.Defects[d] = true
		}
		s := New(cfg, &fake{}, prometheus.NewRegistry(), tracerOf(t, cfg), zap.NewNop(), func(*http.ServeMux) {})
		var last *http.Response
		for range 3 {
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest("GET", "/orders/x", nil))
			last = w.Result()
		}
		if defects != nil {
			assert.Equal(t, http.StatusOK, last.StatusCode)
			continue
		}
		assert.Equal(t, http.StatusTooManyRequests, last.StatusCode)
		assert.Equal(t, "2", last.Header.Get("Retry-After"), "whole seconds, never less than it takes")
		got := want{}
		require.NoError(t, json.NewDecoder(last.Body).Decode(&got))
		assert.NotEmpty(t, got["error"])
		assert.NotEmpty(t, got["traceId"])
	}
}

// What waits for its turn has its deadline too, and a client may leave.
func TestDeadlineOfWaiting(t *testing.T) {
	cfg, err := config.Parse([]string{"HASVC_LIMIT=leaky", "HASVC_LIMIT_RATE=0.1", "HASVC_LIMIT_BURST=5"}, ":0")
	require.NoError(t, err)
	s := New(cfg, &fake{}, prometheus.NewRegistry(), tracerOf(t, cfg), zap.NewNop(), func(*http.ServeMux) {})
	ask := func(ctx context.Context, timeout string) int {
		r := httptest.NewRequest("GET", "/orders/x", nil).WithContext(ctx)
		r.Header.Set("Request-Timeout", timeout)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w.Code
	}
	require.Equal(t, http.StatusOK, ask(t.Context(), "5000"))
	assert.Equal(t, http.StatusGatewayTimeout, ask(t.Context(), "20"))
	gone, leave := context.WithCancel(t.Context())
	leave()
	assert.Equal(t, statusClientGone, ask(gone, "5000"))
}

// A body that does not come is waited for as long as the request has time, and takes no place from others; with the defect it does.
func TestShedEarly(t *testing.T) {
	for _, wrong := range []bool{false, true} {
		t.Run(fmt.Sprint("wrong ", wrong), func(t *testing.T) { bodiesThatDoNotCome(t, wrong) })
	}
}

func bodiesThatDoNotCome(t *testing.T, wrong bool) {
	cfg, err := config.Parse([]string{"HASVC_SHED=on", fmt.Sprint("HASVC_SHED_LIMIT=", config.ShedLeast), "HASVC_DEADLINE=20s"}, ":0")
	require.NoError(t, err)
	cfg.Defects = defect.Set{defect.ShedEarly: wrong}
	s := httptest.NewServer(New(cfg, &fake{}, prometheus.NewRegistry(), tracerOf(t, cfg), zap.NewNop(), func(*http.ServeMux) {}))
	defer s.Close()
	var answers []*bufio.Reader
	for range config.ShedLeast {
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))
		_, err = io.WriteString(c, "POST /orders HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nRequest-Timeout: 500\r\n"+
			"Content-Length: 50\r\nExpect: 100-continue\r\n\r\n")
		require.NoError(t, err)
		in := bufio.NewReader(c)
		line, err := in.ReadString('\n')
		require.NoError(t, err)
		require.Contains(t, line, "100 Continue", "it reads the body")
		_, err = in.ReadString('\n')
		require.NoError(t, err)
		answers = append(answers, in)
	}
	resp, err := s.Client().Get(s.URL + "/orders/x")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	if wrong {
		assert.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	} else {
		assert.Equal(t, http.StatusOK, resp.StatusCode, "there is a place")
	}
	for _, in := range answers {
		resp, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		got := want{}
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&got))
		assert.Equal(t, http.StatusRequestTimeout, resp.StatusCode, "%v", got)
		assert.NotEmpty(t, got["traceId"])
	}
}

// Streams are limited like everything else.
func TestLimitOfStreams(t *testing.T) {
	cfg, err := config.Parse([]string{"HASVC_LIMIT=token", "HASVC_LIMIT_RATE=0.5", "HASVC_LIMIT_BURST=2"}, ":0")
	require.NoError(t, err)
	f := &fake{err: status.Error(codes.InvalidArgument, "bad")}
	s := New(cfg, f, prometheus.NewRegistry(), tracerOf(t, cfg), zap.NewNop(), func(*http.ServeMux) {})
	for _, want := range []int{http.StatusBadRequest, http.StatusBadRequest, http.StatusTooManyRequests} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("GET", "/stream/stock/a", nil))
		assert.Equal(t, want, w.Code)
	}
}

// quiet is orders with a stock that does not change, until its replica stops an hour later; the second time there is no such SKU.
type quiet struct {
	fake
	grpc.ClientStream
	opened int
}

func (q *quiet) WatchStock(context.Context, *ordersv1.WatchStockRequest, ...grpc.CallOption) (grpc.ServerStreamingClient[ordersv1.Stock], error) {
	q.opened++
	return q, nil
}

func (*quiet) Header() (metadata.MD, error) { return metadata.MD{}, nil }

func (q *quiet) Recv() (*ordersv1.Stock, error) {
	if q.opened > 1 {
		return nil, status.Error(codes.InvalidArgument, "no such SKU")
	}
	time.Sleep(time.Hour)
	return nil, status.Error(codes.Unavailable, "it stops")
}

// A stream on which nothing changed for long is resumed as any other.
func TestQuietStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, q := serve(t, &fake{}), &quiet{}
		s.orders = q
		assert.PanicsWithValue(t, http.ErrAbortHandler, func() {
			s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/stream/stock/a?after=1", nil))
		}, "it ends with an error, and it has begun")
		assert.Equal(t, 2, q.opened)
	})
}

// following is orders with a stock that changed once, an hour ago, and what comes then.
type following struct {
	fake
	grpc.ClientStream
	ctx    context.Context
	opens  time.Duration // that it takes
	breaks time.Duration // after which it does; 0: never
	sent   bool
}

func (f *following) WatchStock(ctx context.Context, _ *ordersv1.WatchStockRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[ordersv1.Stock], error) {
	f.ctx = ctx
	return f, f.pause(f.opens)
}

func (f *following) pause(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-f.ctx.Done():
		return status.FromContextError(f.ctx.Err()).Err()
	}
}

func (*following) Header() (metadata.MD, error) { return metadata.MD{}, nil }

func (f *following) Recv() (*ordersv1.Stock, error) {
	if !f.sent {
		f.sent = true
		return &ordersv1.Stock{Sku: "a", Level: 3, Revision: 7}, nil
	}
	if f.breaks == 0 {
		f.breaks = 24 * time.Hour
	}
	if err := f.pause(f.breaks); err != nil {
		return nil, err
	}
	return nil, status.Error(codes.Internal, "it broke")
}

// A client can tell a stream that lasted as long as it asked, or that its replica ended, from one that broke off.
func TestStreamEnds(t *testing.T) {
	const (
		level = `{"sku":"a","level":3,"revision":7}` + "\n"
		over  = `{"end":"the stream has lasted as long as was asked","after":7}` + "\n"
		stops = `{"end":"this replica is about to stop; go on at another one","after":7}` + "\n"
	)
	for _, test := range []struct {
		name    string
		query   string
		timeout string // of the request
		orders  following
		stops   time.Duration // after which the replica does; 0: never
		defects []defect.Name
		status  int
		after   time.Duration
		lines   string
		breaks  bool
	}{
		{name: "as asked", query: "?for=2s", status: 200, after: 2 * time.Second, lines: level + over},
		{name: "nothing changed", query: "?for=2s&after=7", orders: following{sent: true}, status: 200, after: 2 * time.Second, lines: over},
		{name: "the replica stops", query: "?for=2s", stops: time.Second, status: 200, after: time.Second, lines: level + stops},
		{name: "the replica stops, and nothing was asked", stops: time.Hour, status: 200, after: time.Hour, lines: level + stops},
		{name: "broken", query: "?for=2s", orders: following{breaks: time.Second}, status: 200, after: time.Second, lines: level, breaks: true},
		{name: "orders is late", query: "?for=20ms", orders: following{opens: time.Hour}, status: 504, after: 50 * time.Millisecond},
		{name: "it begins later than it lasts", query: "?for=20ms", orders: following{opens: 40 * time.Millisecond}, status: 200, after: 60 * time.Millisecond, lines: level + over},
		{name: "later than the client waits", timeout: "20", orders: following{opens: time.Hour}, status: 504, after: 20 * time.Millisecond},
		{name: "later than anybody waits", timeout: "2000", orders: following{opens: time.Hour}, status: 504, after: 50 * time.Millisecond},
		{name: "later than who says nothing waits", orders: following{opens: time.Hour}, status: 504, after: 50 * time.Millisecond},
		{name: "for ever", query: "?for=2s", defects: []defect.Name{defect.NoDeadline}, orders: following{opens: time.Hour}, status: 200, after: time.Hour + 2*time.Second, lines: level + over},
		{name: "begun in time", query: "?for=2s", timeout: "20", orders: following{opens: 19 * time.Millisecond}, status: 200, after: 2*time.Second + 19*time.Millisecond, lines: level + over},
		{name: "no time to begin", timeout: "0", status: 504},
		{name: "no number", timeout: "1s", status: 400},
		{name: "no duration", query: "?for=2", status: 400},
		{name: "no time", query: "?for=0s", status: 400},
		{name: "less than none", query: "?for=-2s", status: 400},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := serve(t, &test.orders, test.defects...)
				var stop context.CancelFunc
				s.Streams, stop = context.WithCancel(t.Context())
				defer stop()
				if test.stops > 0 {
					time.AfterFunc(test.stops, stop)
				}
				w, r, begin := httptest.NewRecorder(), httptest.NewRequest("GET", "/stream/stock/a"+test.query, nil), time.Now()
				r.Header.Set(requests.TimeoutHeader, test.timeout)
				ask := func() { s.ServeHTTP(w, r) }
				if test.breaks {
					assert.PanicsWithValue(t, http.ErrAbortHandler, ask)
				} else {
					ask()
				}
				assert.Equal(t, test.after, time.Since(begin))
				assert.Equal(t, test.status, w.Code)
				if test.status == http.StatusOK {
					assert.Equal(t, test.lines, w.Body.String())
					return
				}
				got := want{}
				require.NoError(t, json.NewDecoder(w.Body).Decode(&got))
				assert.NotEmpty(t, got["error"])
			})
		})
	}
}

// Far more are in hand than the limit allows: the rest is refused, and all is well when they have gone.
func TestShed(t *testing.T) {
	f := &gate{open: make(chan struct{})}
	cfg, err := config.Parse([]string{"HASVC_SHED=on", "HASVC_DEADLINE=20s"}, ":0")
	require.NoError(t, err)
	s := New(cfg, f, prometheus.NewRegistry(), tracerOf(t, cfg), zap.NewNop(), func(*http.ServeMux) {})
	ask := func(priority string) int {
		r := httptest.NewRequest("GET", "/orders/x", nil)
		r.Header.Set("X-Priority", priority)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code == http.StatusServiceUnavailable {
			assert.Equal(t, "1", w.Result().Header.Get("Retry-After"))
		}
		return w.Code
	}
	codes := make(chan int, 1000)
	for range cap(codes) {
		go func() { codes <- ask("normal") }()
	}
	for range 900 { // far more than the limit
		require.Equal(t, http.StatusServiceUnavailable, <-codes)
	}
	assert.Equal(t, http.StatusServiceUnavailable, ask("low"))
	close(f.open)
	for range 100 {
		<-codes
	}
	assert.Equal(t, http.StatusOK, ask("low"))
}
