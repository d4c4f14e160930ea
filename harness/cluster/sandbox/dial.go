package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hasvc/gauntlet/harness/cluster"
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

	refill  semaphore
	filling sync.WaitGroup

	mu     sync.Mutex
	files  []*os.File
	asked  int // grows: a probe's node gets one socket, the client's soon 64
	closed bool
}

func newSocketPool(node, network string, fetch fetchSockets) *socketPool {
	return &socketPool{node: node, network: network, fetch: fetch, refill: make(semaphore, 1), asked: 1}
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
func (p *socketPool) get(ctx, life context.Context) (*os.File, error) {
	if f := p.take(); f != nil {
		p.ahead(life)
		return f, nil
	}
	if err := p.refill.lock(ctx); err != nil {
		return nil, err
	}
	defer p.refill.unlock()
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
func (p *socketPool) ahead(life context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.asked < poolBatch || len(p.files) >= lowPool {
		return
	}
	select {
	case p.refill <- struct{}{}:
	default:
		return // under way
	}
	p.filling.Go(func() {
		defer p.refill.unlock()
		_ = p.fill(life) // who finds the pool empty asks again, and gets the error
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

// Dial implements cluster.Dialer.
func (c *sandbox) Dial(ctx context.Context, from, network, address string) (net.Conn, error) {
	if _, err := c.living(from); err != nil {
		return nil, err
	}
	return c.dial(ctx, from, network, address)
}

// DialPlane implements cluster.Dialer. Rules are keyed by the address of the sender, and the plane's own has none.
func (c *sandbox) DialPlane(ctx context.Context, network, address string) (net.Conn, error) {
	return c.dial(ctx, "", network, address)
}

func (c *sandbox) dial(ctx context.Context, from, network, address string) (net.Conn, error) {
	switch network {
	case "tcp4":
		network = "tcp"
	case "udp4":
		network = "udp"
	case "tcp", "udp":
	default:
		return nil, &net.OpError{Op: "dial", Net: network, Err: net.UnknownNetworkError(network)}
	}
	to, err := c.resolve(address)
	if err != nil {
		return nil, err
	}
	pool, err := c.pool(from, network)
	if err != nil {
		return nil, err
	}
	f, err := pool.get(ctx, c.life)
	if err != nil {
		return nil, fmt.Errorf("dial %s from node %s: %w", address, from, err)
	}
	conn, err := connect(ctx, f, to)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: addrOf(network, to), Err: err}
	}
	return conn, nil
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

// resolve finds the address of NODE:PORT, SERVICE:PORT or IP:PORT among the known nodes: no question to a name server
// that a fault may have silenced. The replicas of a service take turns.
func (c *sandbox) resolve(address string) (netip.AddrPort, error) {
	name, portText, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("address %q: %w", address, err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("address %q: %q is no port", address, portText)
	}
	if a, err := netip.ParseAddr(name); err == nil {
		if a = a.Unmap(); !a.Is4() {
			return netip.AddrPort{}, fmt.Errorf("address %q: nodes have addresses of IPv4 only", address)
		}
		return netip.AddrPortFrom(a, uint16(port)), nil
	}
	if name == "localhost" {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port)), nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.nodes[name]; n != nil {
		return netip.AddrPortFrom(n.info.Addr, uint16(port)), nil
	}
	var replicas []*node
	for _, n := range c.order {
		if n.info.Service == name {
			replicas = append(replicas, n)
		}
	}
	if len(replicas) == 0 {
		return netip.AddrPort{}, &cluster.UnknownNodeError{Name: name}
	}
	c.turn[name]++
	return netip.AddrPortFrom(replicas[c.turn[name]%len(replicas)].info.Addr, uint16(port)), nil
}

// pool returns the sockets of a node, the plane's for "".
func (c *sandbox) pool(from, network string) (*socketPool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life.Err() != nil {
		if c.reason != nil {
			return nil, fmt.Errorf("dial: %w", c.reason)
		}
		return nil, fmt.Errorf("dial: %w", errDown)
	}
	key := from + "/" + network
	p := c.pools[key]
	if p == nil {
		p = newSocketPool(from, network, c.sockets)
		c.pools[key] = p
	}
	return p, nil
}

func (c *sandbox) sockets(ctx context.Context, node, network string, n int) ([]*os.File, error) {
	return c.plane.Call(ctx, methodSockets, socketsBody{Node: node, Network: network, Count: n}, nil)
}

// Listen implements cluster.Prober.
func (c *sandbox) Listen(ctx context.Context, name string) (net.Listener, error) {
	n, err := c.living(name)
	if err != nil {
		return nil, err
	}
	files, err := c.plane.Call(ctx, methodListen, listenBody{Node: name, Addr: n.info.Addr}, nil)
	if err != nil {
		return nil, fmt.Errorf("listen in node %s: %w", name, err)
	}
	defer closeFiles(files)
	if len(files) != 1 {
		return nil, fmt.Errorf("listen in node %s: the plane sent %d descriptors, want 1", name, len(files))
	}
	return net.FileListener(files[0])
}
