package role

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/etcdtest"
	"github.com/hasvc/gauntlet/hasvc/internal/ordersv1"
)

// soon bounds what should take no time, on a busy machine.
const soon = 20 * time.Second

// running is a replica inside the test.
type running struct {
	Addrs
	logs   *observer.ObservedLogs
	t      testing.TB
	cancel context.CancelFunc
	done   chan error
	once   sync.Once
	err    error
}

// start runs a role on loopback until the test ends.
func start(t testing.TB, name string, etcd []string, change func(*config.Config), defects ...defect.Name) *running {
	t.Helper()
	cfg, err := config.Parse(nil, "127.0.0.1:0")
	require.NoError(t, err)
	cfg.Etcd, cfg.GRPC, cfg.Drain = etcd, "127.0.0.1:0", 300*time.Millisecond
	cfg.Deadline, cfg.Try = 900*time.Millisecond, 450*time.Millisecond
	cfg.Defects = defect.Set{}
	for _, d := range defects {
		cfg.Defects[d] = true
	}
	if change != nil {
		change(&cfg)
	}
	ctx, cancel := context.WithCancel(context.Background())
	core, seen := observer.New(zapcore.InfoLevel)
	r := &running{logs: seen, t: t, cancel: cancel, done: make(chan error, 1)}
	addrs := make(chan Addrs, 1)
	go func() {
		r.done <- Roles[name](ctx, cfg, zap.New(core).With(zap.String("service", name)), func(a Addrs) { addrs <- a })
	}()
	t.Cleanup(func() { _ = r.stop() })
	select {
	case r.Addrs = <-addrs:
	case err := <-r.done:
		r.done <- err
		t.Fatalf("%s ended at once: %v", name, err)
	}
	return r
}

// stop tells the replica to stop, as SIGTERM does, and waits until it has.
func (r *running) stop() error {
	r.once.Do(func() {
		r.cancel()
		r.err = <-r.done
	})
	return r.err
}

// ask sends a request on a connection of its own. The status is 0 when there was no answer.
func (r *running) ask(method, path, body string) (int, map[string]any) {
	return r.askWith(method, path, body)
}

// askWith sends headers too: name, value, name, value.
func (r *running) askWith(method, path, body string, headers ...string) (int, map[string]any) {
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 3 * time.Second}
	return ask(c, "http://"+r.HTTP+path, method, body, headers...)
}

func ask(c *http.Client, url, method, body string, headers ...string) (int, map[string]any) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, nil
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil
	}
	got := map[string]any{}
	if json.NewDecoder(bytes.NewReader(b)).Decode(&got) != nil {
		return resp.StatusCode, nil
	}
	return resp.StatusCode, got
}

func (r *running) status(path string) int {
	code, _ := r.ask(http.MethodGet, path, "")
	return code
}

func (r *running) waitReady() {
	r.t.Helper()
	eventually(r.t, func() bool { return r.status("/readyz") == http.StatusOK }, "%s is not ready", r.HTTP)
}

// eventually polls until cond holds.
func eventually(t testing.TB, cond func() bool, what string, args ...any) {
	t.Helper()
	for end := time.Now().Add(soon); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %s: "+what, append([]any{soon}, args...)...)
		}
	}
}

// never polls for a while and fails when cond holds.
func never(t testing.TB, d time.Duration, cond func() bool, what string) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if cond() {
			t.Fatal(what)
		}
	}
}

// entries of a service in the registry.
func entries(t testing.TB, etcd *clientv3.Client, service string) []*entry {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	resp, err := etcd.Get(ctx, "/hasvc/registry/"+service+"/", clientv3.WithPrefix())
	require.NoError(t, err)
	var out []*entry
	for _, kv := range resp.Kvs {
		out = append(out, &entry{lease: clientv3.LeaseID(kv.Lease)})
	}
	return out
}

type entry struct{ lease clientv3.LeaseID }

// fakeOrders is a replica of orders whose answers the test decides. It is in the registry for good.
type fakeOrders struct {
	ordersv1.UnimplementedOrdersServer
	addr   string
	server *grpc.Server
	get    func(ctx context.Context) error // nil: answer

	mu    sync.Mutex
	calls int

	opened, ended atomic.Int64 // streams
}

func startFake(t testing.TB, etcd *clientv3.Client, get func(context.Context) error) *fakeOrders {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := &fakeOrders{addr: l.Addr().String(), server: grpc.NewServer(), get: get}
	ordersv1.RegisterOrdersServer(f.server, f)
	grpc_health_v1.RegisterHealthServer(f.server, health.NewServer())
	served := make(chan error, 1)
	go func() { served <- f.server.Serve(l) }()
	t.Cleanup(func() {
		f.server.Stop()
		<-served
	})
	register(t, etcd, f.addr)
	return f
}

// register puts an address into the registry, as a replica of orders.
func register(t testing.TB, etcd *clientv3.Client, addr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	_, err := etcd.Put(ctx, "/hasvc/registry/orders/"+addr, `{"service":"orders","instance":"`+addr+`","addr":"`+addr+`"}`)
	require.NoError(t, err)
}

func (f *fakeOrders) GetOrder(ctx context.Context, r *ordersv1.GetOrderRequest) (*ordersv1.Order, error) {
	f.mu.Lock()
	f.calls++
	f.mu.Unlock()
	if f.get != nil {
		if err := f.get(ctx); err != nil {
			return nil, err
		}
	}
	return &ordersv1.Order{Id: r.GetId()}, nil
}

func (f *fakeOrders) seen() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// each runs a test without a defect and with it, side by side.
func each(t *testing.T, d defect.Name, test func(t *testing.T, etcd *etcdtest.Cluster, wrong bool, defects []defect.Name)) {
	t.Parallel()
	t.Run("right", func(t *testing.T) {
		t.Parallel()
		test(t, etcdtest.Start(t, 1), false, nil)
	})
	t.Run(string(d), func(t *testing.T) {
		t.Parallel()
		test(t, etcdtest.Start(t, 1), true, []defect.Name{d})
	})
}
