package role

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/etcdtest"
)

func TestSlowStart(t *testing.T) {
	each(t, defect.SlowStart, func(t *testing.T, etcd *etcdtest.Cluster, wrong bool, defects []defect.Name) {
		begin := time.Now()
		start(t, "orders", etcd.URLs(), nil, defects...).waitReady()
		took := time.Since(begin)
		t.Logf("ready after %s", took.Round(time.Millisecond))
		assert.Equal(t, wrong, took >= slowStart)
	})
}

func TestReadyLies(t *testing.T) {
	each(t, defect.ReadyLies, func(t *testing.T, etcd *etcdtest.Cluster, wrong bool, defects []defect.Name) {
		r := start(t, "orders", etcd.URLs(), nil, defects...)
		r.waitReady()
		etcd.Members[0].Kill()
		code, body := r.ask(http.MethodGet, "/ready", "")
		if wrong {
			assert.Equal(t, http.StatusOK, code)
			return
		}
		assert.Equal(t, http.StatusServiceUnavailable, code)
		assert.Equal(t, "not ready", body["status"])
		assert.Contains(t, body, "timestamp")
		assert.Contains(t, body, "etcd_ping_ms")
		assert.Contains(t, body["problems"], "etcd")
	})
}

func TestLiveChecksDeps(t *testing.T) {
	each(t, defect.LiveChecksDeps, func(t *testing.T, etcd *etcdtest.Cluster, wrong bool, defects []defect.Name) {
		r := start(t, "orders", etcd.URLs(), nil, defects...)
		r.waitReady()
		assert.Equal(t, http.StatusOK, r.status("/healthz"))
		etcd.Members[0].Kill()
		assert.Equal(t, wrong, r.status("/healthz") != http.StatusOK)
	})
}

// A request is in flight when the gateway is told to stop.
func TestNoDrain(t *testing.T) {
	each(t, defect.NoDrain, func(t *testing.T, etcd *etcdtest.Cluster, wrong bool, defects []defect.Name) {
		inFlight, goOn := make(chan struct{}), make(chan struct{})
		var once sync.Once
		startFake(t, etcd.Client(), func(context.Context) error {
			once.Do(func() { close(inFlight) })
			<-goOn
			return nil
		})
		g := start(t, "gateway", etcd.URLs(), func(c *config.Config) { c.Deadline, c.Try = soon, soon }, defects...)
		g.waitReady()
		answered := make(chan int, 1)
		go func() { answered <- g.status("/orders/x") }()
		<-inFlight
		stopped := make(chan error, 1)
		go func() { stopped <- g.stop() }()
		if wrong {
			assert.Zero(t, <-answered, "cut off")
			close(goOn)
		} else {
			never(t, 50*time.Millisecond, func() bool { return len(answered) > 0 }, "answered too early")
			close(goOn)
			assert.Equal(t, http.StatusOK, <-answered)
		}
		require.NoError(t, <-stopped)
	})
}

// Between SIGTERM and the end of the drain delay, a gateway serves and says that it is not ready.
func TestLateDeregister(t *testing.T) {
	const drain = 5 * time.Second // long enough for three questions on a busy machine
	each(t, defect.LateDeregister, func(t *testing.T, etcd *etcdtest.Cluster, wrong bool, defects []defect.Name) {
		client := etcd.Client()
		startFake(t, client, nil)
		g := start(t, "gateway", etcd.URLs(), func(c *config.Config) { c.Drain = drain }, defects...)
		g.waitReady()
		eventually(t, func() bool { return len(entries(t, client, "gateway")) == 1 }, "the gateway is not in the registry")
		begin := time.Now()
		stopped := make(chan error, 1)
		go func() { stopped <- g.stop() }()
		if wrong {
			require.NoError(t, <-stopped)
			assert.Less(t, time.Since(begin), time.Second, "it does not wait")
			return
		}
		eventually(t, func() bool { return g.status("/readyz") == http.StatusServiceUnavailable }, "still ready")
		assert.Equal(t, http.StatusOK, g.status("/orders/x"), "not ready, but serving")
		eventually(t, func() bool { return len(entries(t, client, "gateway")) == 0 }, "still in the registry")
		assert.Empty(t, stopped, "it is still serving by then")
		require.NoError(t, <-stopped)
		assert.GreaterOrEqual(t, time.Since(begin), drain)
	})
}

func TestPickFirst(t *testing.T) {
	each(t, defect.PickFirst, func(t *testing.T, etcd *etcdtest.Cluster, wrong bool, defects []defect.Name) {
		client := etcd.Client()
		fakes := []*fakeOrders{startFake(t, client, nil), startFake(t, client, nil), startFake(t, client, nil)}
		g := start(t, "gateway", etcd.URLs(), nil, defects...)
		g.waitReady()
		used := func() (n int) {
			for _, f := range fakes {
				if f.seen() > 0 {
					n++
				}
			}
			return n
		}
		if !wrong {
			eventually(t, func() bool { return g.status("/orders/x") == http.StatusOK && used() == 3 }, "not every replica is used")
			return
		}
		for range 50 {
			require.Equal(t, http.StatusOK, g.status("/orders/x"))
		}
		assert.Equal(t, 1, used())
	})
}

