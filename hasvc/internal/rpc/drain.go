package rpc

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errDraining is why the context of a stream ends when its replica is about to stop.
var errDraining = errors.New("the replica is about to stop")

// Streams ends the streams of a server that is about to stop. A stream lives as long as its client likes, so waiting for it, as
// for a call in flight, would be in vain; cut off, the client could not tell a replica that leaves from one that died. Ended
// with UNAVAILABLE, at the begin of the drain delay, it is resumed elsewhere while the replica still serves.
type Streams struct {
	draining context.Context
	drain    context.CancelFunc
}

// NewStreams returns the streams of one server.
func NewStreams() *Streams {
	s := &Streams{}
	s.draining, s.drain = context.WithCancel(context.Background())
	return s
}

// Drain ends all streams, and each new one at once.
func (s *Streams) Drain() { s.drain() }

// Server is the interceptor. A handler only has to end when the context of its stream does, or when it cannot receive.
func (s *Streams) Server(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	ctx, cancel := context.WithCancelCause(ss.Context())
	defer cancel(nil)
	stop := context.AfterFunc(s.draining, func() { cancel(errDraining) })
	defer stop()
	err := handle(srv, draining{ss, ctx})
	if err != nil && errors.Is(context.Cause(ctx), errDraining) {
		resumeAtOnce(ss)
		return status.Error(codes.Unavailable, errDraining.Error()+"; resume at another one")
	}
	return err
}

// draining is a stream that can end before its client ends it.
type draining struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (d draining) Context() context.Context { return d.ctx }

// RecvMsg implements grpc.ServerStream. It returns when the context ends; what is still waiting for a message then returns when
// the handler has, because that ends the stream.
func (d draining) RecvMsg(m any) error {
	received := make(chan error, 1)
	go func() { received <- d.ServerStream.RecvMsg(m) }()
	select {
	case err := <-received:
		return err
	case <-d.ctx.Done():
		return Ended(d.ctx)
	}
}

// Ended is the status of a stream whose context has ended: gRPC makes it of a context's error only after those have seen it who
// count and log it.
func Ended(ctx context.Context) error {
	return status.FromContextError(ctx.Err()).Err()
}
