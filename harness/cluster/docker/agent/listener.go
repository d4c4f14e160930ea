package agent

import (
	"net"
	"sync"
	"syscall"
)

// backlog is how many connections wait for Accept; more wait in the kernel.
const backlog = 128

// listener is a listener in the container's network, as the harness has it.
type listener struct {
	line   *line // the listener lives as long as it
	addr   net.Addr
	forget func()

	mu      sync.Mutex
	closed  bool
	waiting chan waiting // closed with the listener
}

type waiting struct {
	line *line
	from accepted
}

// offer takes a connection that came. One that nobody will take is reset.
func (ln *listener) offer(l *line, from accepted) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if !ln.closed {
		select {
		case ln.waiting <- waiting{l, from}:
			return
		default: // the agent does not keep to the backlog
		}
	}
	l.reset(syscall.ECONNRESET)
}

// Accept implements net.Listener.
func (ln *listener) Accept() (net.Conn, error) {
	var err error
	select {
	case w, ok := <-ln.waiting:
		if !ok {
			err = net.ErrClosed
			break
		}
		if err = w.line.greet(answer{}); err != nil {
			w.line.reset(syscall.ECONNRESET)
			break
		}
		return newConn(w.line, "tcp", addrOf("tcp", w.from.Local), addrOf("tcp", w.from.Remote)), nil
	case <-ln.line.ended:
		err = ln.line.why()
	}
	return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: ln.addr, Err: err}
}

// Addr implements net.Listener.
func (ln *listener) Addr() net.Addr { return ln.addr }

// Close implements net.Listener. Connections that were not accepted are reset.
func (ln *listener) Close() error {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if ln.closed {
		return &net.OpError{Op: "close", Net: "tcp", Addr: ln.addr, Err: net.ErrClosed}
	}
	ln.closed = true
	ln.forget()
	close(ln.waiting)
	for w := range ln.waiting {
		w.line.reset(syscall.ECONNRESET)
	}
	return ln.line.Close()
}
