package load

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	itest "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/replicas"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// grpcTop is a topology whose nodes are gRPC servers on this machine.
type grpcTop struct {
	replicas.Topology
	mu    sync.Mutex
	addr  map[string]string // node -> address
	dials map[string]int
}

func (g *grpcTop) Spec() *cluster.Spec {
	return &cluster.Spec{Services: []cluster.Service{{Name: "api", Expose: []int{9090}, Scaled: true}}}
}

func (g *grpcTop) Nodes() (ns []cluster.NodeInfo) {
	for n := range g.addr {
		ns = append(ns, cluster.NodeInfo{Name: n, Service: "api"})
	}
	sort.Slice(ns, func(i, j int) bool { return ns[i].Name < ns[j].Name })
	return ns
}

func (g *grpcTop) Dial(ctx context.Context, from, network, addr string) (net.Conn, error) {
	node, _, err := net.SplitHostPort(addr)
	if err != nil || from != cluster.Client {
		return nil, fmt.Errorf("a dial from %s to %s: %w", from, addr, err)
	}
	g.mu.Lock()
	g.dials[node]++
	to := g.addr[node]
	g.mu.Unlock()
	var d net.Dialer
	return d.DialContext(ctx, network, to)
}

// testServer is gRPC's own test service.
type testServer struct {
	itest.UnimplementedTestServiceServer
	mu   sync.Mutex
	ids  []string
	seen []metadata.MD
	sums []int
	act  func(context.Context) error // what a unary call does before it answers
}

func (s *testServer) note(ctx context.Context) {
	md, _ := metadata.FromIncomingContext(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, md)
	s.ids = append(s.ids, md.Get("x-request-id")...)
}

func (s *testServer) EmptyCall(context.Context, *itest.Empty) (*itest.Empty, error) {
	return &itest.Empty{}, nil
}

func (s *testServer) UnaryCall(ctx context.Context, r *itest.SimpleRequest) (*itest.SimpleResponse, error) {
	s.note(ctx)
	if s.act != nil {
		if err := s.act(ctx); err != nil {
			return nil, err
		}
	}
	return &itest.SimpleResponse{Payload: &itest.Payload{Body: make([]byte, r.ResponseSize)}, Username: "ada"}, nil
}

func (s *testServer) StreamingOutputCall(r *itest.StreamingOutputCallRequest, out itest.TestService_StreamingOutputCallServer) error {
	s.note(out.Context())
	for _, p := range r.ResponseParameters {
		time.Sleep(time.Duration(p.IntervalUs) * time.Microsecond)
		if err := out.Send(&itest.StreamingOutputCallResponse{Payload: &itest.Payload{Body: make([]byte, p.Size)}}); err != nil {
			return err
		}
	}
	if len(r.ResponseParameters) == 3 { // a stream without an end
		<-out.Context().Done()
	}
	return nil
}

func (s *testServer) StreamingInputCall(in itest.TestService_StreamingInputCallServer) error {
	s.note(in.Context())
	for n := 0; ; n++ {
		_, err := in.Recv()
		if err == io.EOF {
			s.mu.Lock()
			s.sums = append(s.sums, n)
			s.mu.Unlock()
			return in.SendAndClose(&itest.StreamingInputCallResponse{AggregatedPayloadSize: int32(n)})
		}
		if err != nil {
			return err
		}
	}
}

func (s *testServer) FullDuplexCall(both itest.TestService_FullDuplexCallServer) error {
	s.note(both.Context())
	for {
		_, err := both.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := both.Send(&itest.StreamingOutputCallResponse{}); err != nil {
			return err
		}
	}
}

// grpcNodes starts n servers.
func grpcNodes(t testing.TB, s *testServer, n int, reflect bool) (*grpcTop, []*grpc.Server) {
	top := &grpcTop{addr: map[string]string{}, dials: map[string]int{}}
	var servers []*grpc.Server
	for i := range n {
		ln, err := net.Listen("tcp4", "127.0.0.1:0")
		require.NoError(t, err)
		srv := grpc.NewServer()
		itest.RegisterTestServiceServer(srv, s)
		if reflect {
			reflection.Register(srv)
		}
		done := make(chan struct{})
		go func() { defer close(done); srv.Serve(ln) }()
		t.Cleanup(func() { srv.Stop(); <-done })
		top.addr[fmt.Sprintf("api-%d", i+1)] = ln.Addr().String()
		servers = append(servers, srv)
	}
	return top, servers
}

