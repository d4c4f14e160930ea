package store

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/hasvc/gauntlet/hasvc/internal/etcdtest"
	"github.com/hasvc/gauntlet/hasvc/internal/trace"
)

// However many wait, they are read in a few calls: an attempt has one timeout, and a store far away takes some of it for each.
func TestPendingOrders(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	var calls atomic.Int64
	count := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		calls.Add(1)
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	etcd, err := dial(c.URLs(), zap.NewNop(), grpc.WithChainUnaryInterceptor(count))
	require.NoError(t, err)
	defer etcd.Close()
	cfg := settings(t, c)
	cfg.StoreTry = 10 * time.Second // one attempt, on a busy machine too
	s := New(etcd, cfg)
	ctx := within(t, 20*time.Second)
	none, err := s.PendingOrders(ctx, 5)
	require.NoError(t, err)
	assert.Empty(t, none)
	var want []PendingOrder
	for i := range 6 {
		p := PendingOrder{TraceID: fmt.Sprint("trace-", i), RequestID: fmt.Sprint("request-", i)}
		p.Order, _, err = s.CreateOrder(trace.WithRequest(trace.With(ctx, p.TraceID), p.RequestID), fmt.Sprint("key-", i), "sku", 1, Pending)
		require.NoError(t, err)
		want = append(want, p)
	}
	require.NoError(t, s.SettleOrder(ctx, want[1].Order, Accepted))
	// As one is stored whose ids nobody kept.
	_, err = etcd.Put(ctx, pendingKey(want[3].ID), "")
	require.NoError(t, err)
	want[3].TraceID, want[3].RequestID = "", ""
	calls.Store(0)
	got, err := s.PendingOrders(ctx, 4)
	require.NoError(t, err)
	assert.Equal(t, []PendingOrder{want[0], want[2], want[3], want[4]}, got)
	assert.LessOrEqual(t, calls.Load(), int64(2))
}
