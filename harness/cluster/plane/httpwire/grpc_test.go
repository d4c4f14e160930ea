package httpwire

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

type service struct {
	testpb.UnimplementedTestServiceServer
	reached atomic.Int64
}

func (s *service) UnaryCall(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	s.reached.Add(1)
	grpc.SetTrailer(ctx, metadata.Pairs("x-sum", fmt.Sprint(len(in.Payload.GetBody()))))
	if c := in.GetResponseStatus(); c != nil {
		return nil, status.Error(codes.Code(c.Code), c.Message)
	}
	return &testpb.SimpleResponse{Payload: in.Payload}, nil
}

func (s *service) FullDuplexCall(st testpb.TestService_FullDuplexCallServer) error {
	s.reached.Add(1)
	for {
		in, err := st.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := st.Send(&testpb.StreamingOutputCallResponse{Payload: in.Payload}); err != nil {
			return err
		}
	}
}

// serveGRPC returns a server's address, and a client past a relay.
func serveGRPC(t testing.TB, choose func(Request) *Answer, opts ...grpc.DialOption) (*service, *grpc.Server, *relay, testpb.TestServiceClient) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	s, g := &service{}, grpc.NewServer()
	testpb.RegisterTestServiceServer(g, s)
	var serving sync.WaitGroup
	serving.Go(func() { _ = g.Serve(l) })
	t.Cleanup(func() { g.Stop(); serving.Wait() })
	r := newRelay(t, l.Addr().String(), choose)
	c, err := grpc.NewClient("passthrough:///"+r.addr(), append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())...)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return s, g, r, testpb.NewTestServiceClient(c)
}

func payload(n int) *testpb.Payload { return &testpb.Payload{Body: []byte(strings.Repeat("p", n))} }

func TestReaderReadsGRPC(t *testing.T) {
	_, g, r, c := serveGRPC(t, nil)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-request-id", "one", "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	_, err := c.UnaryCall(ctx, &testpb.SimpleRequest{Payload: payload(100_000)})
	require.NoError(t, err)
	_, err = c.UnaryCall(ctx, &testpb.SimpleRequest{ResponseStatus: &testpb.EchoStatus{Code: int32(codes.NotFound), Message: "ü"}})
	require.Equal(t, codes.NotFound, status.Code(err))
	_, err = c.EmptyCall(ctx, &testpb.Empty{}) // unimplemented: trailers only
	require.Equal(t, codes.Unimplemented, status.Code(err))
	cs := r.seen(3)
	for i, want := range []int{0, 5, 12} {
		require.Equal(t, want, *cs[i].GRPCStatus)
		require.Equal(t, []any{"grpc", "POST", "one", "0af7651916cd43dd8448eb211c80319c", 200, ""},
			[]any{cs[i].Proto, cs[i].Method, cs[i].RequestID, cs[i].TraceID, cs[i].Status, cs[i].Error})
	}
	require.Equal(t, "/grpc.testing.TestService/UnaryCall", cs[0].Path)

	st, err := c.FullDuplexCall(ctx)
	require.NoError(t, err)
	for range 20 {
		require.NoError(t, st.Send(&testpb.StreamingOutputCallRequest{Payload: payload(1000)}))
		_, err := st.Recv()
		require.NoError(t, err)
	}
	require.NoError(t, st.CloseSend())
	_, err = st.Recv()
	require.Equal(t, io.EOF, err)
	require.Equal(t, 0, *r.seen(4)[3].GRPCStatus)

	cancelled, cancel := context.WithCancel(ctx)
	st, err = c.FullDuplexCall(cancelled)
	require.NoError(t, err)
	require.NoError(t, st.Send(&testpb.StreamingOutputCallRequest{Payload: payload(1)}))
	_, err = st.Recv()
	require.NoError(t, err)
	cancel()
	require.Equal(t, Cancelled, r.seen(5)[4].Error)
	require.Nil(t, r.seen(5)[4].GRPCStatus)

	st, err = c.FullDuplexCall(ctx)
	require.NoError(t, err)
	require.NoError(t, st.Send(&testpb.StreamingOutputCallRequest{}))
	_, err = st.Recv()
	require.NoError(t, err)
	g.Stop()
	require.NotEmpty(t, r.seen(6)[5].Error)
	r.readable()
}

