package plane

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
)

// Handler answers one method. It owns the files it is given; the files it returns are sent and then closed. ctx ends
// when the caller waits no longer or the connection is gone.
type Handler func(ctx context.Context, body json.RawMessage, files []*os.File) (reply any, replyFiles []*os.File, err error)

// Server is the plane's end of the connection.
type Server struct {
	conn     Conn
	handlers map[string]Handler

	mu      sync.Mutex
	cancels map[uint64]context.CancelFunc
}

// NewServer returns a server that is not yet serving. The map of handlers is not changed after.
func NewServer(conn Conn, handlers map[string]Handler) *Server {
	return &Server{conn: conn, handlers: handlers, cancels: map[uint64]context.CancelFunc{}}
}

// Serve answers calls, each in a goroutine of its own, until the harness is gone (nil), the connection fails (the
// error) or ctx ends (its error). Then it cancels what is under way and returns when the last handler has.
func (s *Server) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { s.conn.Close() })
	var handling sync.WaitGroup
	defer func() {
		cancel()
		handling.Wait()
		stop()
		s.conn.Close()
	}()
	for {
		msg, files, err := s.conn.Recv()
		switch {
		case err != nil && ctx.Err() != nil:
			return ctx.Err()
		case err != nil && peerEnded(err):
			return nil
		case err != nil:
			return fmt.Errorf("plane: receiving from the harness: %w", err)
		}
		var e envelope
		if err := json.Unmarshal(msg, &e); err != nil {
			closeFiles(files)
			return fmt.Errorf("plane: the harness sent no message of the protocol: %w", err)
		}
		switch e.Kind {
		case kindCall:
			// Registered here, in the order of arrival, so that a cancel message finds it.
			callCtx := s.register(ctx, e.ID)
			handling.Go(func() {
				defer s.unregister(e.ID)
				s.answer(callCtx, e, files)
			})
		case kindCancel:
			closeFiles(files)
			s.cancel(e.ID)
		default:
			closeFiles(files)
		}
	}
}

// Notify sends a message that answers no call. It may block while the harness does not read.
func (s *Server) Notify(topic string, body any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("plane: encoding a notification of %s: %w", topic, err)
	}
	return s.send(envelope{Kind: kindNotify, Name: topic, Body: b}, nil)
}

func (s *Server) register(ctx context.Context, id uint64) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancels[id] = cancel
	return ctx
}

func (s *Server) unregister(id uint64) {
	s.mu.Lock()
	cancel := s.cancels[id]
	delete(s.cancels, id)
	s.mu.Unlock()
	cancel()
}

func (s *Server) cancel(id uint64) {
	s.mu.Lock()
	cancel := s.cancels[id]
	s.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

func (s *Server) answer(ctx context.Context, call envelope, files []*os.File) {
	reply := envelope{Kind: kindReply, ID: call.ID}
	body, out, err := s.handle(ctx, call, files)
	defer closeFiles(out)
	if err == nil {
		reply.Body, err = json.Marshal(body)
	}
	reply.Err = toWire(err)
	if err := s.send(reply, out); err != nil {
		// Descriptors (too many in flight, say) or a reply that is too long may not pass where a few words do.
		reply.Body, reply.Err = nil, toWire(fmt.Errorf("plane: %s: the reply could not be sent: %w", call.Name, err))
		_ = s.send(reply, nil) // a connection that is gone shows in Serve
	}
}

// handle calls the handler. A panic there is an error of that call: the plane holds every node, and none of them did
// anything wrong.
func (s *Server) handle(ctx context.Context, call envelope, files []*os.File) (body any, out []*os.File, err error) {
	h := s.handlers[call.Name]
	if h == nil {
		closeFiles(files)
		return nil, nil, fmt.Errorf("plane: it has no method %q", call.Name)
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("plane: %s panicked: %v\n%s", call.Name, p, debug.Stack())
		}
	}()
	return h(ctx, call.Body, files)
}

func (s *Server) send(e envelope, files []*os.File) error {
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("plane: encoding a message: %w", err)
	}
	return s.conn.Send(b, files)
}
