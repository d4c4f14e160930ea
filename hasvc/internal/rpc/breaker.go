package rpc

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sony/gobreaker/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
)

const (
	breakerBuckets = 10 // of the window: a fixed one would be blind each time that it begins anew
	// A call that was given less than this share of an attempt's usual time says nothing when it runs out of it: one
	// client in a hurry must not take the service away from the others.
	hurry = 10
	// stuckOpen is the defect breaker-sticky.
	stuckOpen = 365 * 24 * time.Hour
)

// breaker stops calls to a service that does not answer, so that its callers fail at once instead of waiting, and the
// service is left alone while it recovers. There is one for a service, not for a replica (that is what outlier is for)
// nor for a method.
//
// It stands inside the retries: every attempt asks it, and what it refuses is not tried again.
type breaker struct {
	service string
	off     bool
	try     time.Duration
	metrics *Metrics
	gate    *gobreaker.TwoStepCircuitBreaker[any]
}

// refused is the error of a call that was not made.
type refused struct{ service string }

func (r refused) Error() string {
	return r.GRPCStatus().Message()
}

// GRPCStatus makes it UNAVAILABLE.
func (r refused) GRPCStatus() *status.Status {
	return status.New(codes.Unavailable, "the circuit breaker of "+r.service+" is open")
}

// Refused reports whether err is a breaker's: the call was certainly not made.
func Refused(err error) bool {
	var r refused
	return errors.As(err, &r)
}

func newBreaker(service string, cfg config.Config, m *Metrics) *breaker {
	open := cfg.Breaker.Open
	if cfg.Defects.Has(defect.BreakerSticky) {
		open = stuckOpen
	}
	b := &breaker{service: service, off: cfg.Defects.Has(defect.BreakerOff), try: cfg.Try, metrics: m}
	b.gate = gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
		Name:         service,
		MaxRequests:  uint32(cfg.Breaker.Probes), // #nosec G115 -- bounded by the table of variables
		Interval:     cfg.Breaker.Interval,
		BucketPeriod: cfg.Breaker.Interval / breakerBuckets,
		Timeout:      open,
		ReadyToTrip: func(n gobreaker.Counts) bool {
			return int(n.TotalFailures) > cfg.Breaker.Failures &&
				float64(n.TotalFailures) > cfg.Breaker.Ratio*float64(n.TotalFailures+n.TotalSuccesses)
		},
		// It runs under the breaker's lock: no State or Counts here, and nothing that may block.
		OnStateChange: func(_ string, from, to gobreaker.State) { m.turned(service, from, to) },
		IsSuccessful:  func(err error) bool { return err == nil },
		IsExcluded: func(err error) bool {
			return errors.Is(err, errSilent) && !(cfg.Defects.Has(defect.BreakerCountsCancel) && status.Code(err) == codes.Canceled)
		},
	})
	m.closed(service)
	return b
}

// errSilent wraps outcomes that say nothing about the service.
var errSilent = errors.New("says nothing")

// outcome of a call, as the breaker counts it: nil is a success, errSilent is not counted.
//
// UNAVAILABLE, DEADLINE_EXCEEDED, INTERNAL and UNKNOWN are failures: nobody there, nobody answering, or answers that are
// accidents. All other codes are answers of a service that works: NOT_FOUND and INVALID_ARGUMENT are the caller's affair,
// and RESOURCE_EXHAUSTED is a service that protects itself; to stop all calls for it would turn a limit of one client into
// an outage for all.
//
// Not counted are calls that the caller gave up or gave no time, and UNAVAILABLE with the request not to retry, or a
// deadline that passed while the service waited: that service has answered, and what is away is behind it, where another breaker watches.
func (b *breaker) outcome(ctx context.Context, begin time.Time, err error, trailer metadata.MD) error {
	switch code := status.Code(err); code {
	case codes.Canceled:
		return errors.Join(err, errSilent)
	case codes.DeadlineExceeded:
		if end, ok := ctx.Deadline(); ok && end.Sub(begin) < b.try/hurry || len(trailer.Get(waited)) > 0 {
			return errors.Join(err, errSilent)
		}
		return err
	case codes.Unavailable:
		if pushedBack(trailer) {
			return errors.Join(err, errSilent)
		}
		return err
	case codes.Internal, codes.Unknown:
		return err
	}
	return nil
}

