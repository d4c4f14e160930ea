package load

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"

	"github.com/hasvc/gauntlet/harness/cluster/replicas"
	"github.com/hasvc/gauntlet/harness/plan"
)

// lanes is how many clients a load stands for. Each has connections of its own: http.Transport hands out the idle
// connection used last, so with one client everything would go to one replica.
const lanes = 16

// http1Wire is the wire of HTTP/1.1: a connection has one request at a time.
type http1Wire struct {
	base  http.Transport
	hosts [lanes]string
	pool  *replicas.Pool
}

func newHTTP1(set *replicas.Set, l plan.Load) *http1Wire {
	h := &http1Wire{pool: set.Pool(l.Timeout.D())}
	_, port, err := net.SplitHostPort(set.Host())
	if err != nil {
		port = "80"
	}
	for i := range h.hosts {
		h.hosts[i] = net.JoinHostPort("lane-"+strconv.Itoa(i), port)
	}
	h.base = http.Transport{
		DialContext:         h.pool.Dial,
		DisableKeepAlives:   !l.KeepAlive,
		IdleConnTimeout:     l.Idle.D(),
		DisableCompression:  true,
		MaxIdleConnsPerHost: 1 << 20,
	}
	return h
}

func (h *http1Wire) close() {
	h.base.CloseIdleConnections()
	h.pool.Close()
}

func (h *http1Wire) send(r *http.Request, seq uint64, c *call) (*http.Response, error) {
	r.URL.Host = h.hosts[seq%lanes]
	resp, err := h.base.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{GotConn: c.gotConn})))
	if err != nil && c.lost != nil {
		err = c.lost
	}
	return resp, err
}

// gotConn hears which connection a request uses. http.Transport sends a GET, or anything with an Idempotency-Key, again when a
// kept connection breaks under it. A load sends each request once: it may move to another connection only if nothing
// of it has left. A call of gotConn returns before anything is sent on the new connection.
func (c *call) gotConn(i httptrace.GotConnInfo) {
	next, ok := i.Conn.(*replicas.Conn)
	if !ok {
		return
	}
	if c.conn != nil && c.conn.Sent() > c.mark {
		next.Refuse()
		if c.lost = errLost; c.conn.Broken() != nil {
			c.lost = fmt.Errorf("%w: %w", errLost, c.conn.Broken())
		}
		c.stop()
		return
	}
	c.conn, c.mark, c.node = next, next.Sent(), next.Node
}
