package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
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

	turn  chan struct{} // of capacity 1: who looks for a connection, or makes one
	conns []*h2conn     // under turn
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
		for _, conn := range c.conns {
			_ = conn.Close() // it says whether it was closed before
		}
		c.pool.Close()
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
// of the last two only the words tell.
func notBegun(err error) bool {
	if err == nil {
		return false
	}
	if s := (http2.StreamError{}); errors.As(err, &s) {
		return s.Code == http2.ErrCodeRefusedStream
	}
	switch err.Error() {
	case "http2: Transport received Server's graceful shutdown GOAWAY", "http2: client conn not usable":
		return true
	}
	return false
}

func (m *http2Wire) client(n cluster.NodeInfo) *h2client {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.clients[n.Name]
	if c == nil {
		c = &h2client{pool: m.set.PoolTo(n, m.load.Timeout.D()), turn: make(chan struct{}, 1)}
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
		return c.connect(ctx)
	}
	select {
	case c.turn <- struct{}{}: // one connects, and the others find what it made
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c.conns = slices.DeleteFunc(c.conns, func(conn *h2conn) bool { return conn.Err() != nil })
	for _, conn := range c.conns {
		if conn.Reserve() == nil {
			return conn, nil
		}
	}
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	c.conns = append(c.conns, conn)
	return conn, conn.Reserve()
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

func (c *h2client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	under, err := c.pool.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	ctx.Value(underKey{}).(*h2conn).under = under.(*replicas.Conn)
	return under, nil
}
