package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// probeTimeout is how long a probe waits for an answer that a fault may keep from it. A link that works answers within
// a millisecond; on a busy machine within some tens.
const probeTimeout = 400 * time.Millisecond

// sighting is what one probe over a link saw.
type sighting struct {
	link    cluster.Link
	connect time.Duration // until the connection stood
	echo    time.Duration // from a byte sent to the byte back
	got     int           // bytes that came back, of a probe with many
	err     error
}

// timeout reports that the probe got no answer, as over a link that drops.
func (s sighting) timeout() bool {
	var ne net.Error
	return errors.Is(s.err, context.DeadlineExceeded) || errors.As(s.err, &ne) && ne.Timeout()
}

// probe connects over every link, from its source to a listener of our own in its destination, and sends one byte
// there and back. Nothing of it depends on the programs of the nodes: a link can be probed while they are dead.
func probe(ctx context.Context, c cluster.Cluster, links []cluster.Link, wait time.Duration) ([]sighting, error) {
	return probeWith(ctx, c, links, wait, echoByte, sendByte)
}

// probeWith does the same with other ends: serve is that of the listener, and ask that of the source, which notes what it
// saw. Both have the connection's deadline.
func probeWith(ctx context.Context, c cluster.Cluster, links []cluster.Link, wait time.Duration, serve func(net.Conn), ask func(net.Conn, *sighting)) ([]sighting, error) {
	listeners := map[string]net.Listener{}
	var serving sync.WaitGroup
	defer func() {
		for _, l := range listeners {
			l.Close()
		}
		serving.Wait()
	}()
	for _, l := range links {
		if listeners[l.To] != nil {
			continue
		}
		ln, err := c.Listen(ctx, l.To)
		if err != nil {
			return nil, fmt.Errorf("open a listener for a probe in %s: %w", l.To, err)
		}
		listeners[l.To] = ln
		serving.Go(func() { accept(ln, max(wait, 5*time.Second), serve) })
	}
	seen := make([]sighting, len(links))
	var probing sync.WaitGroup
	for i, l := range links {
		probing.Go(func() {
			seen[i] = probeOne(ctx, c, l, listeners[l.To].Addr().String(), wait, ask)
		})
	}
	probing.Wait()
	return seen, ctx.Err()
}

func probeOne(ctx context.Context, c cluster.Cluster, l cluster.Link, addr string, wait time.Duration, ask func(net.Conn, *sighting)) (s sighting) {
	s.link = l
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	begin := time.Now()
	conn, err := c.Dial(ctx, l.From, "tcp", addr)
	if err != nil {
		s.err = err
		return s
	}
	defer conn.Close()
	s.connect = time.Since(begin)
	// Ended by a reset, the connection sends nothing after its last packet: what comes when the listener is gone would be counted
	// as traffic that the fault acted on.
	if t, ok := conn.(interface{ SetLinger(sec int) error }); ok {
		t.SetLinger(0)
	}
	if d, ok := ctx.Deadline(); ok {
		conn.SetDeadline(d)
	}
	ask(conn, &s)
	return s
}

// whole is the time that a probe took, connecting included.
func (s sighting) whole() time.Duration { return s.connect + s.echo }

// sendByte sends one byte and waits for it.
func sendByte(conn net.Conn, s *sighting) {
	b := []byte{'p'}
	begin := time.Now()
	if _, s.err = conn.Write(b); s.err != nil {
		return
	}
	s.got, s.err = io.ReadFull(conn, b)
	s.echo = time.Since(begin)
}

// echoByte answers the first byte.
func echoByte(conn net.Conn) {
	b := make([]byte, 1)
	if _, err := io.ReadFull(conn, b); err == nil {
		conn.Write(b)
	}
	// The reader closes first, so that no byte is lost to a reset.
	io.ReadFull(conn, b)
}

// accept serves each connection and ends with the listener; connections have a deadline of their own.
func accept(ln net.Listener, wait time.Duration, serve func(net.Conn)) {
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		conns.Go(func() {
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(wait))
			serve(conn)
		})
	}
}
