package harness

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// forwarder takes connections from loopback to a port of a topology, as those of its client. What a connection is
// survives it: half-close, reset, refusal (which comes as a reset, since it was accepted here).
type forwarder struct {
	listener net.Listener
	dialer   cluster.Dialer
	to       string
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

// forward listens at a free port of loopback.
func forward(d cluster.Dialer, to string) (*forwarder, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f := &forwarder{listener: l, dialer: d, to: to}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.running.Go(f.accept)
	return f, nil
}

func (f *forwarder) accept() {
	for {
		c, err := f.listener.Accept()
		if err != nil {
			if f.ctx.Err() != nil {
				return
			}
			select { // out of descriptors, most likely
			case <-time.After(10 * time.Millisecond):
				continue
			case <-f.ctx.Done():
				return
			}
		}
		f.running.Go(func() { f.carry(c.(*net.TCPConn)) })
	}
}

// dialPatience bounds how long a connection waits for one that does not answer.
const dialPatience = 30 * time.Second

func (f *forwarder) carry(near *net.TCPConn) {
	ctx, cancel := context.WithTimeout(f.ctx, dialPatience)
	far, err := f.dialer.Dial(ctx, cluster.Client, "tcp", f.to)
	cancel()
	if err != nil {
		reset(near)
		return
	}
	stop := context.AfterFunc(f.ctx, func() { reset(near); reset(far) })
	defer stop()
	var back sync.WaitGroup
	back.Go(func() { stream(near, far) })
	stream(far, near)
	back.Wait()
	near.Close()
	far.Close()
}

// stream carries one direction: its end as an end, anything else as a reset of both.
func stream(dst, src net.Conn) {
	_, err := io.Copy(dst, src)
	if half, ok := dst.(interface{ CloseWrite() error }); ok && err == nil {
		err = half.CloseWrite()
	}
	if err != nil && !errors.Is(err, syscall.ENOTCONN) { // both have ended by themselves
		reset(dst)
		reset(src)
	}
}

func reset(c net.Conn) {
	if l, ok := c.(interface{ SetLinger(int) error }); ok {
		_ = l.SetLinger(0) // of a closed connection
	}
	c.Close()
}

func (f *forwarder) close() {
	f.cancel()
	f.listener.Close()
	f.running.Wait()
}
