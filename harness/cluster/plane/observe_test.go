package plane

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// web serves HTTP in a node until the test ends.
func (n *testNode) web(t testing.TB, port int) {
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %d", r.URL.Path, len(b))
	})}
	l := n.listen(port)
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() { s.Close(); serving.Wait() })
}

// browser is a client in a node that keeps one connection.
func (n *testNode) browser(to *testNode, port int) *http.Client {
	return &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return n.dial(to.addr, port, patient)
	}}}
}

func post(t testing.TB, c *http.Client, path string, body string) int {
	t.Helper()
	resp, err := c.Post("http://node"+path, "", strings.NewReader(body))
	require.NoError(t, err)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	if resp.StatusCode == 200 {
		require.Equal(t, fmt.Sprint(path, " ", len(body)), string(b))
	}
	return resp.StatusCode
}

// taken are the calls that were read so far, as soon as there are so many.
func (s *star) taken(n int) (cs []Call) {
	s.t.Helper()
	until(s.t, fmt.Sprint(n, " calls"), func() bool {
		for {
			got := s.r.Calls()
			cs = append(cs, got.Calls...)
			if !got.More {
				return len(cs) >= n
			}
		}
	})
	require.Len(s.t, cs, n)
	return cs
}

func TestCallsAreReadOnObservedLinksAlone(t *testing.T) {
	inPlane(t, func() {
		s := newStar(t, 3)
		a, b, c := s.nodes[0], s.nodes[1], s.nodes[2]
		require.NoError(t, s.r.Observe([]AddrLink{s.link(1, 2)}, false))
		b.web(t, 9000)
		serve(t, b.listen(9001), echo)
		read, other := a.browser(b, 9000), c.browser(b, 9000)
		for i := range 20 {
			require.Equal(t, 200, post(t, read, fmt.Sprint("/", i), strings.Repeat("x", i*5000)))
			require.Equal(t, 200, post(t, other, "/other", ""))
		}
		require.Equal(t, 1, s.coreConns(), "the other link does not go through the core")
		cs := s.taken(20)
		for i, c := range cs {
			require.Equal(t, fmt.Sprint("node-1 node-2 9000 /", i, " 200 http/1.1 POST"), fmt.Sprint(c.From, " ", c.To, " ", c.Port, " ", c.Path, " ", c.Status, " ", c.Proto, " ", c.Method))
		}
		_, err := roundTrip(a.mustDial(b, 9001), patient) // a probe
		require.NoError(t, err)
		k := a.mustDial(b, 9001) // no HTTP
		_, err = k.Write([]byte("\x01\x02 whatever this is it is none"))
		require.NoError(t, err)
		require.NoError(t, k.CloseWrite())
		back, err := io.ReadAll(k)
		require.NoError(t, err)
		require.Equal(t, "\x01\x02 whatever this is it is none", string(back))
		read.CloseIdleConnections()
		require.Equal(t, []Observed{{From: "node-1", To: "node-2", Calls: 20, Unreadable: 1, Why: "the client does not speak HTTP"}}, s.r.CallsEnd(t.Context()))
	})
}

// What the harness sends to a listener of its own is not read; the same bytes to a program that speaks no HTTP are missed.
func TestAProbeIsNoCall(t *testing.T) {
	inPlane(t, func() {
		s := newStar(t, 2)
		a, b := s.nodes[0], s.nodes[1]
		require.NoError(t, s.r.Observe([]AddrLink{s.link(1, 2)}, true))
		serve(t, b.listen(9000), echo)
		transfer := func() {
			c := a.mustDial(b, 9000)
			_, err := c.Write(make([]byte, 5000))
			require.NoError(t, errors.Join(err, c.CloseWrite(), c.SetDeadline(time.Now().Add(patient))))
			back, err := io.ReadAll(c)
			require.NoError(t, err)
			require.Len(t, back, 5000)
		}
		at := netip.AddrPortFrom(b.addr, 9000)
		s.r.Probe(at, true)
		transfer()
		require.Empty(t, s.r.CallsEnd(t.Context()))
		s.r.Probe(at, false)
		transfer()
		read := s.r.CallsEnd(t.Context())
		require.Len(t, read, 1)
		require.EqualValues(t, 1, read[0].Unreadable, read[0].Why)
	})
}

