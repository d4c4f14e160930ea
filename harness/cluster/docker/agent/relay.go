package agent

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// tcpClosed is TCP_CLOSE of linux/tcp_states.h.
const tcpClosed = 7

// relay carries a TCP connection between the harness and a socket.
type relay struct {
	line *line
	sock *net.TCPConn
	up   chan error    // how the way to the socket ended: nil by the harness's end of stream
	down chan struct{} // closed when the way from it has ended
}

// relayStream returns when the connection has ended at both sides. It closes both.
func relayStream(l *line, sock *net.TCPConn) {
	r := &relay{line: l, sock: sock, up: make(chan error, 1), down: make(chan struct{})}
	// What is broken there is broken here, whatever was still to be written.
	stop := context.AfterFunc(l.ctx, r.abort)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		r.upwards()
	}()
	r.downwards()
	close(r.down)
	<-finished
	stop()
	sock.Close()
	l.Close()
}

// abort resets the socket.
func (r *relay) abort() {
	_ = r.sock.SetLinger(0)
	r.sock.Close()
}

// upwards carries what the harness writes.
func (r *relay) upwards() {
	err := r.write()
	r.up <- err
	if err != nil {
		return
	}
	select {
	case <-r.line.ended:
		// The harness has closed, with nothing unread so far. What the kernel still holds or gets is its to refuse.
		r.sock.Close()
	case <-r.down:
	}
}

// write copies until the harness ends its direction, and then ends that of the socket. Its error is the socket's.
func (r *relay) write() error {
	buf := make([]byte, maxChunk)
	for {
		n, err := r.line.Read(buf)
		switch {
		case err == io.EOF:
			_ = r.sock.CloseWrite() // fails when the peer is gone, which the other direction tells
			return nil
		case err != nil:
			return err // the line is broken, and abort is called
		}
		if _, err := r.sock.Write(buf[:n]); err != nil {
			// What was sent before the peer went away can still be read.
			r.line.refuse(errnoOf(err))
			return err
		}
	}
}

// downwards carries what the socket reads.
func (r *relay) downwards() {
	buf := make([]byte, maxChunk)
	for {
		n, err := r.sock.Read(buf)
		if n > 0 {
			if _, err := r.line.Write(buf[:n]); err != nil {
				r.abort() // nobody will read this
				return
			}
		}
		switch {
		case err == nil:
		case err != io.EOF:
			if !errors.Is(err, net.ErrClosed) {
				r.line.reset(errnoOf(err))
			}
			return
		default:
			if e := r.lostReset(); e != 0 {
				r.line.reset(e)
				return
			}
			_ = r.line.CloseWrite()
			return
		}
	}
}

// lostReset returns the error that the end of a stream hides, if it does. A socket tells of a reset only once: when the
// other direction has heard of it, a read just ends, and an end would be all that the harness sees.
func (r *relay) lostReset() syscall.Errno {
	rc, err := r.sock.SyscallConn()
	if err != nil {
		return 0
	}
	var state uint8
	var pending int
	err = rc.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			state = info.State
		}
		if state == tcpClosed {
			pending, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		}
	})
	if err != nil || state != tcpClosed {
		return 0
	}
	e := syscall.Errno(pending)
	if e == 0 {
		// Somebody was told, or both ends have just closed in order. The direction that was told has ended or is about
		// to; the one that has closed too.
		select {
		case err := <-r.up:
			r.up <- err
			if err != nil {
				e = errnoOf(err)
			}
		case <-r.line.ended:
		}
	}
	if e == syscall.EPIPE {
		// The reset came after the peer's end of stream: this is that end, and writes fail.
		r.line.refuse(e)
		return 0
	}
	return e
}

// relayDatagrams carries datagrams between the harness and a connected UDP socket until the harness closes. It closes
// both.
func relayDatagrams(l *line, sock *net.UDPConn) {
	l.setDatagrams()
	stop := context.AfterFunc(l.ctx, func() { sock.Close() })
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		buf := make([]byte, maxDatagram)
		for {
			n, err := sock.Read(buf)
			if err == nil {
				_, err = l.Write(buf[:n])
				if err != nil {
					return
				}
				continue
			}
			if errors.Is(err, net.ErrClosed) {
				return
			}
			l.complain(errnoOf(err)) // a port unreachable: told once, and the socket lives on
		}
	}()
	buf := make([]byte, maxDatagram)
	for {
		n, err := l.Read(buf)
		if err != nil {
			break
		}
		if _, err := sock.Write(buf[:n]); err != nil && !errors.Is(err, net.ErrClosed) {
			l.complain(errnoOf(err))
			// The error was that of an earlier datagram, most likely: this one was not sent for it.
			_, _ = sock.Write(buf[:n])
		}
	}
	stop()
	sock.Close()
	<-finished
	l.Close()
}
