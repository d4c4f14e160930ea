// Package edge is what clients reach: it passes each request on to a gateway that is ready.
//
// It knows nothing of the API. An answer of its own is JSON with error and traceId: 503 (with Retry-After) when no gateway is
// ready or none could be reached, 502 when the connection to one broke after the request was sent, 504 when the deadline has
// passed, 408 when it passed before the body was there.
package edge

import (
	"context"
	"errors"
	"io"
	stdlog "log"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/hasvc/gauntlet/hasvc/internal/body"
	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/limit"
	"github.com/hasvc/gauntlet/hasvc/internal/logs"
	"github.com/hasvc/gauntlet/hasvc/internal/recovery"
	"github.com/hasvc/gauntlet/hasvc/internal/reply"
	"github.com/hasvc/gauntlet/hasvc/internal/requests"
	"github.com/hasvc/gauntlet/hasvc/internal/route"
	"github.com/hasvc/gauntlet/hasvc/internal/trace"
)

const (
	// streams are the paths whose answers may go on for ever; there the deadline is for the beginning of the answer.
	streams = "/stream/"
	// statusClientGone is for the metrics only: the client has closed its connection (nginx's number).
	statusClientGone = 499
)

// Server is the edge, an http.Handler. Close it.
type Server struct {
	cfg     config.Config
	pool    *pool
	checks  *checker
	forward *forward
	proxy   *httputil.ReverseProxy
	metrics *requests.Metrics
	guard   *recovery.Guard
	limiter *limit.Limiter
	tracer  *trace.Tracer
	access  logs.Access
	mux     *http.ServeMux
	other   http.HandlerFunc // for what has no place in mux: which paths there are, the gateways know

	departing context.Context // ends the streams
	depart    context.CancelFunc
}

// New returns an edge without gateways; routes may add paths that it serves itself.
func New(cfg config.Config, reg prometheus.Registerer, tracer *trace.Tracer, log *zap.Logger, routes func(*http.ServeMux)) *Server {
	s := &Server{cfg: cfg, tracer: tracer, mux: http.NewServeMux(),
		access:  logs.Access{Log: log, Defects: cfg.Defects},
		metrics: requests.NewMetrics(reg), guard: recovery.New(cfg, reg, log), limiter: limit.New(cfg, reg)}
	s.departing, s.depart = context.WithCancel(context.Background())
	s.checks = newChecker(cfg.Ready, log)
	s.pool = &pool{choose: choosers[cfg.EdgeBalancer], noChecks: cfg.Defects.Has(defect.EdgeNoChecks), check: s.checks.watch}
	reg.MustRegister(s.pool)
	s.forward = newForward(s.pool, cfg, tracer)
	s.proxy = &httputil.ReverseProxy{
		Transport:      s.forward,
		Rewrite:        rewrite,
		ModifyResponse: begun,
		FlushInterval:  -1, // a stream's line is of use when it is sent, not when a buffer is full
		ErrorHandler:   s.broken,
		ErrorLog:       stdlog.New(io.Discard, "", 0), // it would say again, and without the request's ids, what answer and fail do
	}
	// The metrics have a label for each of these and not for each path.
	for pattern, route := range map[string]string{
		"/orders": "orders", "/orders/{id}": "order", "/registers/{key}": "register", "/stock/{sku}": "stock", "/stream/": "stream",
	} {
		s.mux.HandleFunc(pattern, s.handle(route))
	}
	s.other = s.handle("other")
	s.mux.HandleFunc("/", s.other)
	s.mux.HandleFunc("/stream", s.other) // or the mux would redirect it to /stream/
	routes(s.mux)
	return s
}

// Gateways says where the gateways are.
func (s *Server) Gateways(addrs []string) { s.pool.set(addrs) }

// Ping is an error when no gateway is ready.
func (s *Server) Ping(context.Context) error {
	if len(s.pool.ready()) == 0 {
		return errNoGateway
	}
	return nil
}

// EndStreams cuts all streams and those to come.
func (s *Server) EndStreams() { s.depart() }

// Close ends the checks and waits for them.
func (s *Server) Close() {
	s.depart()
	s.pool.set(nil)
	s.checks.close()
	s.forward.transport.CloseIdleConnections()
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !route.Clean(r.URL) {
		s.other(w, r)
		return
	}
	s.mux.ServeHTTP(w, r)
}

