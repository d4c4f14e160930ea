package role

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hasvc/gauntlet/hasvc/internal/defect"
)

func newMetrics() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// exposed serves the metrics. OpenMetrics is what carries exemplars; native histograms need protobuf, which is always there.
func exposed(reg *prometheus.Registry, defects defect.Set) http.Handler {
	if defects.Has(defect.MetricsMissing) {
		reg = newMetrics() // the defect shows the process alone
	}
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true})
}
