package agent

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"github.com/hashicorp/yamux"

	"github.com/hasvc/gauntlet/harness/cluster/plane"
)

// server is the agent's end of the session: it answers calls, and makes and relays connections in its network.
type server struct {
	mux     *yamux.Session
	running sync.WaitGroup
}

// serve serves the harness on two streams until it is gone, and returns when everything that it began has ended.
func serve(in io.Reader, out io.WriteCloser, handlers map[string]plane.Handler) error {
	mux, err := yamux.Server(newDuplex(in, out), muxConfig())
	if err != nil {
		return err
	}
	s := &server{mux: mux}
	defer func() {
		mux.Close()
		s.running.Wait()
	}()
	for {
		stream, err := mux.AcceptStream()
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, syscall.EPIPE):
			return nil // the harness is gone, and what was being written to it with it
		case err != nil:
			return err
		case stream.StreamID() == controlStream:
			s.running.Go(func() {
				// Its end is that of the session, which is told here.
				_ = plane.NewServer(plane.NewStreamConn(callStream{stream}), handlers).Serve(context.Background())
			})
		default:
			l := newLine(stream, &s.running)
			s.running.Go(func() { s.handle(l) })
		}
	}
}

// handle does what the harness opened a stream for. It takes the line over.
func (s *server) handle(l *line) {
	defer l.Close()
	var r request
	if err := l.greeting(l.ctx, &r); err != nil {
		return
	}
	switch {
	case r.Dial != nil:
		s.dial(l, *r.Dial)
	case r.Listen != nil:
		s.listen(l, *r.Listen)
	}
}

func (s *server) dial(l *line, r dialRequest) {
	// A name of the network with "4": this is what nodes have. No keep-alives: they would be counted by rules, and a
	// black hole would end connections that nobody uses.
	d := net.Dialer{KeepAlive: -1}
	c, err := d.DialContext(l.ctx, r.Network+"4", r.To.String()) // until the harness gives up
	if err != nil {
		_ = l.greet(answer{Err: failureOf(err)})
		return
	}
	defer c.Close()
	if err := l.greet(answer{Local: addrPortOf(c.LocalAddr()), Remote: addrPortOf(c.RemoteAddr())}); err != nil {
		return
	}
	switch c := c.(type) {
	case *net.TCPConn:
		relayStream(l, c)
	case *net.UDPConn:
		relayDatagrams(l, c)
	}
}

// listen hands connections to the harness until the line ends.
func (s *server) listen(l *line, addr netip.Addr) {
	lc := net.ListenConfig{KeepAlive: -1}
	ln, err := lc.Listen(l.ctx, "tcp4", netip.AddrPortFrom(addr, 0).String())
	if err != nil {
		_ = l.greet(answer{Err: failureOf(err)})
		return
	}
	var accepting sync.WaitGroup
	defer accepting.Wait()
	defer ln.Close()
	if err := l.greet(answer{Local: addrPortOf(ln.Addr())}); err != nil {
		return
	}
	accepting.Go(func() { s.acceptAll(ln.(*net.TCPListener), l) })
	<-l.ended
}

// acceptAll accepts as many connections as the harness has room for; the others wait in the kernel.
func (s *server) acceptAll(ln *net.TCPListener, l *line) {
	room := make(chan struct{}, backlog)
	for {
		select {
		case room <- struct{}{}:
		case <-l.ended:
			return
		}
		c, err := ln.AcceptTCP()
		if err != nil {
			l.reset(errnoOf(err)) // of no meaning when the harness has closed
			return
		}
		stream, err := s.mux.OpenStream()
		if err != nil {
			c.Close()
			return
		}
		came := newLine(stream, &s.running)
		s.running.Go(func() {
			defer came.Close()
			defer c.Close()
			hello := accepted{Listener: l.stream.StreamID(), Local: addrPortOf(c.LocalAddr()), Remote: addrPortOf(c.RemoteAddr())}
			err := came.greet(request{Accepted: &hello})
			if err == nil {
				err = came.greeting(came.ctx, &answer{})
			}
			<-room
			if err != nil {
				_ = c.SetLinger(0)
				return
			}
			relayStream(came, c)
		})
	}
}

// errnoOf is the errno in an error of a socket.
func errnoOf(err error) syscall.Errno {
	if f := failureOf(err); f.Errno != 0 {
		return f.Errno
	}
	return syscall.EIO
}