// A replica that fails all its calls gets no more of them than it takes to find out.
func TestNoOutlier(t *testing.T) {
	each(t, defect.NoOutlier, func(t *testing.T, etcd *etcdtest.Cluster, wrong bool, defects []defect.Name) {
		client := etcd.Client()
		bad := startFake(t, client, func(context.Context) error { return status.Error(codes.Unavailable, "") })
		fakes := []*fakeOrders{bad, startFake(t, client, nil), startFake(t, client, nil)}
		g := start(t, "gateway", etcd.URLs(), nil, defects...)
		g.waitReady()
		eventually(t, func() bool {
			return g.status("/orders/x") == http.StatusOK && !slices.ContainsFunc(fakes, func(f *fakeOrders) bool { return f.seen() == 0 })
		}, "not every replica is used")
		for range 60 {
			require.Equal(t, http.StatusOK, g.status("/orders/x"))
		}
		assert.Equal(t, wrong, bad.seen() > 10, "it got %d calls", bad.seen())
	})
}

// The replica that is gone must leave the registry: at once when it stops, with its lease when it cannot.
func TestLeaseLeak(t *testing.T) {
	each(t, defect.LeaseLeak, func(t *testing.T, etcd *etcdtest.Cluster, wrong bool, defects []defect.Name) {
		client := etcd.Client()
		r := start(t, "orders", etcd.URLs(), nil, defects...)
		eventually(t, func() bool { return len(entries(t, client, "orders")) == 1 }, "orders is not in the registry")
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		defer cancel()
		ttl, err := client.TimeToLive(ctx, entries(t, client, "orders")[0].lease)
		require.NoError(t, err)
		assert.Equal(t, wrong, ttl.GrantedTTL > 5, "a lease of %d s", ttl.GrantedTTL)
		require.NoError(t, r.stop())
		assert.Equal(t, wrong, len(entries(t, client, "orders")) == 1)
	})
}

// With the registry away the gateway goes on with the endpoints that it knows.
func TestNoEndpointCache(t *testing.T) {
	each(t, defect.NoEndpointCache, func(t *testing.T, etcd *etcdtest.Cluster, wrong bool, defects []defect.Name) {
		startFake(t, etcd.Client(), nil)
		g := start(t, "gateway", etcd.URLs(), nil, defects...)
		g.waitReady()
		etcd.Members[0].Kill()
		if wrong {
			eventually(t, func() bool { return g.status("/orders/x") == http.StatusServiceUnavailable }, "the endpoints are still known")
			return
		}
		never(t, 3*time.Second, func() bool { return g.status("/orders/x") != http.StatusOK }, "the endpoints were forgotten")
		code, body := g.ask(http.MethodGet, "/readyz", "")
		assert.Equal(t, http.StatusOK, code, "the registry is no reason to be not ready: %v", body)
		assert.Contains(t, body, "etcd_ping_ms")
		assert.Contains(t, body, "orders_ping_ms")
	})
}

// The registry changes and is compacted while the gateway cannot see it; its watch ends, and must be followed by a new list.
func TestWatchStuck(t *testing.T) {
	each(t, defect.WatchStuck, func(t *testing.T, etcd *etcdtest.Cluster, wrong bool, defects []defect.Name) {
		client := etcd.Client()
		startFake(t, client, nil)
		line := startLine(t, etcd.Members[0].URL)
		g := start(t, "gateway", []string{line.url}, nil, defects...)
		g.waitReady()
		line.cut()
		late := startFake(t, client, nil)
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		defer cancel()
		put, err := client.Put(ctx, "/other", "x")
		require.NoError(t, err)
		_, err = client.Compact(ctx, put.Header.Revision, clientv3.WithCompactPhysical())
		require.NoError(t, err)
		line.heal()
		found := func() bool {
			g.status("/orders/x")
			return late.seen() > 0
		}
		if wrong {
			never(t, 4*time.Second, found, "the new replica was found")
		} else {
			eventually(t, found, "the new replica is not found")
		}
	})
}

// A gateway whose orders never answered must not be found by anybody.
func TestRegisterEarly(t *testing.T) {
	each(t, defect.RegisterEarly, func(t *testing.T, etcd *etcdtest.Cluster, wrong bool, defects []defect.Name) {
		client := etcd.Client()
		g := start(t, "gateway", etcd.URLs(), nil, defects...)
		eventually(t, func() bool { return g.status("/healthz") == http.StatusOK }, "the gateway does not live")
		registered := func() bool { return len(entries(t, client, "gateway")) > 0 }
		if wrong {
			eventually(t, registered, "it is not in the registry")
		} else {
			never(t, 2*time.Second, registered, "it is in the registry")
			startFake(t, client, nil)
			eventually(t, registered, "its orders have come, and it is not in the registry")
		}
	})
}

// line is a TCP connection that can be cut.
type line struct {
	url   string
	mu    sync.Mutex
	off   bool
	conns []net.Conn
}

func startLine(t *testing.T, url string) *line {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	out := &line{url: "http://" + l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
			if err != nil || !out.add(in, to) {
				_ = in.Close()
				continue
			}
			for _, pair := range [][2]net.Conn{{in, to}, {to, in}} {
				wg.Go(func() {
					_, _ = io.Copy(pair[0], pair[1]) // until one end is closed
					_ = pair[0].Close()
				})
			}
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		out.cut()
		wg.Wait()
	})
	return out
}

func (l *line) add(conns ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.off {
		for _, c := range conns {
			_ = c.Close()
		}
		return false
	}
	l.conns = append(l.conns, conns...)
	return true
}

func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.off = true
	for _, c := range l.conns {
		_ = c.Close()
	}
	l.conns = nil
}

func (l *line) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.off = false
}
