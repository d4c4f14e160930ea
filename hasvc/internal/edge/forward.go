package edge

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/logs"
	"github.com/hasvc/gauntlet/hasvc/internal/reply"
	"github.com/hasvc/gauntlet/hasvc/internal/trace"
)

const (
	connectTimeout = time.Second
	// idleTimeout is shorter than the gateways' own (a minute): who sends closes first, or a request meets a connection
	// that is being closed.
	idleTimeout = 20 * time.Second
	idlePerHost = 256 // Go's default of 2 would make a connection for nearly every request
	// mostTries of a request: when three gateways in a row cannot be reached, the trouble is elsewhere.
	mostTries = 3
	// idempotencyKey is the header by which the service knows an order again.
	idempotencyKey = "Idempotency-Key"
)

// forward sends a request to a gateway, and to another when the first could not be reached. It is the http.RoundTripper of
// the reverse proxy.
//
// Only failures of the connection lead to another attempt, never an answer and never a long wait: gateways try again what
// is slow behind them, and two layers that do so multiply. And only what was not sent, or may be sent twice.
//
// The transport below repeats by itself what it wrote to a kept connection that turned out to be closed, under the same
// rule (GET, HEAD, a POST with an Idempotency-Key, or nothing written), on a new connection to the same gateway. That is
// wanted: it is the race of every keep-alive connection, and no other gateway would be a better choice. Bodies have been
// read by then, so that it can.
type forward struct {
	pool      *pool
	noRetry   bool // the defect edge-no-retry
	transport *http.Transport
	attempt   http.RoundTripper // the transport, with a span of each attempt
}

func newForward(p *pool, cfg config.Config, tracer *trace.Tracer) *forward {
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: connectTimeout}).DialContext,
		MaxIdleConnsPerHost: idlePerHost,
		IdleConnTimeout:     idleTimeout,
		DisableCompression:  true, // bodies pass as they are
	}
	return &forward{pool: p, noRetry: cfg.Defects.Has(defect.EdgeNoRetry), transport: transport, attempt: tracer.Transport(transport)}
}

// errNoGateway: no gateway is ready.
var errNoGateway = &reply.Problem{Status: http.StatusServiceUnavailable, Message: "no gateway is ready"}

// RoundTrip implements http.RoundTripper.
func (f *forward) RoundTrip(r *http.Request) (*http.Response, error) {
	var tried []*gateway
	var last error
	for len(tried) < mostTries {
		g := f.pool.take(tried)
		if g == nil {
			break
		}
		tried = append(tried, g)
		resp, err := f.once(r, g)
		if err == nil {
			return resp, nil
		}
		last = err
		if r.Context().Err() != nil {
			return nil, err
		}
		g.doubt.Store(true) // until its next check, which may be up to a second away
		logs.From(r.Context()).Warn("a gateway could not be reached", zap.String("addr", g.addr), zap.Error(err))
		if f.noRetry || !unsent(err) && !repeatable(r) {
			return nil, err
		}
	}
	if last == nil {
		return nil, errNoGateway
	}
	return nil, last
}

func (f *forward) once(r *http.Request, g *gateway) (*http.Response, error) {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host = "http", g.addr
	if !repeatable(r) {
		// The transport takes their presence for leave to repeat, whatever the method and even without a value.
		out.Header.Del(idempotencyKey)
		out.Header.Del("X-" + idempotencyKey)
	}
	if r.Body != nil && r.GetBody != nil {
		body, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		out.Body = body
	}
	resp, err := f.attempt.RoundTrip(out)
	if err != nil {
		g.inFlight.Add(-1)
		return nil, err
	}
	resp.Body = &answer{ReadCloser: resp.Body, log: logs.From(r.Context()), done: sync.OnceFunc(func() { g.inFlight.Add(-1) })}
	return resp, nil
}

// unsent reports whether the request certainly did not leave.
func unsent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// repeatable reports whether a request may be sent twice: it changes nothing, or is one that the service knows again by its key.
// A PUT is not, for the service asks it for no key: what others wrote in between would be undone.
func repeatable(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return true
	case http.MethodPost:
		return r.Header.Get(idempotencyKey) != ""
	}
	return false
}

// answer tells when it has been passed on, which for a stream is long after it began, and logs what it broke off by: the reverse
// proxy does not know the request's ids.
type answer struct {
	io.ReadCloser
	log  *zap.Logger
	done func()
}

// Read implements io.Reader. That the client leaves, or the edge, is no failure of the gateway.
func (a *answer) Read(b []byte) (int, error) {
	n, err := a.ReadCloser.Read(b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, context.Canceled) && !errors.Is(err, errDeparting) {
		a.log.Warn("an answer broke off", zap.Error(err))
	}
	return n, err
}

// Close implements io.Closer.
func (a *answer) Close() error {
	a.done()
	return a.ReadCloser.Close()
}
