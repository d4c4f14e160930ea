package role

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// conns are the connections of an HTTP server, and how it parts with them. http.Server.Shutdown drops requests that have come and are
// not read yet, on connections that it holds for idle as on those that are not accepted yet: on a busy machine that is what came in the
// last tenth of a second. Here they are answered, and their connections closed then.
type conns struct {
	*net.TCPListener
	patience time.Duration // with who takes nothing of an answer
	leaving  atomic.Bool

	mu   sync.Mutex
	open map[*conn]struct{}
	less chan struct{} // of capacity 1: one was closed
}

func newConns(l *net.TCPListener, patience time.Duration) *conns {
	return &conns{TCPListener: l, patience: patience, open: map[*conn]struct{}{}, less: make(chan struct{}, 1)}
}

// acceptAgain is how long a connection that was seen to wait may take to be accepted.
const acceptAgain = 10 * time.Millisecond

// Accept implements net.Listener. After leave it accepts those that wait, and then it ends with net.ErrClosed.
func (l *conns) Accept() (net.Conn, error) {
	for {
		accepted, err := l.AcceptTCP()
		if err == nil {
			c := &conn{TCPConn: accepted, of: l}
			l.mu.Lock()
			l.open[c] = struct{}{}
			l.mu.Unlock()
			return c, nil
		}
		if !l.leaving.Load() {
			return nil, err
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || !readable(l.TCPListener) {
			_ = l.TCPListener.Close()
			return nil, net.ErrClosed
		}
		_ = l.SetDeadline(time.Now().Add(acceptAgain))
	}
}

// leave ends Accept, and closes what is idle, now or later.
func (l *conns) leave() {
	l.leaving.Store(true)
	_ = l.SetDeadline(time.Now())
	for _, c := range l.all() {
		c.part()
	}
}

// all are those that are open.
func (l *conns) all() []*conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.open))
}

// silentFor is how long a connection that never sent anything is waited for at the end: a request that is on its way on a new connection
// comes within that, on a busy machine too. Who only connects, as a client does that wants one ready for later, would hold up the end.
const silentFor = 250 * time.Millisecond

// gone waits until the last connection is closed.
func (l *conns) gone(ctx context.Context) error {
	silent := time.NewTimer(silentFor)
	defer silent.Stop()
	for {
		l.mu.Lock()
		n := len(l.open)
		l.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-l.less:
		case <-silent.C:
			for _, c := range l.all() {
				c.partUnused()
			}
			silent.Reset(silentFor)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// cut closes all.
func (l *conns) cut() {
	_ = l.TCPListener.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.open {
		_ = c.TCPConn.Close()
	}
}

// state is the server's http.Server.ConnState.
func (l *conns) state(nc net.Conn, s http.ConnState) {
	c := nc.(*conn)
	switch s {
	case http.StateActive:
		c.used.Store(true)
		c.idle.Store(false)
	case http.StateIdle:
		c.begun.Store(false)
		c.idle.Store(true)
		if l.leaving.Load() {
			c.part()
		}
	}
}

// conn is one of them.
type conn struct {
	*net.TCPConn
	of    *conns
	idle  atomic.Bool // between two requests
	begun atomic.Bool // something of the next one has been read
	used  atomic.Bool // there was a first one
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if n > 0 && !c.begun.Swap(true) && c.of.leaving.Load() {
		c.part()
	}
	return n, err
}

// partUnused closes it if nothing has ever come on it.
func (c *conn) partUnused() {
	if !c.used.Load() && !c.begun.Load() && !readable(c.TCPConn) {
		_ = c.Close()
	}
}

// part closes it, unless it is in use: a request has come, or has begun to. That one has the time of its headers from then on; net/http
// would wait for its fourth byte for as long as a connection may be idle.
func (c *conn) part() {
	switch {
	case !c.idle.Load():
	case c.begun.Load():
		_ = c.SetReadDeadline(time.Now().Add(headerTimeout))
	case !readable(c.TCPConn):
		_ = c.Close()
	}
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	select {
	case c.of.less <- struct{}{}:
	default:
	}
	return c.TCPConn.Close()
}

// readable reports whether there is something to read, or to accept, at this moment.
func readable(of syscall.Conn) bool {
	raw, err := of.SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	if err := raw.Control(func(fd uintptr) {
		for {
			n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			if !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}); err != nil {
		return false
	}
	return n > 0
}
