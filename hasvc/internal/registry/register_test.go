package registry

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

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
