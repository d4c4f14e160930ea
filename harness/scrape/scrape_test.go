package scrape_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/assertions"
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
	"github.com/hasvc/gauntlet/harness/scrape"
)

// fake is a topology whose nodes are HTTP servers of this process.
type fake struct {
	cluster.Cluster
	spec *cluster.Spec

	mu    sync.Mutex
	nodes map[string]*node
	cpu   time.Duration
	blind bool // what nodes use cannot be read
}

type node struct {
	registry *prometheus.Registry
	gauge    *prometheus.GaugeVec
	latency  prometheus.Histogram
	server   *httptest.Server
	down     atomic.Bool
}

func newFake(t *testing.T, names ...string) *fake {
	f := &fake{nodes: map[string]*node{}, spec: &cluster.Spec{Services: []cluster.Service{
		{Name: "api", Scaled: true, Replicas: len(names), Group: "front", Zone: "a", Metrics: &cluster.Endpoint{Port: 8080, Path: "/metrics"}},
		{Name: "mute"},
	}}}
	for _, n := range names {
		f.add(t, n)
	}
	return f
}

func (f *fake) add(t *testing.T, name string) *node {
	n := &node{
		registry: prometheus.NewRegistry(),
		gauge:    prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "in_flight"}, []string{"service"}),
		latency:  prometheus.NewHistogram(prometheus.HistogramOpts{Name: "latency_seconds", NativeHistogramBucketFactor: 1.1}),
	}
	n.registry.MustRegister(n.gauge, n.latency)
	n.gauge.WithLabelValues("store").Set(1)
	h := promhttp.HandlerFor(n.registry, promhttp.HandlerOpts{})
	n.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.down.Load() || r.URL.Path != "/metrics" {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(n.server.Close)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nodes[name] = n
	return n
}

func (f *fake) Spec() *cluster.Spec { return f.spec }

func (f *fake) Nodes() (out []cluster.NodeInfo) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name := range f.nodes {
		out = append(out, cluster.NodeInfo{Name: name, Service: "api", Group: "front", Zone: "a"})
	}
	out = append(out, cluster.NodeInfo{Name: "mute", Service: "mute"})
	slices.SortFunc(out, func(a, b cluster.NodeInfo) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (f *fake) DialPlane(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port != "8080" {
		return nil, fmt.Errorf("dialled %s", addr)
	}
	f.mu.Lock()
	n := f.nodes[host]
	f.mu.Unlock()
	if n == nil {
		return nil, errors.New("no such node")
	}
	return new(net.Dialer).DialContext(ctx, network, n.server.Listener.Addr().String())
}

func (f *fake) Usage(context.Context) (map[string]cluster.Usage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.blind {
		return nil, errors.New("the plane has no time")
	}
	f.cpu += time.Second
	return map[string]cluster.Usage{
		"api-1": {CPU: f.cpu, RSS: 1 << 20, Threads: 3, FDs: 4, Sockets: 5, Restarts: 6}, "mute": {Threads: 7},
		cluster.Client: {Sockets: 8}, cluster.Plane: {Threads: 9}, cluster.Engine: {CPU: f.cpu}, "api-9": {CPU: time.Hour},
	}, nil
}

// begin starts a record of a run with its metrics.
func begin(t testing.TB) (*record.Writer, *scrape.Recorder) {
	w, err := record.Create(filepath.Join(t.TempDir(), "run"), record.Meta{}, &plan.Plan{Version: plan.Version, Rounds: []plan.Round{{N: 1}}})
	require.NoError(t, err)
	r, err := scrape.NewRecorder(w)
	require.NoError(t, err)
	w.Event(record.Event{Kind: record.RunBegin})
	w.SetRound(1)
	return w, r
}

// metricsOf opens the record.
func metricsOf(t *testing.T, dir string) (*record.Run, *scrape.Metrics) {
	run, err := record.Open(dir)
	require.NoError(t, err)
	m := scrape.Open(run)
	require.NotNil(t, m)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	run.Metrics = m
	return run, m
}

// await polls until an expression has n samples.
func await(t *testing.T, s *scrape.Scraping, expr string, n int) []record.Sample {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		got, err := s.At(t.Context(), expr)
		if err == nil && len(got) == n {
			return got
		}
		require.True(t, time.Now().Before(deadline), "%s: %v, %v; want %d samples", expr, got, err, n)
		time.Sleep(10 * time.Millisecond)
	}
}