// allow asks for a call. done takes its outcome, once.
func (b *breaker) allow() (done func(error), err error) {
	done, err = b.gate.Allow()
	if err != nil { // open, or half-open with all probes under way
		b.metrics.refused(b.service)
		return nil, refused{b.service}
	}
	return done, nil
}

// passes reports whether a method goes by the breaker. Health checks do: readiness asks the service, not what is thought of
// it, and answers of another kind would dilute the ratio.
func (b *breaker) passes(method string) bool {
	return b.off || strings.HasPrefix(method, "/"+grpc_health_v1.Health_ServiceDesc.ServiceName+"/")
}

// unary is the interceptor of a call.
func (b *breaker) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if b.passes(method) {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	done, err := b.allow()
	if err != nil {
		return err
	}
	begin := time.Now()
	var trailer metadata.MD
	err = status.Error(codes.Unknown, "the call panicked")
	defer func() { done(b.outcome(ctx, begin, err, trailer)) }() // also then: a probe that never ends would block the others
	err = invoke(ctx, method, req, reply, cc, append(opts[:len(opts):len(opts)], grpc.Trailer(&trailer))...)
	return err
}

// stream is the interceptor of a stream. Its outcome is that of its first answer: a stream may live for hours, and a
// half-open breaker waits for its probes.
func (b *breaker) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if b.passes(method) {
		return open(ctx, desc, cc, method, opts...)
	}
	done, err := b.allow()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		done(b.outcome(ctx, begin, err, nil))
		return nil, err
	}
	var once sync.Once
	first := func(err error) {
		once.Do(func() { done(b.outcome(ctx, begin, err, trailerOf(s, err))) })
	}
	// The caller may also go away without ever asking for an answer. (The stream's own context ends with the stream too,
	// before its error is known.)
	stop := context.AfterFunc(ctx, func() { first(status.FromContextError(ctx.Err()).Err()) })
	return &watched{ClientStream: s, first: func(err error) {
		stop()
		first(err)
	}}, nil
}

// trailerOf a stream may only be asked for when the stream has ended by itself.
func trailerOf(s grpc.ClientStream, err error) metadata.MD {
	if status.Code(err) != codes.Unavailable {
		return nil
	}
	return s.Trailer()
}

// watched is a stream whose first answer is told to the breaker.
type watched struct {
	grpc.ClientStream
	first func(error)
}

// Header implements grpc.ClientStream. A server that sends headers, and not only the end, has taken the stream.
func (w *watched) Header() (metadata.MD, error) {
	md, err := w.ClientStream.Header()
	if err == nil && md != nil {
		w.first(nil)
	}
	return md, err
}

// RecvMsg implements grpc.ClientStream.
func (w *watched) RecvMsg(m any) error {
	err := w.ClientStream.RecvMsg(m)
	if errors.Is(err, io.EOF) {
		w.first(nil)
	} else {
		w.first(err)
	}
	return err
}

// breakerMetrics are part of Metrics.
type breakerMetrics struct {
	state       *prometheus.GaugeVec
	transitions *prometheus.CounterVec
	rejected    *prometheus.CounterVec
}

func newBreakerMetrics(reg prometheus.Registerer) breakerMetrics {
	m := breakerMetrics{
		state: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "hasvc_breaker_state", Help: "Circuit breaker: 0 closed, 1 half-open, 2 open. Open turns half-open at the next call.",
		}, []string{"service"}),
		transitions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hasvc_breaker_transitions_total", Help: "Changes of the circuit breaker's state.",
		}, []string{"service", "from", "to"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hasvc_breaker_rejected_total", Help: "Calls that the circuit breaker refused.",
		}, []string{"service"}),
	}
	reg.MustRegister(m.state, m.transitions, m.rejected)
	return m
}

func (m *Metrics) closed(service string) {
	if m != nil {
		m.breaker.state.WithLabelValues(service).Set(float64(gobreaker.StateClosed))
		m.breaker.rejected.WithLabelValues(service)
	}
}

func (m *Metrics) turned(service string, from, to gobreaker.State) {
	if m != nil {
		m.breaker.state.WithLabelValues(service).Set(float64(to)) // gobreaker's numbers are those of the metric
		m.breaker.transitions.WithLabelValues(service, from.String(), to.String()).Inc()
	}
}

func (m *Metrics) refused(service string) {
	if m != nil {
		m.breaker.rejected.WithLabelValues(service).Inc()
	}
}