const testService = "grpc.testing.TestService/"

func grpcLoad(perSecond float64, r plan.Request) plan.Load {
	r.ID = "call"
	return plan.Load{Name: "rpc", To: "api", Stages: constant(perSecond), KeepAlive: true, Timeout: plan.Duration(time.Second), GRPC: &plan.GRPC{}, Requests: []plan.Request{r}}
}

// enough is a Recorder that ends the load with request n.
type enough struct {
	*memory
	n   int
	end context.CancelFunc
}

func (e *enough) Request(load string, r record.Request) {
	if e.memory.Request(load, r); len(e.reqs) >= e.n {
		e.end()
	}
}

// sendCalls runs a gRPC load until there are n requests or more: these connections are real, and the clock is too.
func sendCalls(t *testing.T, top *grpcTop, l plan.Load, n int, meanwhile ...func()) []record.Request {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	e := &enough{newMemory(), n, cancel}
	g, err := New(l, Env{Cluster: top, Record: e, RunID: "run7"})
	require.NoError(t, err)
	for _, f := range meanwhile {
		f()
	}
	require.NoError(t, g.Run(ctx))
	require.GreaterOrEqual(t, len(e.reqs), n)
	return e.reqs
}

// descriptorFile writes those of the test service into a file.
func descriptorFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "test.binpb")
	set := &descriptorpb.FileDescriptorSet{}
	for _, f := range []proto.Message{protodesc.ToFileDescriptorProto(itest.File_grpc_testing_test_proto), protodesc.ToFileDescriptorProto(itest.File_grpc_testing_messages_proto), protodesc.ToFileDescriptorProto(itest.File_grpc_testing_empty_proto)} {
		set.File = append(set.File, f.(*descriptorpb.FileDescriptorProto))
	}
	raw, err := proto.Marshal(set)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, raw, 0o644))
	return file
}

func TestCallsOfEveryKind(t *testing.T) {
	file := descriptorFile(t)
	for name, c := range map[string]struct {
		r    plan.Request
		in   bool // whether the answers have bytes
		long time.Duration
	}{
		"unary": {r: plan.Request{Call: testService + "UnaryCall", Message: json.RawMessage(`{"responseSize":"{{mod .N 5}}","fillUsername":true}`),
			Metadata: map[string]string{"X-Client-ID": "c{{.N}}"}, Expect: plan.Expect{Matches: `"username":"ada"`}}, in: true},
		"server stream": {r: plan.Request{Call: testService + "StreamingOutputCall", Stream: &plan.Stream{Receive: 2},
			Message: json.RawMessage(`{"responseParameters":[{"size":5,"intervalUs":"20000"},{"size":6,"intervalUs":"20000"}]}`)}, in: true, long: 40 * time.Millisecond},
		"server stream without an end": {r: plan.Request{Call: testService + "StreamingOutputCall", Stream: &plan.Stream{Receive: 3},
			Message: json.RawMessage(`{"responseParameters":[{"size":5},{"size":6},{"size":7}]}`)}, in: true},
		"client stream": {r: plan.Request{Call: testService + "StreamingInputCall", Message: json.RawMessage(`{"payload":{"body":"aGVsbG8="}}`),
			Stream: &plan.Stream{Send: 5, Pause: plan.Duration(5 * time.Millisecond)}, Expect: plan.Expect{Matches: `"aggregatedPayloadSize":5`}}, in: true, long: 20 * time.Millisecond},
		"bidi stream":            {r: plan.Request{Call: testService + "FullDuplexCall", Stream: &plan.Stream{Send: 4, Receive: 4}}},
		"bidi stream to the end": {r: plan.Request{Call: testService + "FullDuplexCall", Stream: &plan.Stream{Send: 4}}},
	} {
		for _, descriptors := range []string{"", file} {
			t.Run(fmt.Sprintf("%s, file %v", name, descriptors != ""), func(t *testing.T) {
				s := &testServer{}
				top, _ := grpcNodes(t, s, 2, descriptors == "")
				l := grpcLoad(50, c.r)
				l.GRPC.Descriptors = descriptors
				reqs := sendCalls(t, top, l, 10)
				used := map[string]int{}
				for _, r := range reqs {
					require.True(t, r.OK, r.Error)
					require.Equal(t, record.Answered, r.Outcome)
					require.Equal(t, 200, r.Code)
					require.NotNil(t, r.GRPC)
					require.Zero(t, *r.GRPC)
					require.GreaterOrEqual(t, r.Latency(), c.long)
					require.Equal(t, c.in, r.BytesIn > 0)
					require.Contains(t, s.ids, r.ID, "the id is in the metadata")
					used[r.Node]++
				}
				assert.Len(t, s.ids, len(reqs), "each request is one call")
				assert.InDelta(t, used["api-1"], used["api-2"], 1, "the replicas in turn")
				for node, n := range top.dials {
					want := 1
					if descriptors == "" && node == "api-1" {
						want = 2 // reflection has a connection of its own
					}
					assert.Equal(t, want, n, "one connection to %s", node)
				}
				if name == "unary" {
					assert.Regexp(t, `^c\d+$`, s.seen[0].Get("x-client-id")[0])
				}
			})
		}
	}
}