func TestRecord(t *testing.T) {
	w, r := begin(t)
	f := newFake(t, "api-1", "api-2")
	for range 1000 {
		f.nodes["api-1"].latency.Observe(0.030)
	}
	s, err := r.Scrape(f)
	require.NoError(t, err)
	began := time.Now()
	got := await(t, s, "in_flight", 2)
	require.Less(t, time.Since(began), 3*time.Second, "the first scrape")
	require.Equal(t, map[string]string{"__name__": "in_flight", "node": "api-1", "service": "store", "group": "front", "zone": "a", "job": "api", "instance": "api-1:8080"},
		got[0].Labels, "what the program calls service stays")

	// A replica that appears is scraped, and what the loads send is counted.
	f.add(t, "api-3")
	await(t, s, "in_flight", 3)
	for i := range 10 {
		w.Request("orders", record.Request{Seq: uint64(i), Due: 0, Done: 20 * time.Millisecond, Code: 200, OK: true})
	}
	w.Request("orders", record.Request{Seq: 10, Due: 0, Done: time.Second, Error: "refused"})
	await(t, s, `gauntlet_load_requests_total{load="orders",code="0",ok="false"} == 1`, 1)
	await(t, s, `gauntlet_load_requests_total{code="200",ok="true"} == 10`, 1)

	// Figures of nodes, but not of one that was removed.
	for expr, want := range map[string]float64{
		`gauntlet_node_memory_bytes{node="api-1",service="api",group="front",zone="a"}`: 1 << 20,
		`gauntlet_node_threads{node="api-1"}`:                                           3, `gauntlet_node_descriptors{node="api-1"}`: 4,
		`gauntlet_node_sockets{node="api-1"}`: 5, `gauntlet_node_restarts_total{node="api-1"}`: 6,
		`gauntlet_node_threads{node="mute"}`: 7, `gauntlet_node_sockets{node="client"}`: 8,
		`gauntlet_node_threads{node="(plane)"}`:                         9,
		`count(gauntlet_node_cpu_seconds_total)`:                        5,
		`count(gauntlet_node_memory_bytes)`:                             4,
		`gauntlet_process_open_fds > bool 0`:                            1,
		`histogram_count(gauntlet_load_request_seconds{load="orders"})`: 11,
	} {
		got := await(t, s, expr, 1)
		require.Equal(t, want, got[0].Value, expr)
	}
	// Native histograms: the bucket is no wider than a tenth of it.
	p99 := await(t, s, `histogram_quantile(0.99, latency_seconds{node="api-1"})`, 1)
	require.InEpsilon(t, 0.030, p99[0].Value, 0.1)

	// Two points an interval apart need three scrapes.
	await(t, s, `count_over_time(in_flight{node="api-1"}[2s]) >= 3`, 1)
	live := w.Now()
	require.NoError(t, s.Close())
	require.NoError(t, r.Close())
	require.NoError(t, r.Close())
	require.NoError(t, w.Close())

	run, m := metricsOf(t, w.Dir())
	require.Equal(t, scrape.Interval, m.Interval())
	samples, err := m.At("in_flight", live)
	require.NoError(t, err)
	require.Len(t, samples, 3)
	samples, err = m.At("1 + 1", live)
	require.NoError(t, err)
	require.Equal(t, []record.Sample{{Value: 2}}, samples)
	samples, err = m.At(`timestamp(in_flight{node="api-1"})`, live)
	require.NoError(t, err)
	require.InDelta(t, live.Seconds(), samples[0].Value-float64(run.Meta.Start.UnixNano())/1e9, 1, "times are offsets from the start")
	names, err := m.Names()
	require.NoError(t, err)
	require.Contains(t, names, "in_flight")
	require.True(t, slices.IsSorted(names))

	series, err := m.Range(`in_flight{node="api-1"}`, live-scrape.Interval, live, scrape.Interval)
	require.NoError(t, err)
	require.Len(t, series, 1)
	require.Len(t, series[0].Points, 2)
	require.WithinRange(t, time.Time{}.Add(series[0].Points[1].T), time.Time{}.Add(live-2*time.Millisecond), time.Time{}.Add(live+2*time.Millisecond))
	require.Equal(t, scrape.Interval, series[0].Points[1].T-series[0].Points[0].T)
	require.Equal(t, 1.0, series[0].Points[1].Value)

	entries, err := os.ReadDir(filepath.Join(w.Dir(), record.MetricsDir))
	require.NoError(t, err)
	for _, e := range entries {
		require.NotEqual(t, "wal", e.Name(), "one block, and no log to replay")
	}
	samples, err = m.At("in_flight", live)
	require.NoError(t, err)
	_, unknown := m.At("in_flght", live)
	gaps, err := m.Gaps(0, live)
	require.NoError(t, err)
	require.NoError(t, m.Close())
	// What was answered is the caller's: the files that it came from are no longer in memory.
	require.NotEmpty(t, fmt.Sprint(samples, series, names, gaps, unknown))
	again, err := m.At("in_flight", live)
	require.NoError(t, err, "asked after Close")
	require.Equal(t, samples, again)
}

