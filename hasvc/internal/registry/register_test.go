package registry

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/etcdtest"
	"github.com/hasvc/gauntlet/hasvc/internal/health"
)

// A long lease is no reason to look stuck: the registrar goes round far more often than the lease asks for.
func TestLongLeaseBeats(t *testing.T) {
	t.Parallel()
	etcd, err := clientv3.New(clientv3.Config{Endpoints: etcdtest.Start(t, 1).URLs(), Logger: zap.NewNop()})
	require.NoError(t, err)
	defer etcd.Close()
	ctx, cancel := context.WithCancel(t.Context())
	registered := make(chan struct{}, 1)
	pulse := health.NewPulse("registrar", 2*time.Second)
	r := &Registrar{Etcd: etcd, Entry: Entry{Service: "orders", Instance: "a", Addr: "a:1"}, Lease: time.Minute, Pulse: pulse, Log: zap.NewNop(),
		Registered: func() { registered <- struct{}{} }}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx, func(context.Context) error { return nil })
	}()
	<-registered
	for end := time.Now().Add(2 * pulse.Most); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		silent, stuck := pulse.Silent()
		require.False(t, stuck, "silent for %s", silent)
	}
	cancel()
	<-done
}

// Whoever looks at a replica's metrics sees whether it can be found: from its registration on, not while its lease is lost, also when
// it cannot say so because the registry is away, and not after it has left.
func TestRegisteredMetric(t *testing.T) {
	t.Parallel()
	etcd, err := clientv3.New(clientv3.Config{Endpoints: etcdtest.Start(t, 1).URLs(), Logger: zap.NewNop()})
	require.NoError(t, err)
	defer etcd.Close()
	ctx, reg := t.Context(), prometheus.NewRegistry()
	r := &Registrar{Etcd: etcd, Entry: Entry{Service: "orders", Instance: "a", Addr: "a:1"}, Lease: time.Minute,
		Pulse: health.NewPulse("registrar", time.Minute), Log: zap.NewNop(), Metrics: NewMetrics(reg)}
	shows := func(want float64, when string) {
		t.Helper()
		got, err := reg.Gather()
		require.NoError(t, err)
		require.Equal(t, "hasvc_registered", got[0].GetName())
		require.InDelta(t, want, got[0].GetMetric()[0].GetGauge().GetValue(), 0, when)
	}
	steps := func() { r.step(ctx, func(context.Context) error { return nil }) }
	shows(0, "not yet registered")
	steps()
	shows(1, "registered")
	r.Metrics.leased(time.Now().Add(-time.Hour), 60)
	shows(0, "not renewed")
	steps()
	shows(1, "renewed")
	_, err = etcd.Revoke(ctx, r.lease)
	require.NoError(t, err)
	steps()
	shows(0, "the lease was lost")
	steps()
	shows(1, "registered again")
	require.NoError(t, r.Deregister(ctx))
	shows(0, "left")
}

// A write that took too long and is applied in the end does no harm: not to a replica that has registered since, and not when it
// has left.
func TestLateWrite(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	for name, leaves := range map[string]bool{"registered": false, "left": true} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			var late func() error // the first write, when it arrives
			hold := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
				if method != "/etcdserverpb.KV/Put" || late != nil {
					return invoke(ctx, method, req, reply, cc, opts...)
				}
				late = func() error { return invoke(context.WithoutCancel(ctx), method, req, reply, cc, opts...) }
				return status.Error(codes.DeadlineExceeded, "it is on its way")
			}
			etcd, err := clientv3.New(clientv3.Config{Endpoints: c.URLs(), Logger: zap.NewNop(), MaxUnaryRetries: 1,
				DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(hold)}})
			require.NoError(t, err)
			defer etcd.Close()
			r := &Registrar{Etcd: etcd, Entry: Entry{Service: "orders", Instance: name, Addr: "a:1"}, Lease: time.Minute,
				Pulse: health.NewPulse("registrar", time.Minute), Log: zap.NewNop()}
			ready := func(context.Context) error { return nil }
			r.step(ctx, ready)
			require.NotNil(t, late)
			if leaves {
				require.NoError(t, r.Deregister(ctx))
			} else {
				r.step(ctx, ready)
			}
			require.Error(t, late(), "its lease is gone")
			resp, err := etcd.Get(ctx, r.Entry.key())
			require.NoError(t, err)
			if leaves {
				require.Empty(t, resp.Kvs)
				return
			}
			require.Len(t, resp.Kvs, 1)
			require.EqualValues(t, r.lease, resp.Kvs[0].Lease, "the one that is renewed")
		})
	}
}
