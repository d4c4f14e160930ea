package role

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/hasvc/internal/etcdtest"
)

// Who connects to the gRPC port and says nothing, as a scanner or a half-open connection does, does not hold up the end.
func TestSilentGRPCConnection(t *testing.T) {
	t.Parallel()
	o := start(t, "orders", etcdtest.Start(t, 1).URLs(), nil)
	c, err := net.Dial("tcp", o.GRPC)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	o.waitReady()
	stopped := make(chan error, 1)
	go func() { stopped <- o.stop() }()
	select {
	case err := <-stopped:
		require.NoError(t, err)
	case <-time.After(10 * time.Second): // the drain delay and the time for requests in flight, and as much again
		require.Fail(t, "it does not stop")
	}
}
