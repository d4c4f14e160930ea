// Package gateway is the HTTP API.
//
//	POST /orders                {"sku", "quantity"}, with Idempotency-Key -> 201 {"id", "sku", "quantity", "status", "createdAt"}
//	GET  /orders/{id}           200, or 404
//	GET  /registers/{key}       200 {"key", "value", "revision"}, or 404; ?consistency=serializable reads what one member knows
//	PUT  /registers/{key}       {"value", "expectRevision"} -> 200, or 409: the comparison failed, certainly not applied
//	GET  /stock/{sku}           200 {"sku", "level", "revision", "stale"}; 501 without inventory
//	GET  /stream/stock/{sku}    200, a JSON line like that for each change; ?after=REVISION goes on behind the last line that was read,
//	                            ?for=30s ends it that long after its beginning, which Request-Timeout is for. A last line
//	                            {"end", "after"} says that it is over, or that the replica stops
//
// An error is JSON with error and traceId. 503 (with Retry-After) and 504 leave open whether a write took effect; 408: the body
// did not arrive within the request's time.
package gateway

import (
	"context"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/hasvc/gauntlet/hasvc/internal/body"
	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/limit"
	"github.com/hasvc/gauntlet/hasvc/internal/logs"
	"github.com/hasvc/gauntlet/hasvc/internal/ordersv1"
	"github.com/hasvc/gauntlet/hasvc/internal/recovery"
	"github.com/hasvc/gauntlet/hasvc/internal/requests"
	"github.com/hasvc/gauntlet/hasvc/internal/route"
	"github.com/hasvc/gauntlet/hasvc/internal/shed"
	"github.com/hasvc/gauntlet/hasvc/internal/trace"
)

// Server is the API, an http.Handler.
type Server struct {
	// Streams, when not nil, ends when the replica is about to stop, and its streams with it. Set it before the first request.
	Streams context.Context //nolint:containedctx // it is the streams' life, not a request's

	cfg     config.Config
	orders  ordersv1.OrdersClient
	metrics *requests.Metrics
	tracer  *trace.Tracer
	access  logs.Access
	guard   *recovery.Guard
	limiter *limit.Limiter
	shedder *shed.Limiter
	mux     *http.ServeMux
	unknown http.HandlerFunc // for what has no place in mux
}

// New returns the API on top of orders; routes may add more.
func New(cfg config.Config, orders ordersv1.OrdersClient, reg prometheus.Registerer, tracer *trace.Tracer, log *zap.Logger, routes func(*http.ServeMux)) *Server {
	s := &Server{cfg: cfg, orders: orders, tracer: tracer, mux: http.NewServeMux(),
		access:  logs.Access{Log: log, Defects: cfg.Defects},
		metrics: requests.NewMetrics(reg), guard: recovery.New(cfg, reg, log), limiter: limit.New(cfg, reg), shedder: shed.New(cfg, reg)}
	s.mux.HandleFunc("POST /orders", s.handle("create_order", s.createOrder))
	s.mux.HandleFunc("GET /orders/{id}", s.handle("get_order", s.getOrder))
	s.mux.HandleFunc("GET /registers/{key}", s.handle("get_register", s.getRegister))
	s.mux.HandleFunc("PUT /registers/{key}", s.handle("put_register", s.putRegister))
	s.mux.HandleFunc("GET /stock/{sku}", s.handle("get_stock", s.getStock))
	s.mux.HandleFunc("GET /stream/stock/{sku}", s.observed("stream_stock", s.streamStock))
	s.mux.HandleFunc("/stream/stock/{sku}", s.wrongMethod(http.MethodGet))
	s.mux.HandleFunc("/stock/{sku}", s.wrongMethod(http.MethodGet))
	s.mux.HandleFunc("/orders", s.wrongMethod(http.MethodPost))
	s.mux.HandleFunc("/orders/{id}", s.wrongMethod(http.MethodGet))
	s.mux.HandleFunc("/registers/{key}", s.wrongMethod("GET, PUT"))
	s.unknown = s.handle("unknown", func(context.Context, http.ResponseWriter, *http.Request) error {
		return problem(http.StatusNotFound, "there is no such resource")
	})
	s.mux.HandleFunc("/", s.unknown)
	routes(s.mux)
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !route.Clean(r.URL) {
		s.unknown(w, r)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// handle gives a request its ids and deadline, and an error its answer.
func (s *Server) handle(route string, h func(ctx context.Context, w http.ResponseWriter, r *http.Request) error) http.HandlerFunc {
	return s.observed(route, func(w http.ResponseWriter, r *http.Request) error {
		ctx, cancel, err := s.deadline(r)
		if err != nil {
			return err
		}
		defer cancel()
		return s.admit(ctx, w, r, route, func() error { return h(ctx, w, r) })
	})
}

// observed is what surrounds every route: span, access log, metrics.
func (s *Server) observed(route string, h func(w http.ResponseWriter, r *http.Request) error) http.HandlerFunc {
	return s.tracer.HTTP(route, s.access.HTTP(route, func(w http.ResponseWriter, r *http.Request) {
		counted := s.metrics.Begin(w, route)
		defer counted.End(r.Context())
		if err := s.guard.Run(r.Context(), func() error { return h(counted, r) }); err != nil {
			s.fail(counted, r, err)
		}
	})).ServeHTTP
}

// admit runs a request that its client may send and that there is room for. (Streams are limited, but not shed: they live for
// long and do little, so they are neither a measure of the load nor a part of it.)
func (s *Server) admit(ctx context.Context, w http.ResponseWriter, r *http.Request, route string, handle func() error) error {
	if err := s.limiter.Wait(ctx, r, route); err != nil {
		return err
	}
	whole := func() error {
		until, _ := ctx.Deadline()
		return body.Keep(w, r, int64(s.cfg.MaxBody), until)
	}
	if s.cfg.Defects.Has(defect.ShedEarly) {
		return s.shedder.Run(ctx, r, func() error {
			if err := whole(); err != nil {
				return err
			}
			return handle()
		})
	}
	// Before it takes a place: how fast a client sends is no measure of the load either.
	if err := whole(); err != nil {
		return err
	}
	return s.shedder.Run(ctx, r, handle)
}

func (s *Server) wrongMethod(allow string) http.HandlerFunc {
	return s.handle("unknown", func(_ context.Context, w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Allow", allow)
		return problem(http.StatusMethodNotAllowed, "only "+allow+" here")
	})
}
