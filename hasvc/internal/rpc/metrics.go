package rpc

import "github.com/prometheus/client_golang/prometheus"

// Metrics of outgoing calls. The nil value counts nothing.
type Metrics struct {
	retries *prometheus.CounterVec
	budget  prometheus.Counter
	breaker breakerMetrics
	seconds *prometheus.HistogramVec
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{retries: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hasvc_client_retries_total", Help: "Attempts after the first, by gRPC method.",
	}, []string{"method"})}
	m.budget = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "hasvc_retry_budget_exhausted_total", Help: "Retries that were not made because the budget was spent.",
	})
	reg.MustRegister(m.retries, m.budget)
	m.breaker = newBreakerMetrics(reg)
	m.seconds = newClientSeconds(reg)
	return m
}

func (m *Metrics) retried(method string) {
	if m != nil {
		m.retries.WithLabelValues(method).Inc()
	}
}

func (m *Metrics) overspent() {
	if m != nil {
		m.budget.Inc()
	}
}
