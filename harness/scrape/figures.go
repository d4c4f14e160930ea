package scrape

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/record"
)

// nodeFigures exposes what nodes use, read from outside. cluster.Client is a node among them, and cluster.Plane and cluster.Engine stand
// for what carries them. A reading that fails makes the scrape fail, so that it is a gap.
type nodeFigures struct {
	cluster cluster.Cluster

	mu     sync.Mutex
	failed error // the last reading that failed
	read   bool  // one did not
}

func newNodeFigures(c cluster.Cluster) *nodeFigures { return &nodeFigures{cluster: c} }

// Describe implements prometheus.Collector: as an unchecked one, for which labels a node has depends on the topology.
func (f *nodeFigures) Describe(chan<- *prometheus.Desc) {}

const cpuSeconds = "gauntlet_node_cpu_seconds_total"

// figures of a node, by the names of their metrics.
var figures = []struct {
	name, help string
	kind       prometheus.ValueType
	of         func(u cluster.Usage) float64
}{
	{cpuSeconds, "Processor time of all processes of the node, those that ended included.", prometheus.CounterValue,
		func(u cluster.Usage) float64 { return u.CPU.Seconds() }},
	{"gauntlet_node_memory_bytes", "Resident memory of all processes of the node.", prometheus.GaugeValue,
		func(u cluster.Usage) float64 { return float64(u.RSS) }},
	{"gauntlet_node_threads", "Threads of all processes of the node.", prometheus.GaugeValue,
		func(u cluster.Usage) float64 { return float64(u.Threads) }},
	{"gauntlet_node_descriptors", "Open descriptors of all processes of the node.", prometheus.GaugeValue,
		func(u cluster.Usage) float64 { return float64(u.FDs) }},
	{"gauntlet_node_sockets", "Sockets in use in the node's network, whoever holds them, without those in TIME_WAIT.", prometheus.GaugeValue,
		func(u cluster.Usage) float64 { return float64(u.Sockets) }},
	{"gauntlet_node_restarts_total", "Starts of the node's program after the first, whoever asked.", prometheus.CounterValue,
		func(u cluster.Usage) float64 { return float64(u.Restarts) }},
}

// Collect implements prometheus.Collector.
func (f *nodeFigures) Collect(ch chan<- prometheus.Metric) {
	usage, err := f.usage()
	f.mu.Lock()
	if err != nil {
		f.failed = err
	} else {
		f.read = true
	}
	f.mu.Unlock()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
		return
	}
	infos := map[string]cluster.NodeInfo{}
	for _, n := range f.cluster.Nodes() {
		infos[n.Name] = n
	}
	for _, name := range []string{cluster.Client, cluster.Plane, cluster.Engine} {
		infos[name] = cluster.NodeInfo{Name: name}
	}
	for name, u := range usage {
		info, ok := infos[name]
		if !ok {
			continue // removed
		}
		set := nodeLabels(info)
		keys := slices.Sorted(maps.Keys(set))
		values := make([]string, len(keys))
		for i, k := range keys {
			values[i] = set[k]
		}
		for _, g := range figures {
			if name == cluster.Engine && g.name != cpuSeconds {
				continue // not known
			}
			ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(g.name, g.help, keys, nil), g.kind, g.of(u), values...)
		}
	}
}

func (f *nodeFigures) usage() (map[string]cluster.Usage, error) {
	u, ok := f.cluster.(cluster.Usager)
	if !ok {
		return nil, errors.New("the driver does not know what its nodes use")
	}
	ctx, cancel := context.WithTimeout(context.Background(), Interval)
	defer cancel()
	return u.Usage(ctx)
}

// err says why there are no figures at all, if there are none. One that is missing is a gap.
func (f *nodeFigures) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.read || f.failed == nil {
		return nil
	}
	return fmt.Errorf("there are no figures of what nodes use: %w", f.failed)
}

// loadFigures exposes what the loads sent and what came back.
type loadFigures struct {
	requests *prometheus.CounterVec
	latency  *prometheus.HistogramVec
}

func newLoadFigures() *loadFigures {
	return &loadFigures{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gauntlet_load_requests_total", Help: "Requests of a load that ended, by the status of the answer (0: none) and whether it was the expected one.",
		}, []string{"load", "code", "ok"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gauntlet_load_request_seconds", Help: "Time from the moment a request was due to its end.",
			// With a coarser factor a true p99 of 30 ms reads 50.
			NativeHistogramBucketFactor: 1.1,
		}, []string{"load"}),
	}
}

// add counts a request.
func (f *loadFigures) add(load string, r record.Request) {
	f.requests.WithLabelValues(load, strconv.Itoa(r.Code), strconv.FormatBool(r.OK)).Inc()
	f.latency.WithLabelValues(load).Observe(r.Latency().Seconds())
}

// Describe implements prometheus.Collector.
func (f *loadFigures) Describe(ch chan<- *prometheus.Desc) {
	f.requests.Describe(ch)
	f.latency.Describe(ch)
}

// Collect implements prometheus.Collector.
func (f *loadFigures) Collect(ch chan<- prometheus.Metric) {
	f.requests.Collect(ch)
	f.latency.Collect(ch)
}
