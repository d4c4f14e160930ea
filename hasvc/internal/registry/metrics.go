package registry

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics shows whether a replica is in the registry. The nil value shows nothing.
type Metrics struct {
	until atomic.Pointer[time.Time] // when the entry's lease runs out unless it is renewed; nil: there is no entry
}

// NewMetrics registers the metric.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{}
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hasvc_registered", Help: "1 while the registry has this replica's entry under a lease that has not run out, as far as the replica knows.",
	}, m.registered))
	return m
}

// registered looks at the time: nothing happens here when a lease runs out that cannot be renewed.
func (m *Metrics) registered() float64 {
	if until := m.until.Load(); until == nil || !time.Now().Before(*until) {
		return 0
	}
	return 1
}

// leased says that at the time of asking the lease had so many seconds to go.
func (m *Metrics) leased(asked time.Time, seconds int64) {
	if m != nil {
		until := asked.Add(time.Duration(seconds) * time.Second)
		m.until.Store(&until)
	}
}

// lost says that there is no entry.
func (m *Metrics) lost() {
	if m != nil {
		m.until.Store(nil)
	}
}
