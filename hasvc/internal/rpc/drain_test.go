package rpc

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// connected serves until the end of the test, and returns a connection.
func connected(t *testing.T, server *grpc.Server) *grpc.ClientConn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); require.NoError(t, <-done) })
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

// A stream that its client ends is counted and logged as that.
func TestLeftStream(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	see := func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
		err := handle(srv, ss)
		ended <- err
		return err
	}
	server := grpc.NewServer(grpc.ChainStreamInterceptor(see, NewStreams().Server), grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error {
		if err := ss.SendHeader(nil); err != nil {
			return err
		}
		<-ss.Context().Done()
		return Ended(ss.Context())
	}))
	conn := connected(t, server)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/test/Stream")
	require.NoError(t, err)
	_, err = s.Header()
	require.NoError(t, err)
	leave()
	require.Equal(t, codes.Canceled, status.Code(<-ended))
}

// The client of a stream that is ended can tell that it goes on elsewhere, and when: at once. Also where the handler was about
// to blame what it depends on, for its calls end with the stream.
func TestDrainedStream(t *testing.T) {
	t.Parallel()
	streams := NewStreams()
	server := grpc.NewServer(grpc.StreamInterceptor(streams.Server), grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error {
		if err := ss.SendHeader(nil); err != nil {
			return err
		}
		<-ss.Context().Done()
		DoNotRetry(ss.Context())
		return status.Error(codes.Unavailable, "the store is away")
	}))
	conn := connected(t, server)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/test/Stream")
	require.NoError(t, err)
	_, err = s.Header()
	require.NoError(t, err)
	streams.Drain()
	err = s.RecvMsg(&emptypb.Empty{})
	require.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
	require.Equal(t, []string{"0"}, s.Trailer().Get(pushback))
	require.False(t, pushedBack(s.Trailer()), "which is not to say that nobody else can")
}
