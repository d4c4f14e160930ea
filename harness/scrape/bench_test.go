package scrape_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// The benchmark's targets: ten, each with as many series as a service of Go with some metrics of its own.
const (
	benchTargets = 10
	benchSeries  = 330
	benchEnv     = "SCRAPE_BENCH_TARGETS"
)

// TestServeBenchTargets is the other process of the benchmark: what its targets cost is not the harness's.
func TestServeBenchTargets(t *testing.T) {
	if os.Getenv(benchEnv) == "" {
		t.Skip("the targets of the benchmark, which starts this itself")
	}
	for range benchTargets {
		reg := prometheus.NewRegistry()
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bench_total"}, []string{"n"})
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "bench_seconds", NativeHistogramBucketFactor: 1.1})
		reg.MustRegister(v, h)
		for i := range benchSeries {
			v.WithLabelValues(fmt.Sprint(i))
		}
		handler := promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for i := range benchSeries {
				v.WithLabelValues(fmt.Sprint(i)).Inc()
			}
			h.Observe(0.03)
			handler.ServeHTTP(w, r)
		}))
		fmt.Println("target", s.Listener.Addr())
	}
	_, _ = os.Stdin.Read(make([]byte, 1)) // until the benchmark is gone
}

// benchCluster dials the other process's targets.
type benchCluster struct {
	cluster.Cluster
	addrs []string
}

func (c *benchCluster) Spec() *cluster.Spec {
	return &cluster.Spec{Services: []cluster.Service{{Name: "s", Metrics: &cluster.Endpoint{Port: 80, Path: "/metrics"}}}}
}

func (c *benchCluster) Nodes() (out []cluster.NodeInfo) {
	for i := range c.addrs {
		out = append(out, cluster.NodeInfo{Name: fmt.Sprint("s-", i), Service: "s"})
	}
	return out
}

func (c *benchCluster) DialPlane(ctx context.Context, network, addr string) (net.Conn, error) {
	host, _, _ := strings.Cut(addr, ":")
	var i int
	if _, err := fmt.Sscanf(host, "s-%d", &i); err != nil {
		return nil, err
	}
	return new(net.Dialer).DialContext(ctx, network, c.addrs[i])
}

// BenchmarkTenTargets measures what it costs to scrape ten targets of 330 series every 200 ms for as long as a scenario
// lasts: the share of one core, and the memory.
func BenchmarkTenTargets(b *testing.B) {
	other := exec.Command(os.Args[0], "-test.run=^TestServeBenchTargets$", "-test.v")
	other.Env = append(os.Environ(), benchEnv+"=1")
	in, err := other.StdinPipe()
	require.NoError(b, err)
	out, err := other.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, other.Start())
	defer func() { in.Close(); _ = other.Wait() }()
	c := &benchCluster{}
	for s := bufio.NewScanner(out); len(c.addrs) < benchTargets && s.Scan(); {
		if addr, ok := strings.CutPrefix(s.Text(), "target "); ok {
			c.addrs = append(c.addrs, addr)
		}
	}
	require.Len(b, c.addrs, benchTargets)
	for b.Loop() {
		w, r := begin(b)
		s, err := r.Scrape(c)
		require.NoError(b, err)
		time.Sleep(time.Second)
		const lasts = 10 * time.Second
		used, began := cpuTime(b), time.Now()
		time.Sleep(lasts)
		share := float64(cpuTime(b)-used) / float64(time.Since(began))
		samples, err := s.At(b.Context(), "sum(scrape_samples_scraped)")
		require.NoError(b, err)
		require.NoError(b, s.Close())
		closing := time.Now()
		require.NoError(b, r.Close())
		b.ReportMetric(float64(time.Since(closing).Milliseconds()), "ms/close")
		require.NoError(b, w.Close())
		var ru unix.Rusage
		require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &ru))
		b.ReportMetric(100*share, "%core")
		b.ReportMetric(float64(ru.Maxrss)/1024, "peak-MB")
		b.ReportMetric(samples[0].Value, "series")
	}
}

func cpuTime(b *testing.B) time.Duration {
	var r unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &r))
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
