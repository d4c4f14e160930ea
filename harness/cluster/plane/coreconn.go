package plane

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// connInfo says which connection it is.
type connInfo struct {
	link     AddrLink
	from, to string         // names of the nodes
	client   netip.AddrPort // the client's end
	port     uint16         // the server's
	probe    bool           // the server is the harness
	n        uint64         // of its link, from 0
	began    time.Time
}

// coreConn is a connection through the core.
type coreConn struct {
	connInfo
	client *net.TCPConn
	ctx    context.Context // ends when the connection is to be given up
	cancel context.CancelFunc
	// Of these there is none until the server has accepted.
	dialled  netip.AddrPort // the client's end as the server sees it
	up, down *pipe
}

// serve connects to the server and carries bytes until both streams have ended.
func (c *core) serve(cc *coreConn) {
	server, err := c.dial(cc)
	if err != nil {
		abort(cc.client)
		return
	}
	up, down := newPipe(cc.client, server), newPipe(server, cc.client)
	carrying, over := context.WithCancel(cc.ctx)
	defer over()
	up.ends = ends{
		reset: cc.cancel,
		close: func() { up.cut(); down.cut() },
		after: func(d time.Duration, f func()) {
			t := time.AfterFunc(d, func() {
				if carrying.Err() == nil {
					f()
				}
			})
			context.AfterFunc(carrying, func() { t.Stop() })
		},
	}
	down.ends = up.ends
	c.mu.Lock()
	cc.dialled = addrOf(server.LocalAddr())
	taps := c.taps
	c.mu.Unlock()
	tapClosed := func() {}
	if taps != nil {
		if t := taps(tapConn{cc.connInfo, up.wake, down.wake, cc.cancel, cc.endUp}); t != nil {
			tapClosed = t.closed
			up.tap, down.tap = upTap{t}, downTap{t}
		}
	}
	c.mu.Lock()
	cc.up, cc.down = up, down
	for _, tl := range c.rules[cc.link] {
		cc.add(tl)
	}
	c.mu.Unlock()
	// Whoever gives the connection up, both ends are reset, and the pipes end.
	stop := context.AfterFunc(cc.ctx, func() { abort(cc.client, server) })
	defer stop()
	// An end whose stream has ended in good order may reset the connection while the other's goes on.
	carry := func(p *pipe) (unwatch func(), err error) {
		if err := p.carry(); err != nil {
			return func() {}, err
		}
		return watch(p.src, 0, wasReset, cc.cancel), nil
	}
	var running sync.WaitGroup
	var unwatchServer func()
	var downErr error
	running.Go(func() { unwatchServer, downErr = carry(down) })
	unwatchClient, upErr := carry(up)
	running.Wait()
	over()
	unwatchClient()
	unwatchServer()
	tapClosed() // the farewell is none of the connection's time
	if errors.Is(upErr, errCut) || errors.Is(downErr, errCut) {
		farewell(cc.client, server)
	}
	if stop() {
		_ = cc.client.Close()
		_ = server.Close()
	}
}

// endUp ends the stream from the client as if the client had.
func (cc *coreConn) endUp() { _ = cc.client.CloseRead() } // of a socket that has ended there is nothing to end

// abort resets connections.
func abort(conns ...*net.TCPConn) {
	for _, c := range conns {
		_ = c.SetLinger(0) // of a closed socket, an error that says nothing new
		_ = c.Close()
	}
}

// farewellTime is how long the peers have to end a connection that was closed here.
const farewellTime = time.Second

// farewell ends streams to both peers and waits a little for theirs. A socket that is closed while something comes in
// answers with a reset, which may destroy what the peer has not yet read.
func farewell(conns ...*net.TCPConn) {
	var reading sync.WaitGroup
	for _, c := range conns {
		_ = c.CloseWrite() // of a socket that is closed or reset, nothing is left to say
		_ = c.SetReadDeadline(time.Now().Add(farewellTime))
		reading.Go(func() { _, _ = io.Copy(io.Discard, c) })
	}
	reading.Wait()
}

// add puts a toxic on the connection if the draw says so, and returns what to wait for. The core is locked.
func (cc *coreConn) add(tl *toxicLink) <-chan struct{} {
	p := cc.direction(tl)
	if p == nil {
		return nil
	}
	s := tl.stageFor(cc.n, cc.probe, p)
	if s == nil {
		return nil
	}
	return p.set(func(stages []*stage) []*stage { return append(stages, s) })
}

// remove takes a toxic off the connection, and returns what to wait for. The core is locked.
func (cc *coreConn) remove(tl *toxicLink) <-chan struct{} {
	p := cc.direction(tl)
	if p == nil {
		return nil
	}
	s := p.stage(func(s *stage) bool { return s.of == tl })
	if s == nil {
		return nil // it was spared
	}
	if h, ok := s.wrapper.Toxic.(healer); ok && h.heal() {
		return nil // it leaves by itself
	}
	return p.set(func(stages []*stage) []*stage {
		return slices.DeleteFunc(stages, func(x *stage) bool { return x == s })
	})
}

func (cc *coreConn) direction(tl *toxicLink) *pipe {
	if tl.upstream {
		return cc.up
	}
	return cc.down
}
