package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"

	"golang.org/x/net/http2"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/replicas"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// http2Wire is the wire of HTTP/2 with prior knowledge: the requests go to the ready replicas in turn, over one connection to each;
// over another one too where the server takes no more streams at a time.
type http2Wire struct {
	set  *replicas.Set
	load plan.Load

	mu      sync.Mutex
	clients map[string]*h2client // by node
}

// h2client is what goes to one replica.
type h2client struct {
	pool      *replicas.Pool
	transport *http.Transport // makes connections, and keeps none
	freed     chan struct{}   // of capacity 1: a connection may have a place again

	mu      sync.Mutex
	conns   []*h2conn
	dialing *h2dial // under way; nil: none
	closed  bool
	dials   sync.WaitGroup
}

// h2dial is the making of a connection that requests share. It is nobody's own: who wanted it first may be out of time before.
type h2dial struct {
	done chan struct{}
	err  error // under the client's mutex
}

// h2conn is a connection, and the bytes under it.
type h2conn struct {
	*http.ClientConn
	under *replicas.Conn
}

func newHTTP2(set *replicas.Set, l plan.Load) *http2Wire {
	return &http2Wire{set: set, load: l, clients: map[string]*h2client{}}
}

func (m *http2Wire) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.clients {
		c.close()
	}
}

// send sends a request once, and a second time if the server said that it has not begun on it. http.Transport would send such a
// request six times more, seconds apart.
func (m *http2Wire) send(r *http.Request, _ uint64, c *call) (*http.Response, error) {
	resp, err := m.once(r, c)
	if !notBegun(err) {
		return resp, err
	}
	r = r.WithContext(r.Context())
	if r.GetBody != nil {
		if r.Body, err = r.GetBody(); err != nil {
			return nil, err
		}
	}
	resp, err = m.once(r, c)
	c.untaken = notBegun(err)
	return resp, err
}

func (m *http2Wire) once(r *http.Request, c *call) (*http.Response, error) {
	node, err := m.set.Next()
	if err != nil {
		return nil, err
	}
	c.conn, c.node = nil, node.Name
	conn, err := m.client(node).conn(r.Context(), m.load.KeepAlive)
	if err != nil {
		return nil, err
	}
	c.conn, c.mark, c.shared = conn.under, conn.under.Sent(), m.load.KeepAlive
	resp, err := conn.RoundTrip(r)
	if err != nil {
		if !m.load.KeepAlive {
			_ = conn.Close()
		}
		if !notBegun(err) && c.ending(timeout(err)) == record.Reset {
			err = fmt.Errorf("%w: %w", errLost, err)
		}
	}
	return resp, err
}

// notBegun reports whether the server certainly has not begun on a request that failed so: it said so, by REFUSED_STREAM or by a
// GOAWAY that leaves it out (RFC 9113, 8.7), or the connection was found closed before anything was sent. Of what net/http says
// of the last two only the words tell. It has words of its own for the first stream of a connection: for a GOAWAY with an error, and
// for a connection that was closed.
func notBegun(err error) bool {
	if err == nil {
		return false
	}
	if s := (http2.StreamError{}); errors.As(err, &s) {
		return s.Code == http2.ErrCodeRefusedStream
	}
	switch err.Error() {
	case "http2: Transport received Server's graceful shutdown GOAWAY", "http2: client conn not usable", "http2: client conn could not be established":
		return true
	}
	return strings.HasPrefix(err.Error(), "http2: Transport received GOAWAY from server ErrCode:")
}

func (m *http2Wire) client(n cluster.NodeInfo) *h2client {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.clients[n.Name]
	if c == nil {
		c = &h2client{pool: m.set.PoolTo(n, m.load.Timeout.D()), freed: make(chan struct{}, 1)}
		c.transport = &http.Transport{
			DialContext:        c.dial,
			DisableKeepAlives:  !m.load.KeepAlive,
			IdleConnTimeout:    m.load.Idle.D(),
			DisableCompression: true,
			Protocols:          new(http.Protocols),
		}
		c.transport.Protocols.SetUnencryptedHTTP2(true)
		m.clients[n.Name] = c
	}
	return c
}

// conn returns a connection with a place for one more request. keep: one that others use too.
func (c *h2client) conn(ctx context.Context, keep bool) (*h2conn, error) {
	if !keep {
		conn, err := c.connect(ctx)
		if err == nil && ctx.Err() != nil {
			_ = conn.Close()
			return nil, ctx.Err()
		}
		return conn, err
	}
	var mine *h2dial // begun by this request
	for {
		if ctx.Err() != nil {
			c.free() // the next one may have been woken instead
			return nil, ctx.Err()
		}
		conn, d, err := c.reserve(&mine)
		if conn != nil || err != nil {
			return conn, err
		}
		select {
		case <-c.freed:
		case <-d.done:
		case <-ctx.Done():
		}
	}
}

// reserve takes a place on a connection, or returns the dial of another one to wait for. mine is the one that the request began, whose
// failure is its own; that of one it only waited for began when others had less time left, and it tries again.
func (c *h2client) reserve(mine **h2dial) (*h2conn, *h2dial, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns = slices.DeleteFunc(c.conns, func(conn *h2conn) bool { return conn.Err() != nil })
	for _, conn := range c.conns {
		if conn.Reserve() == nil {
			c.free() // there may be more
			return conn, nil, nil
		}
	}
	if *mine != nil && (*mine).err != nil {
		return nil, nil, (*mine).err
	}
	if c.dialing == nil {
		d := &h2dial{done: make(chan struct{})}
		c.dialing, *mine = d, d
		c.dials.Go(func() { c.open(d) })
	}
	return nil, c.dialing, nil
}

func (c *h2client) open(d *h2dial) {
	defer close(d.done)
	conn, err := c.connect(context.Background())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dialing, d.err = nil, err
	switch {
	case err != nil:
	case c.closed:
		_ = conn.Close()
	default:
		conn.SetStateHook(func(*http.ClientConn) { c.free() })
		c.conns = append(c.conns, conn)
	}
}

// free wakes one of those that wait for a place, who wakes the next one if it finds one. It takes no lock: net/http calls it where
// a connection is used.
func (c *h2client) free() {
	select {
	case c.freed <- struct{}{}:
	default:
	}
}

// close ends what is open or being made.
func (c *h2client) close() {
	c.mu.Lock()
	c.closed = true
	for _, conn := range c.conns {
		_ = conn.Close() // it says whether it was closed before
	}
	c.mu.Unlock()
	c.pool.Close()
	c.dials.Wait()
}

// underKey is where dial leaves the connection that it made for connect.
type underKey struct{}

func (c *h2client) connect(ctx context.Context) (*h2conn, error) {
	conn := &h2conn{}
	var err error
	// The address is of no use: the pool knows its replica.
	conn.ClientConn, err = c.transport.NewClientConn(context.WithValue(ctx, underKey{}, conn), "http", "replica:80")
	if err != nil {
		return nil, err
	}
	return conn, nil
}

func (c *h2client) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	under, err := c.pool.DialWithin(ctx)
	if err != nil {
		return nil, err
	}
	ctx.Value(underKey{}).(*h2conn).under = under.(*replicas.Conn)
	return under, nil
}
