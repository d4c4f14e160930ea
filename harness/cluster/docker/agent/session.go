package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"github.com/hashicorp/yamux"

	"github.com/hasvc/gauntlet/harness/cluster/plane"
)

// Session is the harness's end of the connection with the agent in a container. Its methods may be called from several
// goroutines.
type Session struct {
	mux     *yamux.Session
	control *plane.Client
	running sync.WaitGroup
	done    chan struct{}
	err     error // valid when done is closed

	mu        sync.Mutex
	listeners map[uint32]*listener
}

// NewSession starts to speak with the agent whose standard streams these are; stdout without those of others (the
// engine sends it with stderr in one stream, which is to be taken apart before). It takes both over. stdout must end
// when stdin is closed, or be an io.Closer whose Close ends its Read. That nobody answers shows in the first call.
func NewSession(stdin io.WriteCloser, stdout io.Reader) (*Session, error) {
	mux, err := yamux.Client(newDuplex(stdout, stdin), muxConfig())
	if err != nil {
		return nil, fmt.Errorf("agent: opening a session: %w", err)
	}
	control, err := mux.OpenStream()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("agent: opening a session: %w", err), mux.Close())
	}
	s := &Session{mux: mux, done: make(chan struct{}), listeners: map[uint32]*listener{}}
	s.control = plane.NewClient(plane.NewStreamConn(callStream{control}), nil)
	s.running.Go(s.accept)
	return s, nil
}

// Control returns the client for calls.
func (s *Session) Control() *plane.Client { return s.control }

// Router returns the router of the plane.
func (s *Session) Router() plane.RemoteRouter { return plane.RemoteRouter{Client: s.control} }

// Done is closed when the session has ended: by Close, with the container, or with the connection to it.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err says why, and is nil before. errors.Is(Err, plane.ErrGone) holds.
func (s *Session) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Close ends the session, with every connection and listener of it, and returns when all have ended. The agent ends by itself then, a pod
// when it is its turn.
func (s *Session) Close() error {
	err := s.mux.Close() // before anything that would have to send
	s.running.Wait()
	_ = s.control.Close() // its connection is gone, it waits for its goroutines
	if err != nil {
		return fmt.Errorf("agent: closing a session: %w", err)
	}
	return nil
}

// accept takes the streams that the agent opens, until the session ends.
func (s *Session) accept() {
	for {
		stream, err := s.mux.AcceptStream()
		if err != nil {
			s.err = ended(err)
			close(s.done)
			return
		}
		l := newLine(stream, &s.running)
		s.running.Go(func() { s.taken(l) })
	}
}

// ended says why a session has.
func ended(err error) error {
	switch {
	case errors.Is(err, yamux.ErrSessionShutdown):
		return fmt.Errorf("agent: the session was closed: %w", plane.ErrGone)
	case errors.Is(err, io.EOF):
		return errEnded
	}
	return fmt.Errorf("agent: the session with the container broke (is something else writing to its standard output?): %w: %w", err, plane.ErrGone)
}

// taken hands a connection that came in the container to its listener.
func (s *Session) taken(l *line) {
	var r request
	if err := l.greeting(context.Background(), &r); err != nil || r.Accepted == nil {
		l.reset(syscall.ECONNRESET)
		return
	}
	s.mu.Lock()
	ln := s.listeners[r.Accepted.Listener]
	s.mu.Unlock()
	if ln == nil { // it was closed meanwhile
		l.reset(syscall.ECONNRESET)
		return
	}
	ln.offer(l, *r.Accepted)
}

// open opens a stream. yamux waits for as long as the agent takes no more of them, or the engine no more bytes.
func (s *Session) open(ctx context.Context) (*yamux.Stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	type result struct {
		stream *yamux.Stream
		err    error
	}
	opened := make(chan result)
	s.running.Go(func() {
		stream, err := s.mux.OpenStream()
		select {
		case opened <- result{stream, err}:
		case <-ctx.Done():
			if err == nil {
				stream.Close()
			}
		}
	})
	select {
	case r := <-opened:
		if r.err != nil {
			return nil, errEnded
		}
		return r.stream, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ask opens a stream with a request and waits for the answer. On error the stream is closed.
func (s *Session) ask(ctx context.Context, r request, prepare func(*line)) (*line, answer, error) {
	stream, err := s.open(ctx)
	if err != nil {
		return nil, answer{}, err
	}
	l := newLine(stream, &s.running)
	prepare(l)
	var a answer
	err = l.greet(r)
	if err == nil {
		err = l.greeting(ctx, &a)
	}
	if err == nil && a.Err != nil {
		err = a.Err.error()
	}
	if err != nil {
		l.reset(syscall.ECONNRESET) // the agent gives up what it is about
		return nil, answer{}, err
	}
	return l, a, nil
}

// Dial connects from the container's network; network is tcp or udp. Errors are those of net.Dialer: a *net.OpError
// around the errno, or around ctx's error. Once the session has ended they are plane.ErrGone.
func (s *Session) Dial(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	if network != "tcp" && network != "udp" {
		return nil, &net.OpError{Op: "dial", Net: network, Err: net.UnknownNetworkError(network)}
	}
	l, a, err := s.ask(ctx, request{Dial: &dialRequest{network, to}}, func(l *line) {
		if network == "udp" {
			l.setDatagrams()
		}
	})
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: addrOf(network, to), Err: err}
	}
	return newConn(l, network, addrOf(network, a.Local), addrOf(network, a.Remote)), nil
}

// Listen opens a TCP listener at one of the container's addresses and a free port.
func (s *Session) Listen(ctx context.Context, addr netip.Addr) (net.Listener, error) {
	ln := &listener{waiting: make(chan waiting, backlog)}
	prepare := func(l *line) { // before a connection can come
		id := l.stream.StreamID()
		ln.line = l
		ln.forget = func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.listeners, id)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.listeners[id] = ln
	}
	_, a, err := s.ask(ctx, request{Listen: &addr}, prepare)
	if err != nil {
		if ln.forget != nil {
			ln.forget()
		}
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: addrOf("tcp", netip.AddrPortFrom(addr, 0)), Err: err}
	}
	ln.addr = addrOf("tcp", a.Local)
	return ln, nil
}