func TestProxyAnswersGRPC(t *testing.T) {
	s, _, r, c := serveGRPC(t, every(3, "/grpc.testing.TestService/", &Answer{Code: int(codes.Unavailable), Message: "nicht da: ü 100%"}))
	ctx := t.Context()
	struck, asked := 0, 0
	strikes := func() bool { asked++; return asked%3 == 0 }
	check := func(err error) {
		t.Helper()
		struck++
		require.Equal(t, codes.Unavailable, status.Code(err))
		require.Equal(t, "nicht da: ü 100%", status.Convert(err).Message())
	}
	for i := range 60 {
		var trailer metadata.MD
		out, err := c.UnaryCall(metadata.AppendToOutgoingContext(ctx, "x-some", fmt.Sprint("value ", i%7)), &testpb.SimpleRequest{Payload: payload(i * 3000)}, grpc.Trailer(&trailer))
		if strikes() {
			check(err)
		} else {
			require.NoError(t, err)
			require.Len(t, out.Payload.GetBody(), i*3000)
			require.Equal(t, []string{fmt.Sprint(i * 3000)}, trailer.Get("x-sum"))
		}
		st, err := c.FullDuplexCall(ctx)
		require.NoError(t, err)
		if strikes() {
			for err == nil { // the client hears of it while it sends
				err = st.Send(&testpb.StreamingOutputCallRequest{Payload: payload(10_000)})
			}
			_, err = st.Recv()
			check(err)
			continue
		}
		for k := range 10 {
			require.NoError(t, st.Send(&testpb.StreamingOutputCallRequest{Payload: payload(k * 1000)}))
			in, err := st.Recv()
			require.NoError(t, err)
			require.Len(t, in.Payload.GetBody(), k*1000)
		}
		require.NoError(t, st.CloseSend())
		_, err = st.Recv()
		require.Equal(t, io.EOF, err)
	}
	require.Equal(t, 40, struck)
	require.Equal(t, 1, r.conns)
	require.Len(t, r.injected, 40)
	require.Equal(t, 14, *r.injected[0].GRPCStatus)
	require.Len(t, r.seen(80), 80)
	require.EqualValues(t, 80, s.reached.Load())
	r.readable()
}

// TestProxyLosesNoWindow has clients send much on calls that are answered here: what they were granted for it they are
// granted again, or the connection would stall.
func TestProxyLosesNoWindow(t *testing.T) {
	_, _, r, c := serveGRPC(t, every(2, "/", &Answer{Code: 14}), grpc.WithInitialWindowSize(65535), grpc.WithInitialConnWindowSize(65535))
	var running sync.WaitGroup
	var struck atomic.Int64
	for range 8 {
		running.Go(func() {
			for range 25 {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				_, err := c.UnaryCall(ctx, &testpb.SimpleRequest{Payload: payload(60_000)})
				cancel()
				switch status.Code(err) {
				case codes.Unavailable:
					struck.Add(1)
				case codes.OK:
				default:
					t.Errorf("%v", err)
				}
			}
		})
	}
	running.Wait()
	require.EqualValues(t, 100, struck.Load())
	require.Len(t, r.seen(100), 100)
}

func TestProxyLetsAServerGo(t *testing.T) {
	_, g, r, c := serveGRPC(t, every(2, "/", &Answer{Code: 14}))
	st, err := c.FullDuplexCall(t.Context())
	require.NoError(t, err)
	require.NoError(t, st.Send(&testpb.StreamingOutputCallRequest{Payload: payload(10)}))
	_, err = st.Recv()
	require.NoError(t, err)
	_, err = c.UnaryCall(t.Context(), &testpb.SimpleRequest{})
	require.Equal(t, codes.Unavailable, status.Code(err))
	stopped := make(chan struct{})
	go func() { g.GracefulStop(); close(stopped) }()
	for range 50 { // the stream goes on after the GOAWAY
		require.NoError(t, st.Send(&testpb.StreamingOutputCallRequest{Payload: payload(1000)}))
		_, err = st.Recv()
		require.NoError(t, err)
	}
	require.NoError(t, st.CloseSend())
	_, err = st.Recv()
	require.Equal(t, io.EOF, err)
	select {
	case <-stopped:
	case <-time.After(10 * time.Second):
		require.Fail(t, "the server does not come to its end")
	}
	require.Equal(t, 0, *r.seen(1)[0].GRPCStatus)
}