// TestBornWithAValue: what a counter, or a histogram, has counted before it was scraped the first time is an increase, and it is none a
// second time. The clock of its program may be off.
func TestBornWithAValue(t *testing.T) {
	w, r := begin(t)
	f := newFake(t, "api-1")
	s, err := r.Scrape(f)
	require.NoError(t, err)
	await(t, s, "in_flight", 1)
	await(t, s, "gauntlet_process_open_fds", 1)

	errs := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "errors_total"}, []string{"why"})
	took := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "took_seconds", NativeHistogramBucketFactor: 1.1, Buckets: []float64{1}})
	errs.WithLabelValues("timeout").Add(37)
	took.Observe(0.5)
	now := time.Now()
	of := func(name string, began time.Time) prometheus.Collector {
		m := prometheus.MustNewConstMetricWithCreatedTimestamp(prometheus.NewDesc(name, "", nil, nil), prometheus.CounterValue, 5, began)
		return collector{m}
	}
	f.nodes["api-1"].registry.MustRegister(errs, took, of("fast_total", now.Add(300*time.Millisecond)), of("slow_total", now.Add(-300*time.Millisecond)))
	for i := range 37 {
		w.Request("orders", record.Request{Seq: uint64(i), Error: "refused"})
	}
	for _, counter := range []string{`gauntlet_load_requests_total{ok="false"}`, "errors_total", "fast_total", "slow_total", "took_seconds_count", "took_seconds_bucket"} {
		await(t, s, "sum(increase("+counter+"[10s])) > 0", 1)
	}
	await(t, s, `histogram_count(increase(took_seconds[10s])) > 0`, 1)
	// Long after each of them says that it began.
	await(t, s, `count_over_time(fast_total[10s]) > 8`, 1)
	for _, counter := range []string{`gauntlet_load_requests_total{ok="false"}`, "errors_total", "fast_total", "slow_total", "took_seconds_count"} {
		await(t, s, "sum(resets("+counter+"[10s])) == 0", 1)
	}
	await(t, s, `sum(min_over_time(errors_total[10s])) == 0 and sum(errors_total) == 37`, 1)
	require.NoError(t, s.Close())
	require.NoError(t, r.Close())
	require.NoError(t, w.Close())
}

// collector collects one metric.
type collector struct{ m prometheus.Metric }

func (c collector) Describe(ch chan<- *prometheus.Desc) { ch <- c.m.Desc() }
func (c collector) Collect(ch chan<- prometheus.Metric) { ch <- c.m }

