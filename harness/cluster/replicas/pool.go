package replicas

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// Pool makes the connections of an http.Transport and owns them: once Close has returned, none is open and none is
// being made.
type Pool struct {
	set     *Set
	node    *cluster.NodeInfo // nil: the next replica
	timeout time.Duration

	ctx    context.Context
	cancel context.CancelFunc

	// Clients dial from goroutines of their own, which may come after Close.
	mu     sync.Mutex
	closed bool
	open   sync.WaitGroup // dials and connections
}

// Pool returns a pool that connects to the next replica each time. timeout bounds a dial.
func (s *Set) Pool(timeout time.Duration) *Pool { return newPool(s, nil, timeout) }

// PoolTo returns a pool that connects to one replica.
func (s *Set) PoolTo(n cluster.NodeInfo, timeout time.Duration) *Pool { return newPool(s, &n, timeout) }

func newPool(s *Set, n *cluster.NodeInfo, timeout time.Duration) *Pool {
	p := &Pool{set: s, node: n, timeout: timeout}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Dial is an http.Transport's DialContext. The context that comes with it is of no use: http.Transport detaches a dial from
// the request that wanted it, so that a dial whose packets are dropped would go on for minutes. Here it has a deadline of
// its own and ends with the pool. What it returns is a *Conn; its error is a *DialError.
func (p *Pool) Dial(context.Context, string, string) (net.Conn, error) {
	return p.DialWithin(context.Background())
}

// DialWithin is Dial for who makes connections by itself: it ends with ctx too.
func (p *Pool) DialWithin(ctx context.Context) (net.Conn, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, &DialError{"", net.ErrClosed}
	}
	p.open.Add(1)
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	var c net.Conn
	var node string
	var err error
	if p.node != nil {
		node = p.node.Name
		c, err = p.set.DialNode(ctx, *p.node)
	} else {
		c, node, err = p.set.Dial(ctx)
	}
	if err != nil {
		p.open.Done()
		return nil, &DialError{node, err}
	}
	return &Conn{Conn: c, Node: node, closed: sync.OnceFunc(p.open.Done)}, nil
}

// Close ends the dials and waits until every connection was closed; the caller has asked its http.Transport to close
// idle ones, and its requests have ended.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.open.Wait()
}

// DialError says which replica could not be reached. Nothing was sent.
type DialError struct {
	Node string // empty when there was none
	Err  error
}

func (e *DialError) Error() string { return fmt.Sprintf("connecting to %s: %v", e.Node, e.Err) }
func (e *DialError) Unwrap() error { return e.Err }

// Conn is a connection to a replica that is known.
type Conn struct {
	net.Conn
	Node   string
	sent   atomic.Int64
	refuse atomic.Bool
	broken atomic.Pointer[error]
	closed func()
}

// ErrRefused is the error of a write after Refuse.
var ErrRefused = errors.New("nothing more may be sent on this connection")

// Sent is how many bytes have left, or may have.
func (c *Conn) Sent() int64 { return c.sent.Load() }

// Broken is why reading ended, or nil.
func (c *Conn) Broken() error {
	if e := c.broken.Load(); e != nil {
		return *e
	}
	return nil
}

// Refuse makes every further write fail. What Sent says after it is final but for writes that had begun: a write counts
// itself before it asks whether it may, so that one of the two sees the other.
func (c *Conn) Refuse() { c.refuse.Store(true) }

// Write is part of net.Conn.
func (c *Conn) Write(b []byte) (int, error) {
	c.sent.Add(int64(len(b))) // before it leaves: who asks meanwhile is not told that nothing has
	if c.refuse.Load() {
		c.sent.Add(-int64(len(b)))
		return 0, ErrRefused
	}
	n, err := c.Conn.Write(b)
	c.sent.Add(int64(n - len(b)))
	return n, err
}

// Read is part of net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		c.broken.CompareAndSwap(nil, &err)
	}
	return n, err
}

// Close is part of net.Conn.
func (c *Conn) Close() error {
	defer c.closed()
	return c.Conn.Close()
}
