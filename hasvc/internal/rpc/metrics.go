package rpc

import "github.com/prometheus/client_golang/prometheus"

// Metrics of outgoing calls. The nil value counts nothing.
type Metrics struct {
	retries *prometheus.CounterVec
	breaker breakerMetrics
	seconds *prometheus.HistogramVec
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{retries: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hasvc_client_retries_total", Help: "Attempts after the first, by gRPC method.",
	}, []string{"method"})}
	reg.MustRegister(m.retries)
	m.breaker = newBreakerMetrics(reg)
	m.seconds = newClientSeconds(reg)
	return m
}

func (m *Metrics) retried(method string) {
	if m != nil {
		m.retries.WithLabelValues(method).Inc()
	}
}