// TestErrors: each says what is wrong, and with a name what the name could be.
func TestErrors(t *testing.T) {
	w, r := begin(t)
	s, err := r.Scrape(newFake(t, "api-1"))
	require.NoError(t, err)
	await(t, s, "in_flight", 1)
	await(t, s, `gauntlet_node_threads{node="api-1"}`, 1)
	_, err = s.At(t.Context(), "in_fligth")
	var unknown *scrape.UnknownMetricError
	require.ErrorAs(t, err, &unknown)
	require.Equal(t, []string{"in_flight"}, unknown.Nearest)
	at := w.Now()
	require.NoError(t, s.Close())
	require.NoError(t, r.Close())
	require.NoError(t, w.Close())
	_, m := metricsOf(t, w.Dir())
	for expr, says := range map[string]string{
		"in_fligth":           "no metric is called in_fligth; there is in_flight",
		"absent(in_fligth)":   "there is in_flight",
		"node_cpu_seconds":    "there is gauntlet_node_cpu_seconds_total",
		"quite_another_thing": "that there are is like it",
		"rate(":               "rate(: ",
		"in_flight[1s]":       "it is a range vector",
		`"text"`:              "it is a string",
		"latency_seconds":     "it is a histogram",
	} {
		_, err := m.At(expr, at)
		require.ErrorContains(t, err, says, expr)
		_, err = m.Range(expr, at-scrape.Interval, at, scrape.Interval)
		require.ErrorContains(t, err, says, expr)
	}
	_, err = m.Range("up", time.Second, 0, scrape.Interval)
	require.ErrorContains(t, err, "no range")
}

// TestGaps: a node that was not scraped while it ran, and one that did not run.
func TestGaps(t *testing.T) {
	w, r := begin(t)
	f := newFake(t, "api-1", "api-2")
	w.Event(record.Event{Kind: record.PhaseBegin, Phase: plan.PhaseUp})
	for _, n := range []string{"api-1", "api-2"} {
		w.Event(record.Event{Kind: record.NodeStarted, Node: n})
	}
	w.Event(record.Event{Kind: record.PhaseEnd, Phase: plan.PhaseUp})
	s, err := r.Scrape(f)
	require.NoError(t, err)
	await(t, s, `up{node=~"api-."} == 1`, 2)
	from := w.Now()
	w.Event(record.Event{Kind: record.NodeExited, Node: "api-2"})
	for _, n := range []string{"api-1", "api-2"} {
		f.nodes[n].down.Store(true)
	}
	await(t, s, `up{node=~"api-."} == 0`, 2)
	time.Sleep(700 * time.Millisecond) // the gap
	f.nodes["api-1"].down.Store(false)
	await(t, s, `up{node="api-1"} == 1`, 1)
	to := w.Now()
	m, gaps := gapsAfter(t, w, r, s, from, to)
	gaps = slices.DeleteFunc(gaps, func(g record.Gap) bool { return g.Node == record.OfHarness || g.Node == record.OfNodes }) // a busy machine
	require.Len(t, gaps, 1)
	require.Equal(t, "api-1", gaps[0].Node)
	require.GreaterOrEqual(t, gaps[0].To-gaps[0].From, 700*time.Millisecond)
	require.LessOrEqual(t, gaps[0].To, to)
	gaps, err = m.Gaps(from-time.Millisecond, from)
	require.NoError(t, err)
	require.Empty(t, gaps, "a window with no room for one")
}

// gapsAfter ends a run, and returns its metrics and their gaps between two moments.
func gapsAfter(t *testing.T, w *record.Writer, r *scrape.Recorder, s *scrape.Scraping, from, to time.Duration) (*scrape.Metrics, []record.Gap) {
	t.Helper()
	w.Event(record.Event{Kind: record.PhaseBegin, Phase: plan.PhaseDown})
	require.NoError(t, s.Close())
	require.NoError(t, r.Close())
	w.Event(record.Event{Kind: record.RunEnd})
	require.NoError(t, w.Close())
	_, m := metricsOf(t, w.Dir())
	gaps, err := m.Gaps(from, to)
	require.NoError(t, err)
	return m, gaps
}

