package role

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"
)

// grpcServer serves until it is stopped.
type grpcServer struct {
	server *grpc.Server
	done   chan struct{}
}

func serveGRPC(l net.Listener, server *grpc.Server, failed func(error)) *grpcServer {
	s := &grpcServer{server: server, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		if err := server.Serve(l); err != nil {
			failed(fmt.Errorf("serving gRPC on %s: %w", l.Addr(), err))
		}
	}()
	return s
}

// finish tells clients to go elsewhere and waits for calls in flight.
func (s *grpcServer) finish(ctx context.Context) error {
	graceful := make(chan struct{})
	go func() {
		defer close(graceful)
		s.server.GracefulStop()
	}()
	var err error
	select {
	case <-graceful:
	case <-ctx.Done():
		err = fmt.Errorf("waiting for calls in flight: %w", ctx.Err())
		s.server.Stop() // which ends GracefulStop too
		<-graceful
	}
	<-s.done
	return err
}

func (s *grpcServer) abort() {
	s.server.Stop()
	<-s.done
}
