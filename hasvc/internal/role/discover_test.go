package role

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/rpc"
)

// healths is a service of replicas that only say whether they are ready.
func healths(t *testing.T, states ...grpc_health_v1.HealthCheckResponse_ServingStatus) *grpc.ClientConn {
	t.Helper()
	list := manual.NewBuilderWithScheme("test")
	var addrs []resolver.Address
	for _, state := range states {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		h := health.NewServer()
		h.SetServingStatus("", state)
		server := grpc.NewServer()
		grpc_health_v1.RegisterHealthServer(server, h)
		done := make(chan error, 1)
		go func() { done <- server.Serve(l) }()
		t.Cleanup(func() {
			server.Stop()
			require.NoError(t, <-done)
		})
		addrs = append(addrs, resolver.Address{Addr: l.Addr().String()})
	}
	list.InitialState(resolver.State{Addresses: addrs})
	cfg, err := config.Parse(nil, ":0")
	require.NoError(t, err)
	conn, err := rpc.Dial("test:///orders", list, cfg, rpc.NewMetrics(prometheus.NewRegistry()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

// A service is there when one of its replicas is, whichever was asked first.
func TestPingService(t *testing.T) {
	t.Parallel()
	const up, down = grpc_health_v1.HealthCheckResponse_SERVING, grpc_health_v1.HealthCheckResponse_NOT_SERVING
	ping := func(conn *grpc.ClientConn) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return pingService(ctx, "orders", conn)
	}
	some := healths(t, down, up, down)
	// The connections are made one beside the other: until that of the ready replica stands, only the others can be asked.
	require.Eventually(t, func() bool { return ping(some) == nil }, 10*time.Second, time.Millisecond)
	for range 20 {
		require.NoError(t, ping(some))
	}
	assert.ErrorContains(t, ping(healths(t, down, down)), "orders is not ready: NOT_SERVING")
}
