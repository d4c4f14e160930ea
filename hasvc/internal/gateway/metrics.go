package gateway

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hasvc/gauntlet/hasvc/internal/trace"
)

// Metrics of the API.
type Metrics struct {
	seconds  *prometheus.HistogramVec
	inFlight prometheus.Gauge
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hasvc_http_request_seconds", Help: "Latency of requests, by route and status.",
			NativeHistogramBucketFactor: 1.1, // coarser ones read a p99 of 30 ms as 50
		}, []string{"route", "status"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "hasvc_http_in_flight", Help: "Requests being served."}),
	}
	reg.MustRegister(m.seconds, m.inFlight)
	return m
}

// counted is a response that remembers its status.
type counted struct {
	http.ResponseWriter
	m      *Metrics
	route  string
	begin  time.Time
	status int
}

func (m *Metrics) begin(w http.ResponseWriter, route string) *counted {
	m.inFlight.Inc()
	return &counted{ResponseWriter: w, m: m, route: route, begin: time.Now(), status: http.StatusOK}
}

// WriteHeader implements http.ResponseWriter.
func (c *counted) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (c *counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// end measures, and leaves the trace as an exemplar. As a label it would make a series of each request.
func (c *counted) end(ctx context.Context) {
	c.m.inFlight.Dec()
	took := time.Since(c.begin).Seconds()
	to := c.m.seconds.WithLabelValues(c.route, strconv.Itoa(c.status))
	if e, ok := to.(prometheus.ExemplarObserver); ok {
		e.ObserveWithExemplar(took, prometheus.Labels{"trace_id": trace.ID(ctx)})
		return
	}
	to.Observe(took)
}