func TestCallsWithAConnectionEach(t *testing.T) {
	top, _ := grpcNodes(t, &testServer{}, 1, true)
	l := grpcLoad(50, plan.Request{Call: testService + "UnaryCall"})
	l.KeepAlive = false
	reqs := sendCalls(t, top, l, 5)
	for _, r := range reqs {
		require.True(t, r.OK, r.Error)
	}
	assert.Equal(t, len(reqs)+1, top.dials["api-1"])
}

// What the service said is told apart from what only the client knows.
func TestEndingsOfCalls(t *testing.T) {
	for name, c := range map[string]struct {
		act     func(srv *grpc.Server) func(context.Context) error
		codes   []string
		want    record.Ending
		grpc    codes.Code
		http    int
		ok      bool
		says    string
		retryIn bool
	}{
		"shed": {act: func(*grpc.Server) func(context.Context) error {
			return func(ctx context.Context) error {
				grpc.SetTrailer(ctx, metadata.Pairs("retry-after", "1"))
				return status.Error(codes.ResourceExhausted, "too much")
			}
		}, want: record.Answered, grpc: codes.ResourceExhausted, http: 429, says: "status RESOURCE_EXHAUSTED: too much", retryIn: true},
		"shed, by its header": {act: func(*grpc.Server) func(context.Context) error {
			return func(ctx context.Context) error {
				grpc.SetHeader(ctx, metadata.Pairs("retry-after", "1"))
				return status.Error(codes.Unavailable, "too much")
			}
		}, want: record.Answered, grpc: codes.Unavailable, http: 503, says: "status UNAVAILABLE: too much", retryIn: true},
		"shed, by a header of its own": {act: func(*grpc.Server) func(context.Context) error {
			return func(ctx context.Context) error {
				grpc.SendHeader(ctx, metadata.Pairs("retry-after", "1"))
				return status.Error(codes.ResourceExhausted, "too much")
			}
		}, want: record.Answered, grpc: codes.ResourceExhausted, http: 429, says: "status RESOURCE_EXHAUSTED: too much", retryIn: true},
		"expected": {act: func(*grpc.Server) func(context.Context) error {
			return func(context.Context) error { return status.Error(codes.NotFound, "") }
		}, codes: []string{"OK", "NOT_FOUND"}, want: record.Answered, grpc: codes.NotFound, http: 404, ok: true},
		"unavailable by its own word": {act: func(*grpc.Server) func(context.Context) error {
			return func(context.Context) error { return status.Error(codes.Unavailable, "later") }
		}, want: record.Answered, grpc: codes.Unavailable, http: 503, says: "status UNAVAILABLE: later"},
		"silent": {act: func(*grpc.Server) func(context.Context) error {
			return func(context.Context) error { time.Sleep(400 * time.Millisecond); return nil }
		}, want: record.Deadline, says: "no answer within 200ms"},
		"cut": {act: func(srv *grpc.Server) func(context.Context) error {
			return func(ctx context.Context) error { go srv.Stop(); <-ctx.Done(); return nil }
		}, want: record.Reset, says: "connection lost before the answer"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &testServer{}
			top, servers := grpcNodes(t, s, 1, true)
			s.act = c.act(servers[0])
			l := grpcLoad(10, plan.Request{Call: testService + "UnaryCall", Expect: plan.Expect{Codes: c.codes}})
			l.Timeout = plan.Duration(200 * time.Millisecond)
			r := sendCalls(t, top, l, 1)[0]
			assert.Equal(t, c.want, r.Outcome, r.Error)
			assert.Equal(t, c.ok, r.OK)
			assert.Equal(t, c.http, r.Code)
			assert.Equal(t, c.retryIn, r.RetryAfter)
			assert.Contains(t, r.Error, c.says)
			assert.Equal(t, "api-1", r.Node)
			if c.want == record.Answered {
				require.NotNil(t, r.GRPC)
				assert.EqualValues(t, c.grpc, *r.GRPC)
			} else {
				assert.Nil(t, r.GRPC)
			}
		})
	}
}