// TestACutCallEndsWhenItIsCut has a client that keeps its end open after the toxic has closed the connection.
func TestACutCallEndsWhenItIsCut(t *testing.T) {
	inPlane(t, func() {
		s := newStar(t, 2)
		a, b := s.nodes[0], s.nodes[1]
		require.NoError(t, s.r.Observe([]AddrLink{s.link(1, 2)}, false))
		serve(t, b.listen(9000), func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
		s.apply(toxic("timeout", "downstream", `{"timeout": 100}`), s.link(1, 2))
		c := a.mustDial(b, 9000)
		_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: node\r\n\r\n")
		require.NoError(t, err)
		require.NoError(t, c.SetReadDeadline(time.Now().Add(patient)))
		_, err = c.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		seen := s.r.observer.now()
		call := s.taken(1)[0]
		require.Equal(t, "reset", call.Error)
		require.Less(t, call.End, seen)
	})
}

func TestRepliesStrikeWhatTheSeedSaysAndHealAtOnce(t *testing.T) {
	inPlane(t, func() {
		s := newStar(t, 2)
		a, b := s.nodes[0], s.nodes[1]
		require.NoError(t, s.r.Observe([]AddrLink{s.link(1, 2)}, true))
		b.web(t, 9000)
		c := a.browser(b, 9000)
		require.Equal(t, 200, post(t, c, "/before", ""))
		const asked = 300
		id := s.apply(cluster.Rule{Reply: &cluster.Reply{HTTP: &cluster.HTTPReply{Status: 503, Body: "no"}, Path: "^/x", Share: 0.3, Seed: 5}}, s.link(1, 2))
		struck := uint64(0)
		for n := range uint64(asked) {
			require.Equal(t, 200, post(t, c, "/other", "some"))
			want := 200
			if unit(mix(5, n)) < 0.3 {
				want = 503
				struck++
			}
			require.Equal(t, want, post(t, c, "/x", strings.Repeat("b", int(n)*10)), "request %d", n)
		}
		require.InDelta(t, 0.3*asked, struck, 25)
		require.Equal(t, struck, s.counter(id).Packets)
		require.EqualValues(t, asked, s.counter(id).Bytes)
		s.remove(id)
		for range 50 {
			require.Equal(t, 200, post(t, c, "/x", ""))
		}
		require.Equal(t, 1, s.coreConns(), "one connection all the time")
		injected := uint64(0)
		for _, c := range s.taken(1 + 2*asked + 50) {
			if c.Injected {
				injected++
				require.Equal(t, 503, c.Status)
			}
		}
		require.Equal(t, struck, injected)

		first := s.apply(cluster.Rule{Reply: &cluster.Reply{HTTP: &cluster.HTTPReply{Status: 429}, First: 2}}, s.link(1, 2))
		slow := s.apply(ruleLatency("downstream", 50, 0, 1), s.link(1, 2))
		begin := time.Now()
		require.Equal(t, 429, post(t, c, "/x", ""))
		require.GreaterOrEqual(t, time.Since(begin), 50*time.Millisecond, "an answer of ours is as late as one of the server's")
		require.Equal(t, 429, post(t, c, "/x", ""))
		require.Equal(t, 200, post(t, c, "/x", ""))
		s.remove(first)
		s.remove(slow)
		// An answer is given, and counts, when its request is whole; one whose rest has not come when the reply ends, then.
		owed := s.apply(cluster.Rule{Reply: &cluster.Reply{HTTP: &cluster.HTTPReply{Status: 503, Body: "no"}, First: 1}}, s.link(1, 2))
		half := a.mustDial(b, 9000)
		require.NoError(t, half.SetDeadline(time.Now().Add(2*patient)))
		_, err := io.WriteString(half, "POST /x HTTP/1.1\r\nHost: node\r\nContent-Length: 10\r\n\r\nabc")
		require.NoError(t, err)
		until(t, "its head has come", func() bool { return s.counter(owed).Bytes == 1 })
		require.Zero(t, s.counter(owed).Packets)
		s.remove(owed)
		all, err := io.ReadAll(half)
		require.NoError(t, err)
		require.Contains(t, string(all), " 503 Service Unavailable\r\n")
		require.Contains(t, string(all), "Connection: close\r\n")
		require.True(t, strings.HasSuffix(string(all), "\r\n\r\nno"))
		require.NoError(t, half.Close())
		for _, bad := range []cluster.Reply{
			{HTTP: &cluster.HTTPReply{Status: 503, RetryAfter: "1\r\nX: y"}, Share: 1},
			{}, {HTTP: &cluster.HTTPReply{Status: 200}, Share: 1}, {HTTP: &cluster.HTTPReply{Status: 500}}, {HTTP: &cluster.HTTPReply{Status: 500}, Share: 1.5},
			{HTTP: &cluster.HTTPReply{Status: 500}, First: 1, Every: 2}, {HTTP: &cluster.HTTPReply{Status: 500}, Share: 1, Path: "("}, {GRPC: &cluster.GRPCReply{Code: 17}, Share: 1},
			{GRPC: &cluster.GRPCReply{Code: 1}, HTTP: &cluster.HTTPReply{Status: 500}, Share: 1},
		} {
			_, err := s.r.Apply([]AddrLink{s.link(1, 2)}, cluster.Rule{Reply: &bad})
			require.Error(t, err, "%+v", bad)
		}
		left, err := s.r.Audit()
		require.NoError(t, err)
		require.Empty(t, left)
	})
}

// TestNothingIsAnsweredBehindTheServersEnd has slow_close hold the end of a server's stream back: what a client asks meanwhile is
// too late for an answer.
func TestNothingIsAnsweredBehindTheServersEnd(t *testing.T) {
	inPlane(t, func() {
		s := newStar(t, 2)
		a, b := s.nodes[0], s.nodes[1]
		require.NoError(t, s.r.Observe([]AddrLink{s.link(1, 2)}, true))
		late := make(chan string, 1)
		serve(t, b.listen(9000), func(c *net.TCPConn) {
			r := bufio.NewReader(c)
			_, err := http.ReadRequest(r)
			if err == nil {
				_, err = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
			}
			if err = errors.Join(err, c.CloseWrite()); err != nil {
				late <- err.Error()
				return
			}
			q, err := http.ReadRequest(r)
			if err != nil {
				late <- err.Error()
				return
			}
			late <- q.URL.Path
		})
		struck := s.apply(cluster.Rule{Reply: &cluster.Reply{HTTP: &cluster.HTTPReply{Status: 503}, Path: "^/x", Share: 1}}, s.link(1, 2))
		slow := s.apply(toxic("slow_close", "downstream", `{"delay": 60000}`), s.link(1, 2))
		c := a.mustDial(b, 9000)
		require.NoError(t, c.SetDeadline(time.Now().Add(2*patient)))
		_, err := io.WriteString(c, "GET /first HTTP/1.1\r\nHost: node\r\n\r\n")
		require.NoError(t, err)
		r := bufio.NewReader(c)
		resp, err := http.ReadResponse(r, nil)
		require.NoError(t, err)
		require.Equal(t, 204, resp.StatusCode)
		until(t, "the end is held", func() bool { return s.counter(slow).Packets == 1 })
		_, err = io.WriteString(c, "GET /x HTTP/1.1\r\nHost: node\r\n\r\n")
		require.NoError(t, err)
		select {
		case path := <-late:
			require.Equal(t, "/x", path)
		case <-time.After(patient):
			require.Fail(t, "the request was answered, or lost")
		}
		require.NoError(t, c.CloseWrite())
		s.remove(slow)
		rest, err := io.ReadAll(r)
		require.NoError(t, err)
		require.Empty(t, rest)
		require.Zero(t, s.counter(struck).Packets)
		for _, c := range s.taken(2) {
			require.False(t, c.Injected, c.Path)
		}
	})
}

type duplex struct {
	testpb.UnimplementedTestServiceServer
}

func (duplex) FullDuplexCall(st testpb.TestService_FullDuplexCallServer) error {
	for {
		in, err := st.Recv()
		if err != nil {
			return nil
		}
		if err := st.Send(&testpb.StreamingOutputCallResponse{Payload: in.Payload}); err != nil {
			return err
		}
	}
}

// TestRepliesBesideLiveStreams has streams of gRPC run on while calls beside them are answered, under a toxic that comes and goes.
func TestRepliesBesideLiveStreams(t *testing.T) {
	inPlane(t, func() {
		s := newStar(t, 2)
		a, b := s.nodes[0], s.nodes[1]
		require.NoError(t, s.r.Observe([]AddrLink{s.link(1, 2)}, true))
		g := grpc.NewServer()
		testpb.RegisterTestServiceServer(g, duplex{})
		l := b.listen(9000)
		var serving sync.WaitGroup
		serving.Go(func() { _ = g.Serve(l) })
		defer serving.Wait()
		defer g.Stop()
		cc, err := grpc.NewClient("passthrough:///node", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return a.dial(b.addr, 9000, patient) }))
		require.NoError(t, err)
		defer cc.Close()
		c := testpb.NewTestServiceClient(cc)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		st, err := c.FullDuplexCall(ctx)
		require.NoError(t, err)
		id := s.apply(cluster.Rule{Reply: &cluster.Reply{GRPC: &cluster.GRPCReply{Code: int(codes.ResourceExhausted), Message: "full"}, Path: "EmptyCall$", Every: 2}}, s.link(1, 2))
		for i := range 60 {
			toxic := s.apply(ruleLatency("downstream", 1, 0, 1), s.link(1, 2))
			require.NoError(t, st.Send(&testpb.StreamingOutputCallRequest{Payload: &testpb.Payload{Body: make([]byte, i*1000)}}))
			_, err := c.EmptyCall(ctx, &testpb.Empty{})
			require.Equal(t, []codes.Code{codes.Unimplemented, codes.ResourceExhausted}[i%2], status.Code(err), "call %d: %v", i, err)
			s.remove(toxic)
			in, err := st.Recv()
			require.NoError(t, err)
			require.Len(t, in.Payload.GetBody(), i*1000)
		}
		require.EqualValues(t, 30, s.counter(id).Packets)
		s.remove(id)
		_, err = c.EmptyCall(ctx, &testpb.Empty{})
		require.Equal(t, codes.Unimplemented, status.Code(err))
		require.NoError(t, st.CloseSend())
		_, err = st.Recv()
		require.Equal(t, io.EOF, err)
		s.taken(62)
	})
}