// TestFiguresOfNodesThatCannotBeRead are a gap of their own, and no other figure is lost.
func TestFiguresOfNodesThatCannotBeRead(t *testing.T) {
	w, r := begin(t)
	f := newFake(t, "api-1")
	blind := func(b bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.blind = b
	}
	w.Event(record.Event{Kind: record.PhaseBegin, Phase: plan.PhaseUp})
	w.Event(record.Event{Kind: record.PhaseEnd, Phase: plan.PhaseUp})
	s, err := r.Scrape(f)
	require.NoError(t, err)
	await(t, s, `gauntlet_node_threads{node="mute"}`, 1)
	from := w.Now()
	blind(true)
	await(t, s, `up{job="(nodes)"} == 0`, 1)
	time.Sleep(700 * time.Millisecond) // the gap
	await(t, s, `up{job="(harness)"} == 1`, 1)
	blind(false)
	await(t, s, `up{job="(nodes)"} == 1`, 1)
	to := w.Now()
	_, gaps := gapsAfter(t, w, r, s, from, to)
	gaps = slices.DeleteFunc(gaps, func(g record.Gap) bool { return g.Node != record.OfNodes })
	require.Len(t, gaps, 1)
	require.GreaterOrEqual(t, gaps[0].To-gaps[0].From, 700*time.Millisecond)
}

// TestCutOff: a run whose harness was killed keeps what it had scraped, though the log has a torn end.
func TestCutOff(t *testing.T) {
	w, r := begin(t)
	s, err := r.Scrape(newFake(t, "api-1"))
	require.NoError(t, err)
	await(t, s, "in_flight", 1)
	at := w.Now()
	dir := filepath.Join(t.TempDir(), "cut")
	require.NoError(t, os.CopyFS(dir, os.DirFS(w.Dir())))
	require.NoError(t, s.Close())
	require.NoError(t, r.Close())
	require.NoError(t, w.Close())

	logs, err := filepath.Glob(filepath.Join(dir, record.MetricsDir, "wal", "0*"))
	require.NoError(t, err)
	require.NotEmpty(t, logs)
	l, err := os.OpenFile(logs[len(logs)-1], os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = l.Write([]byte{1, 0, 77, 1, 2, 3}) // the beginning of a record
	require.NoError(t, err)
	require.NoError(t, l.Close())
	before := list(t, dir)

	_, m := metricsOf(t, dir)
	samples, err := m.At("in_flight", at)
	require.NoError(t, err)
	require.Len(t, samples, 1)
	require.Equal(t, before, list(t, dir), "the record is only read")
}

// list names the files below a directory with their sizes.
func list(t *testing.T, dir string) (files []string) {
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		i, err := d.Info()
		files = append(files, fmt.Sprint(path, " ", i.Size()))
		return err
	}))
	return files
}

// TestNoMetrics: a record without metrics, and one whose metrics were never written to.
func TestNoMetrics(t *testing.T) {
	w, err := record.Create(filepath.Join(t.TempDir(), "run"), record.Meta{}, &plan.Plan{Version: plan.Version})
	require.NoError(t, err)
	require.NoError(t, w.Close())
	run, err := record.Open(w.Dir())
	require.NoError(t, err)
	require.Nil(t, scrape.Open(run))

	w, r := begin(t)
	require.NoError(t, r.Close())
	require.NoError(t, w.Close())
	_, m := metricsOf(t, w.Dir())
	names, err := m.Names()
	require.NoError(t, err)
	require.Empty(t, names)
	_, err = m.At("up", 0)
	require.ErrorContains(t, err, "no metric is called up; there is none at all")
}