// A proxy before the service answers in words of its own. That is an answer, and the connection did not break.
func TestCallsThatHTTPAnswers(t *testing.T) {
	for _, code := range []int{http.StatusServiceUnavailable, http.StatusNotFound, http.StatusOK} {
		var protocols http.Protocols
		protocols.SetUnencryptedHTTP2(true)
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.WriteHeader(code)
			_, _ = io.WriteString(w, "by the proxy")
		}))
		srv.Config.Protocols = &protocols
		srv.Start()
		t.Cleanup(srv.Close)
		top := &grpcTop{addr: map[string]string{"api-1": srv.Listener.Addr().String()}, dials: map[string]int{}}
		l := grpcLoad(20, plan.Request{Call: testService + "UnaryCall"})
		l.GRPC.Descriptors = descriptorFile(t)
		for _, r := range sendCalls(t, top, l, 3) {
			assert.Equal(t, record.Answered, r.Outcome, r.Error)
			assert.Equal(t, code, r.Code)
			assert.Nil(t, r.GRPC)
			assert.False(t, r.OK)
			assert.Equal(t, fmt.Sprintf("status %d of HTTP, and none of gRPC", code), r.Error)
		}
	}
}

// A server may refuse a stream before it begins on it, and a call that was moved once is not moved again.
func TestCallsThatAreTurnedAwayAreRefused(t *testing.T) {
	for name, refuse := range map[string]func(f *http2.Framer, stream uint32) error{
		"refused stream": func(f *http2.Framer, stream uint32) error {
			return f.WriteRSTStream(stream, http2.ErrCodeRefusedStream)
		},
		"goaway": func(f *http2.Framer, _ uint32) error { return f.WriteGoAway(0, http2.ErrCodeNo, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			var streams atomic.Int64
			ln, err := net.Listen("tcp4", "127.0.0.1:0")
			require.NoError(t, err)
			var serving sync.WaitGroup
			t.Cleanup(func() { assert.NoError(t, ln.Close()); serving.Wait() })
			serve := func(c net.Conn) {
				defer c.Close()
				if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
					return
				}
				f := http2.NewFramer(c, c)
				if f.WriteSettings() != nil {
					return
				}
				for {
					frame, err := f.ReadFrame()
					if err != nil {
						return
					}
					if h, ok := frame.(*http2.HeadersFrame); ok {
						streams.Add(1)
						if refuse(f, h.StreamID) != nil {
							return
						}
					}
				}
			}
			serving.Go(func() {
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					serving.Go(func() { serve(c) })
				}
			})
			top := &grpcTop{addr: map[string]string{"api-1": ln.Addr().String()}, dials: map[string]int{}}
			// Of many calls, some are turned away while they are still being written.
			const calls = 200
			l := grpcLoad(200, plan.Request{Call: testService + "UnaryCall"})
			l.Timeout = plan.Duration(10 * time.Second)
			l.GRPC.Descriptors = descriptorFile(t)
			for _, r := range sendCalls(t, top, l, calls) {
				assert.Equal(t, record.Refused, r.Outcome, r.Error)
			}
			assert.GreaterOrEqual(t, streams.Load(), int64(2*calls), "each was sent again")
		})
	}
}

