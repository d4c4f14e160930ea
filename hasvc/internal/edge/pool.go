package edge

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// gateway is a replica behind the edge.
type gateway struct {
	addr     string
	ready    atomic.Bool // by its last check
	doubt    atomic.Bool // a connection to it failed since
	inFlight atomic.Int64
	stop     func() // ends its checks
}

// pool is the gateways that the registry names.
type pool struct {
	choose   chooser
	noChecks bool // the defect edge-no-checks
	check    func(*gateway) (stop func())

	mu  sync.Mutex
	all []*gateway
	n   atomic.Uint64
}

// set follows the registry: who is new gets its checks, who is gone loses them and finishes what it has in hand.
func (p *pool) set(addrs []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var next []*gateway
	for _, addr := range addrs {
		i := slices.IndexFunc(p.all, func(g *gateway) bool { return g.addr == addr })
		if i >= 0 {
			next = append(next, p.all[i])
			continue
		}
		g := &gateway{addr: addr} // not ready until it says so
		g.stop = p.check(g)
		next = append(next, g)
	}
	for _, g := range p.all {
		if !slices.Contains(next, g) {
			g.stop()
		}
	}
	p.all = next
}

// ready returns the gateways that may get a request, those in doubt too.
func (p *pool) ready() []*gateway {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.noChecks {
		return slices.Clone(p.all)
	}
	var out []*gateway
	for _, g := range p.all {
		if g.ready.Load() {
			out = append(out, g)
		}
	}
	return out
}

// take chooses a ready gateway that the request has not been sent to, and counts it there; nil: there is none. One in doubt is better
// than none: a connection that broke says little of the next one, and where all are in doubt the trouble may be on the way to them.
func (p *pool) take(tried []*gateway) *gateway {
	from := slices.DeleteFunc(p.ready(), func(g *gateway) bool { return slices.Contains(tried, g) })
	if sure := slices.DeleteFunc(slices.Clone(from), func(g *gateway) bool { return g.doubt.Load() }); len(sure) > 0 && !p.noChecks {
		from = sure
	}
	if len(from) == 0 {
		return nil
	}
	g := p.choose(p.n.Add(1), from)
	g.inFlight.Add(1)
	return g
}

// Describe implements prometheus.Collector.
func (p *pool) Describe(ch chan<- *prometheus.Desc) { ch <- backends }

// Collect implements prometheus.Collector.
func (p *pool) Collect(ch chan<- prometheus.Metric) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ready float64
	for _, g := range p.all {
		if g.ready.Load() {
			ready++
		}
	}
	ch <- prometheus.MustNewConstMetric(backends, prometheus.GaugeValue, ready, "ready")
	ch <- prometheus.MustNewConstMetric(backends, prometheus.GaugeValue, float64(len(p.all))-ready, "not_ready")
}

var backends = prometheus.NewDesc("hasvc_edge_backends", "Gateways that the registry names, by what their last check said.", []string{"state"}, nil)
