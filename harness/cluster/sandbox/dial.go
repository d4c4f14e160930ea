package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"
)

// poolBatch is how many sockets the plane sends at a time to a node that dials often.
const poolBatch = 64

// lowPool is when a pool asks for more before it is empty: a generator of load must not wait for the plane.
const lowPool = 24

// fetchSockets asks the plane for unconnected sockets.
type fetchSockets func(ctx context.Context, node, network string, n int) ([]*os.File, error)

// socketPool keeps unconnected sockets that were made in a node's namespace.
type socketPool struct {
	node, network string
	fetch         fetchSockets

	life    context.Context     // of the topology: what is fetched ahead ends with it
	refill  *semaphore.Weighted // of 1
	filling sync.WaitGroup

	mu     sync.Mutex
	files  []*os.File
	asked  int // grows: a probe's node gets one socket, the client's soon 64
	closed bool
}

func newSocketPool(life context.Context, node, network string, fetch fetchSockets) *socketPool {
	return &socketPool{node: node, network: network, fetch: fetch, life: life, refill: semaphore.NewWeighted(1), asked: 1}
}

func (p *socketPool) take() *os.File {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.files) == 0 {
		return nil
	}
	f := p.files[len(p.files)-1]
	p.files = p.files[:len(p.files)-1]
	return f
}

// get returns a socket, from the pool or from the plane.
func (p *socketPool) get(ctx context.Context) (*os.File, error) {
	if f := p.take(); f != nil {
		p.ahead()
		return f, nil
	}
	if err := p.refill.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer p.refill.Release(1)
	for { // those who need not wait may take what was fetched
		if f := p.take(); f != nil {
			return f, nil
		}
		if err := p.fill(ctx); err != nil {
			return nil, err
		}
	}
}

// ahead fills the pool in the background when it runs low and is much used.
func (p *socketPool) ahead() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.asked < poolBatch || len(p.files) >= lowPool {
		return
	}
	if !p.refill.TryAcquire(1) {
		return // under way
	}
	p.filling.Go(func() {
		defer p.refill.Release(1)
		_ = p.fill(p.life) // who finds the pool empty asks again, and gets the error
	})
}

// fill fetches a batch. The caller holds refill.
func (p *socketPool) fill(ctx context.Context) error {
	p.mu.Lock()
	n, closed := p.asked, p.closed
	p.mu.Unlock()
	if closed {
		return net.ErrClosed
	}
	files, err := p.fetch(ctx, p.node, p.network, n)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("the plane sent no socket for node %s", p.node)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = min(4*n, poolBatch)
	if p.closed {
		closeFiles(files)
		return net.ErrClosed
	}
	p.files = append(p.files, files...)
	return nil
}

// close lets the sockets go: they keep the node's namespace alive.
func (p *socketPool) close() {
	p.mu.Lock()
	p.closed = true
	closeFiles(p.files)
	p.files = nil
	p.mu.Unlock()
	p.filling.Wait()
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

func addrOf(network string, to netip.AddrPort) net.Addr {
	if network == "udp" {
		return net.UDPAddrFromAddrPort(to)
	}
	return net.TCPAddrFromAddrPort(to)
}

// connect connects a non-blocking socket and makes a net.Conn of it. It takes f over.
func connect(ctx context.Context, f *os.File, to netip.AddrPort) (net.Conn, error) {
	defer f.Close()
	rc, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	if d, ok := ctx.Deadline(); ok {
		_ = f.SetWriteDeadline(d)
	}
	// After the deadline was set, which would take the cancellation back.
	stop := context.AfterFunc(ctx, func() { _ = f.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := await(rc, to); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	return net.FileConn(f)
}

func await(rc syscall.RawConn, to netip.AddrPort) error {
	var result error
	begun := false
	err := rc.Write(func(fd uintptr) bool {
		if !begun {
			begun = true
			result = unix.Connect(int(fd), &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
			return result != unix.EINPROGRESS
		}
		// A socket that was never connected counts as writable: ask what became of the attempt.
		if _, result = unix.Getpeername(int(fd)); result == nil {
			return true
		}
		if code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
			if result = err; err == nil {
				result = syscall.Errno(code)
			}
			return true
		}
		return false
	})
	if err != nil {
		return err
	}
	if result != nil {
		return os.NewSyscallError("connect", result)
	}
	return nil
}
