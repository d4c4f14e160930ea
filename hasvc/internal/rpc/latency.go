package rpc

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/trace"
)

// bucketFactor of native histograms: coarser ones read a p99 of 30 ms as 50.
const bucketFactor = 1.1

// observe measures, and leaves the trace as an exemplar. As a label it would make a series of each request.
func observe(ctx context.Context, to prometheus.Observer, took time.Duration) {
	id := trace.ID(ctx)
	if e, ok := to.(prometheus.ExemplarObserver); ok && id != "" {
		e.ObserveWithExemplar(took.Seconds(), prometheus.Labels{"trace_id": id})
		return
	}
	to.Observe(took.Seconds())
}

// Served measures the calls that a gRPC server answers.
type Served struct {
	seconds  *prometheus.HistogramVec
	inFlight prometheus.Gauge
}

// NewServed registers the metrics.
func NewServed(reg prometheus.Registerer) *Served {
	s := &Served{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hasvc_rpc_server_seconds", Help: "Latency of calls served, by gRPC method and code. Of a stream: how long it lived.",
			NativeHistogramBucketFactor: bucketFactor,
		}, []string{"method", "code"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "hasvc_rpc_server_in_flight", Help: "Calls and streams being served."}),
	}
	reg.MustRegister(s.seconds, s.inFlight)
	return s
}

// Unary is the interceptor of calls.
func (s *Served) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	begin := time.Now()
	s.inFlight.Inc()
	defer s.inFlight.Dec()
	resp, err := handle(ctx, req)
	observe(ctx, s.seconds.WithLabelValues(info.FullMethod, status.Code(err).String()), time.Since(begin))
	return resp, err
}

// Stream is the interceptor of streams.
func (s *Served) Stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	begin := time.Now()
	s.inFlight.Inc()
	defer s.inFlight.Dec()
	err := handle(srv, ss)
	observe(ss.Context(), s.seconds.WithLabelValues(info.FullMethod, status.Code(err).String()), time.Since(begin))
	return err
}
