package scrape

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	promscrape "github.com/prometheus/prometheus/scrape"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/record"
)

// own is the address of what the harness itself exposes. What nodes use is at another path and has a job of its own: when it cannot
// be read, nothing else is lost.
const (
	own       = record.OfHarness
	usagePath = "/usage"
)

// discovery is how often it is looked which nodes there are.
const discovery = 50 * time.Millisecond

// Scraping is the recording of one topology.
type Scraping struct {
	recorder *Recorder
	manager  *promscrape.Manager
	server   *http.Server
	pipe     *pipe
	nodes    *nodeFigures
	stop     context.CancelFunc
	running  sync.WaitGroup
}

// Scrape begins to record a topology: the nodes that expose metrics, those that come later too, and what all nodes use.
func (r *Recorder) Scrape(c cluster.Cluster) (*Scraping, error) {
	s := &Scraping{recorder: r, pipe: newPipe(), nodes: newNodeFigures(c)}
	exposed, err := r.exposed(s.nodes)
	if err != nil {
		return nil, fmt.Errorf("expose the harness's own figures: %w", err)
	}
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		if host, _, err := net.SplitHostPort(addr); err == nil && host == own {
			return s.pipe.dial(ctx)
		}
		return c.DialPlane(ctx, network, addr)
	}
	s.manager, err = promscrape.NewManager(&promscrape.Options{
		// Without these the first scrape comes after 5 s.
		DiscoveryReloadInterval: model.Duration(discovery), DiscoveryReloadOnStartup: true,
		// When a counter began, where its program says so: see appender.
		ParseST:           true,
		HTTPClientOptions: []promconfig.HTTPClientOption{promconfig.WithDialContextFunc(dial)},
	}, nil, nil, nil, r, prometheus.NewRegistry()) // an AppendableV2 or an Appendable, never both
	if err != nil {
		return nil, fmt.Errorf("begin to scrape: %w", err)
	}
	conf, err := config.Load(jobs, slog.New(slog.DiscardHandler))
	if err == nil {
		err = s.manager.ApplyConfig(conf)
	}
	if err != nil {
		return nil, fmt.Errorf("begin to scrape: %w", err)
	}
	s.server = &http.Server{Handler: exposed, ReadHeaderTimeout: time.Minute}
	s.running.Go(func() { _ = s.server.Serve(s.pipe) }) // ends with Close
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	sets := make(chan map[string][]*targetgroup.Group)
	s.running.Go(func() { watch(ctx, c, sets) })
	s.running.Go(func() { _ = s.manager.Run(sets) }) // nil, after Stop
	return s, nil
}

// exposed serves what the harness itself exposes.
func (r *Recorder) exposed(nodes *nodeFigures) (http.Handler, error) {
	harness, usage := prometheus.NewRegistry(), prometheus.NewRegistry()
	process := collectors.NewProcessCollector(collectors.ProcessCollectorOpts{Namespace: "gauntlet"})
	if err := errors.Join(harness.Register(r.loads), harness.Register(process), usage.Register(nodes)); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	// A broken collector must not take the figures of the others along.
	mux.Handle("/metrics", promhttp.HandlerFor(harness, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	mux.Handle(usagePath, promhttp.HandlerFor(usage, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError}))
	return mux, nil
}

// At evaluates an expression on what was scraped so far. A metric that is not there yet is an *UnknownMetricError.
func (s *Scraping) At(ctx context.Context, expr string) ([]record.Sample, error) {
	return s.recorder.query.at(ctx, expr, time.Since(s.recorder.start))
}

// Close ends the scraping and returns when nothing is under way any more. The error says what could not be read.
func (s *Scraping) Close() error {
	s.stop()
	s.manager.Stop()
	s.server.Close()
	s.running.Wait()
	return s.nodes.err()
}

// jobs are the three: the nodes, the harness, and what it reads of the nodes. Native histograms come by protobuf alone, which
// is asked for with them; the classic ones stay, so that expressions over buckets hold. A node's own clock may be off, so its
// timestamps do not count. What a program calls service or node is what one finds in its documentation: it is not renamed.
const jobs = `
global:
  scrape_interval: 200ms
  scrape_timeout: 200ms
scrape_configs:
` + job + `nodes` + settings + job + record.OfHarness + settings + job + record.OfNodes + settings

const (
	job      = "- job_name: "
	settings = `
  scrape_native_histograms: true
  always_scrape_classic_histograms: true
  fallback_scrape_protocol: PrometheusText0.0.4
  enable_compression: false
  honor_timestamps: false
  honor_labels: true
`
)

// watch tells the manager of the nodes that there are, until ctx ends.
func watch(ctx context.Context, c cluster.Cluster, sets chan<- map[string][]*targetgroup.Group) {
	tick := time.NewTicker(discovery)
	defer tick.Stop()
	var known []cluster.NodeInfo
	for first := true; ; first = false {
		nodes := c.Nodes()
		if first || !slices.Equal(nodes, known) {
			known = nodes
			select {
			case sets <- targets(c.Spec(), nodes):
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// targets are what is scraped.
func targets(spec *cluster.Spec, nodes []cluster.NodeInfo) map[string][]*targetgroup.Group {
	group := &targetgroup.Group{Source: "nodes"}
	for _, n := range nodes {
		i := slices.IndexFunc(spec.Services, func(s cluster.Service) bool { return s.Name == n.Service })
		if i < 0 || spec.Services[i].Metrics == nil {
			continue
		}
		m := spec.Services[i].Metrics
		set := model.LabelSet{
			model.AddressLabel: model.LabelValue(fmt.Sprintf("%s:%d", n.Name, m.Port)), model.MetricsPathLabel: model.LabelValue(m.Path),
			model.JobLabel: model.LabelValue(n.Service),
		}
		for name, v := range nodeLabels(n) {
			set[model.LabelName(name)] = model.LabelValue(v)
		}
		group.Targets = append(group.Targets, set)
	}
	const address = own + ":80"
	harness := &targetgroup.Group{Source: record.OfHarness, Targets: []model.LabelSet{{model.AddressLabel: address}}}
	usage := &targetgroup.Group{Source: record.OfNodes, Targets: []model.LabelSet{{model.AddressLabel: address, model.MetricsPathLabel: usagePath}}}
	return map[string][]*targetgroup.Group{"nodes": {group}, record.OfHarness: {harness}, record.OfNodes: {usage}}
}

// nodeLabels say whose a series is.
func nodeLabels(n cluster.NodeInfo) map[string]string {
	m := map[string]string{"node": n.Name}
	for name, v := range map[string]string{"service": n.Service, "group": n.Group, "zone": n.Zone} {
		if v != "" {
			m[name] = v
		}
	}
	return m
}