func (s *Server) handle(route string) http.HandlerFunc {
	return s.tracer.HTTP(route, s.access.HTTP(route, func(w http.ResponseWriter, r *http.Request) {
		counted := s.metrics.Begin(w, route)
		defer counted.End(r.Context())
		if err := s.guard.Run(r.Context(), func() error { return s.pass(counted, r, route) }); err != nil {
			s.fail(counted, r, err)
		}
	})).ServeHTTP
}

// pass sends the request on, with what is left of its time.
func (s *Server) pass(w *requests.Counted, r *http.Request, route string) error {
	begin := time.Now()
	left, err := requests.Time(r, s.cfg.Deadline)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	late := time.AfterFunc(left, func() { cancel(requests.ErrLate) })
	defer late.Stop()
	if err := s.limiter.Wait(ctx, r, route); err != nil {
		return err
	}
	if err := body.Keep(w, r, int64(s.cfg.MaxBody), begin.Add(left)); err != nil {
		return err
	}
	if s.cfg.Defects.Has(defect.NoDeadline) {
		s.proxy.ServeHTTP(w, r.WithContext(context.WithoutCancel(r.Context())))
		return nil
	}
	if ms := (left - time.Since(begin)).Milliseconds(); ms > 0 {
		r.Header.Set(requests.TimeoutHeader, strconv.FormatInt(ms, 10))
	} else {
		return requests.ErrLate
	}
	r = r.WithContext(ctx)
	if strings.HasPrefix(r.URL.Path, streams) {
		r = r.WithContext(context.WithValue(ctx, begunKey{}, func() { late.Stop() }))
		defer context.AfterFunc(s.departing, func() { cancel(errDeparting) })()
	}
	s.proxy.ServeHTTP(w, r)
	return nil
}

// errDeparting cuts streams that have not ended when an edge that leaves has waited for them: it would wait for more in vain, and
// their readers go on elsewhere after the last line that they saw.
var errDeparting = &reply.Problem{Status: http.StatusServiceUnavailable, Message: "this edge is about to stop"}

// begunKey is for what to call when the answer has begun.
type begunKey struct{}

// rewrite leaves the request as it is: ids, priority and the client's own pass. The gateway sees the
// edge's address, so it is told the client's.
func rewrite(p *httputil.ProxyRequest) {
	p.SetXForwarded()
	p.Out.Header.Del(trace.Header) // the transport says which trace it is
	p.Out.Header.Del("Traceparent")
	if p.Out.Header.Get("X-Client-ID") == "" {
		p.Out.Header.Set("X-Client-ID", limit.Client(p.In))
	}
}

// begun sees the beginning of each answer.
func begun(resp *http.Response) error {
	resp.Header.Del(trace.Header) // the edge's own stand there already
	resp.Header.Del(trace.RequestHeader)
	if f, ok := resp.Request.Context().Value(begunKey{}).(func()); ok {
		f()
	}
	return nil
}

// broken answers for a gateway that did not.
func (s *Server) broken(w http.ResponseWriter, r *http.Request, err error) {
	counted, ok := w.(*requests.Counted)
	if !ok {
		panic("edge: the response is not the one that handle made")
	}
	s.fail(counted, r, err)
}

func (s *Server) fail(w *requests.Counted, r *http.Request, err error) {
	var p *reply.Problem
	cause := context.Cause(r.Context())
	switch {
	case errors.As(err, &p), errors.As(cause, &p):
	case cause != nil:
		p = &reply.Problem{Status: statusClientGone, Message: "the client has gone"}
	case errors.Is(err, recovery.ErrPanicked):
		p = &reply.Problem{Status: http.StatusInternalServerError, Message: "internal error"}
	case unsent(err):
		p = &reply.Problem{Status: http.StatusServiceUnavailable, Message: "no gateway could be reached"}
	default: // whether it took effect is not known
		p = &reply.Problem{Status: http.StatusBadGateway, Message: "the connection to the gateway broke"}
	}
	if p.Status >= http.StatusInternalServerError {
		logs.From(r.Context()).Warn("request failed", zap.String("method", r.Method), zap.String("path", r.URL.Path), zap.Int("status", p.Status), zap.Error(err))
	}
	reply.Error(r.Context(), w, p)
}