func TestLargeAnswersAreAnswers(t *testing.T) {
	top, _ := grpcNodes(t, &testServer{}, 1, true)
	l := grpcLoad(5, plan.Request{Call: testService + "UnaryCall", Message: json.RawMessage(`{"responseSize":5000000}`)})
	l.Timeout = plan.Duration(15 * time.Second)
	r := sendCalls(t, top, l, 1)[0]
	require.True(t, r.OK, r.Error)
	require.Equal(t, record.Answered, r.Outcome)
	require.Greater(t, r.BytesIn, uint64(5000000))
}

func TestCallsToNobodyAreRefused(t *testing.T) {
	top, servers := grpcNodes(t, &testServer{}, 1, true)
	for _, r := range sendCalls(t, top, grpcLoad(20, plan.Request{Call: testService + "UnaryCall"}), 3, servers[0].Stop) {
		assert.Equal(t, record.Refused, r.Outcome, r.Error)
		assert.Zero(t, r.Code)
		assert.Nil(t, r.GRPC)
		assert.Contains(t, r.Error, "connecting to api-1")
	}
}

func TestBadCalls(t *testing.T) {
	top, _ := grpcNodes(t, &testServer{}, 1, true)
	bad := func(r plan.Request, change func(*plan.Load), want ...string) {
		t.Helper()
		l := grpcLoad(1, r)
		if change != nil {
			change(&l)
		}
		_, err := New(l, Env{Cluster: top, Record: newMemory()})
		for _, w := range append(want, "load rpc") {
			require.ErrorContains(t, err, w)
		}
	}
	unary := plan.Request{Call: testService + "UnaryCall"}
	bad(plan.Request{Call: testService + "UnaryCal"}, nil, "has no method UnaryCal", "EmptyCall")
	bad(plan.Request{Call: "grpc.testing.Test/X"}, nil, "does not describe grpc.testing.Test")
	bad(plan.Request{Call: testService + "UnaryCall", Message: json.RawMessage(`{"size":3}`)}, nil, "request call", "size")
	bad(plan.Request{Call: testService + "UnaryCall", Stream: &plan.Stream{Send: 3}}, nil, "takes one message, not 3")
	bad(plan.Request{Call: testService + "StreamingInputCall", Stream: &plan.Stream{Receive: 3}}, nil, "answers with one message")
	bad(plan.Request{Call: testService + "UnaryCall", Expect: plan.Expect{Codes: []string{"NOPE"}}}, nil, `"NOPE" is no gRPC status`)
	bad(unary, func(l *plan.Load) { l.GRPC.Descriptors = "none" }, "reading descriptors")
	bad(unary, func(l *plan.Load) { l.GRPC.Descriptors = "grpc_test.go" }, "is no FileDescriptorSet")
	bad(unary, func(l *plan.Load) { l.Requests = nil }, "needs requests")
	plain, _ := grpcNodes(t, &testServer{}, 1, false)
	_, err := New(grpcLoad(1, unary), Env{Cluster: plain, Record: newMemory()})
	require.ErrorContains(t, err, "descriptors: FILE")
}

// A stream of too few messages is not good.
func TestShortStreams(t *testing.T) {
	top, _ := grpcNodes(t, &testServer{}, 1, true)
	l := grpcLoad(20, plan.Request{Call: testService + "StreamingOutputCall", Stream: &plan.Stream{Receive: 4}, Message: json.RawMessage(`{"responseParameters":[{"size":5}]}`)})
	for _, r := range sendCalls(t, top, l, 2) {
		assert.False(t, r.OK)
		assert.Equal(t, "1 messages, not 4", r.Error)
		assert.Equal(t, record.Answered, r.Outcome)
	}
}

func TestAgain(t *testing.T) {
	for want, trailers := range map[bool][]metadata.MD{
		true:  {metadata.Pairs("retry-after", "1"), metadata.Pairs("grpc-retry-pushback-ms", "0"), metadata.Pairs("Grpc-Retry-Pushback-Ms", "250")},
		false: {nil, metadata.Pairs("grpc-retry-pushback-ms", "-1"), metadata.Pairs("grpc-retry-pushback-ms", "soon"), metadata.Pairs("grpc-status", "14")},
	} {
		for _, trailer := range trailers {
			require.Equal(t, want, again(trailer), "%v", trailer)
		}
	}
}