// TestPromQLAssertion judges a real time series database.
func TestPromQLAssertion(t *testing.T) {
	w, r := begin(t)
	f := newFake(t, "api-1", "api-2")
	s, err := r.Scrape(f)
	require.NoError(t, err)
	await(t, s, "in_flight", 2)
	for _, phase := range []string{plan.PhaseBaseline, plan.PhaseFault, plan.PhaseRecovery} {
		w.Event(record.Event{Kind: record.PhaseBegin, Phase: phase})
		if phase == plan.PhaseFault {
			f.nodes["api-2"].gauge.WithLabelValues("store").Set(9)
			await(t, s, "in_flight == 9", 1)
		}
		time.Sleep(5 * scrape.Interval) // the window: four scrapes or more
		f.nodes["api-2"].gauge.WithLabelValues("store").Set(1)
		await(t, s, "in_flight == 1", 2)
		w.Event(record.Event{Kind: record.PhaseEnd, Phase: phase})
	}
	require.NoError(t, s.Close())
	require.NoError(t, r.Close())
	w.Event(record.Event{Kind: record.RunEnd})
	require.NoError(t, w.Close())
	run, _ := metricsOf(t, w.Dir())

	judge := func(query, is string, a assertions.PromQL) assertions.Finding {
		b, err := plan.ParseBound(is)
		require.NoError(t, err)
		a.Query, a.Is = query, b
		return a.Judge(t.Context(), run.Plan, run.Rounds[0])
	}
	for _, c := range []struct {
		query, is string
		a         assertions.PromQL
		want      assertions.Verdict
		says      string
	}{
		{"in_flight", "<= 1", assertions.PromQL{During: plan.PhaseBaseline}, assertions.Pass, "between 1 and 1 throughout baseline"},
		{"in_flight", "<= 1", assertions.PromQL{During: plan.PhaseFault}, assertions.Fail, "was 9 at"},
		{"in_flight", "<= 1", assertions.PromQL{Always: true}, assertions.Fail, "on api-2"},
		{"in_flight", "<= 1", assertions.PromQL{AtEnd: true}, assertions.Pass, "at the end of recovery (2 series)"},
		{"sum(in_flight)", "= 2", assertions.PromQL{AtEnd: true}, assertions.Pass, "was 2"},
		{"in_fligt", "<= 1", assertions.PromQL{Always: true}, assertions.Invalid, "no metric is called in_fligt; there is in_flight"},
		{`in_flight{node="api-7"}`, "<= 1", assertions.PromQL{Always: true}, assertions.Invalid, "there is no value"},
	} {
		f := judge(c.query, c.is, c.a)
		require.Equal(t, c.want.String(), f.Verdict.String(), "%s: %s / %s", c.query, f.Summary, f.Reason)
		require.Contains(t, f.Summary, c.says)
	}
}

// TestAnyPrometheusOpensIt opens the directory as a Prometheus does that is started on it.
func TestAnyPrometheusOpensIt(t *testing.T) {
	w, r := begin(t)
	s, err := r.Scrape(newFake(t, "api-1"))
	require.NoError(t, err)
	await(t, s, "in_flight", 1)
	require.NoError(t, s.Close())
	require.NoError(t, r.Close())
	require.NoError(t, w.Close())
	db, err := tsdb.Open(filepath.Join(w.Dir(), record.MetricsDir), nil, nil, tsdb.DefaultOptions(), nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	q, err := db.Querier(math.MinInt64, math.MaxInt64)
	require.NoError(t, err)
	defer q.Close()
	nodes, _, err := q.LabelValues(t.Context(), "node", nil, labels.MustNewMatcher(labels.MatchEqual, "__name__", "in_flight"))
	require.NoError(t, err)
	require.Equal(t, []string{"api-1"}, nodes)
}

func TestParse(t *testing.T) {
	e, err := scrape.Parse(`sum(rate(a[1s])) / sum(rate(b{x="y"}[900ms])) + max_over_time(c[5s:200ms]) + d offset 3s + {__name__=~"e.*"}`)
	require.NoError(t, err)
	require.Equal(t, scrape.Expr{Metrics: []string{"a", "b", "c", "d"}, Shortest: 900 * time.Millisecond}, e)
	e, err = scrape.Parse("1 + 1")
	require.NoError(t, err)
	require.Equal(t, scrape.Expr{}, e)
	names, err := scrape.Validate("rate(a[800ms])")
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, names)
	_, err = scrape.Validate("rate(a[799ms])")
	require.ErrorContains(t, err, "its range of 799ms is shorter than four scrapes, 800ms")
	for _, bad := range []string{"", "rate(", "a[1s]", `"x"`, "rate(a)"} {
		_, err = scrape.Validate(bad)
		var x *scrape.ExprError
		require.ErrorAs(t, err, &x, "%q", bad)
	}
}
