package orders

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/etcdtest"
	stocked "github.com/hasvc/gauntlet/hasvc/internal/inventory"
	"github.com/hasvc/gauntlet/hasvc/internal/inventoryv1"
	"github.com/hasvc/gauntlet/hasvc/internal/ordersv1"
	"github.com/hasvc/gauntlet/hasvc/internal/store"
	"github.com/hasvc/gauntlet/hasvc/internal/trace"
)

// shelf is an inventory that knows what it gave away by the order's id, as the real one does.
type shelf struct {
	inventoryv1.InventoryClient
	mu     sync.Mutex
	away   bool
	broken string // the order at which it has an accident
	taken  map[string]int64
}

func (s *shelf) Reserve(_ context.Context, r *inventoryv1.ReserveRequest, _ ...grpc.CallOption) (*inventoryv1.Stock, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return nil, status.Error(codes.Unavailable, "away")
	}
	if s.broken == r.GetOrderId() {
		return nil, status.Error(codes.Internal, "an accident")
	}
	if before, ok := s.taken[r.GetOrderId()]; ok && before != r.GetQuantity() {
		return nil, status.Error(codes.AlreadyExists, "another quantity was taken")
	}
	s.taken[r.GetOrderId()] = r.GetQuantity()
	return &inventoryv1.Stock{Sku: r.GetSku()}, nil
}

func (s *shelf) goAway(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

func (s *shelf) has() map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.taken)
}

func service(t *testing.T) (*Service, *shelf, context.Context) {
	t.Helper()
	cfg, err := config.Parse(nil, ":0")
	require.NoError(t, err)
	cfg.Etcd = etcdtest.Start(t, 1).URLs()
	etcd, err := store.Client(t.Context(), cfg, zap.NewNop())
	require.NoError(t, err)
	db := store.New(etcd, cfg)
	t.Cleanup(func() {
		db.Close()
		_ = etcd.Close()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	inventory := &shelf{taken: map[string]int64{}}
	return &Service{Config: cfg, Store: db, Inventory: inventory, Fallback: NewFallback(cfg, prometheus.NewRegistry())}, inventory, ctx
}

func request(key string, quantity int64) *ordersv1.CreateOrderRequest {
	return &ordersv1.CreateOrderRequest{IdempotencyKey: key, Sku: "a", Quantity: quantity}
}

// orderEach makes an order with each key, and returns their ids.
func orderEach(ctx context.Context, t *testing.T, s *Service, keys ...string) map[string]string {
	t.Helper()
	ids := map[string]string{}
	for _, key := range keys {
		o, err := s.CreateOrder(ctx, request(key, 2))
		require.NoError(t, err)
		ids[key] = o.GetId()
	}
	return ids
}

// areNow asserts the status of each order.
func areNow(ctx context.Context, t *testing.T, s *Service, ids, want map[string]string) {
	t.Helper()
	for key, status := range want {
		o, err := s.GetOrder(ctx, &ordersv1.GetOrderRequest{Id: ids[key]})
		require.NoError(t, err)
		assert.Equal(t, status, o.GetStatus(), key)
	}
}

// A key that was used takes stock for the order that it made and for no other, and gets the answer that it got.
func TestReusedKeyTakesNoStock(t *testing.T) {
	t.Parallel()
	s, inventory, ctx := service(t)
	inventory.goAway(true)
	first, err := s.CreateOrder(ctx, request("k", 2))
	require.NoError(t, err)
	require.Equal(t, store.Pending, first.GetStatus())
	inventory.goAway(false)

	_, err = s.CreateOrder(ctx, request("k", 3))
	require.Equal(t, codes.AlreadyExists, status.Code(err), "%v", err)
	again, err := s.CreateOrder(ctx, request("k", 2))
	require.NoError(t, err)
	assert.Equal(t, first.String(), again.String())
	assert.Empty(t, inventory.has())

	require.NoError(t, s.confirmSome(ctx, zap.NewNop()))
	assert.Equal(t, map[string]int64{first.GetId(): 2}, inventory.has())
	now, err := s.GetOrder(ctx, &ordersv1.GetOrderRequest{Id: first.GetId()})
	require.NoError(t, err)
	assert.Equal(t, store.Accepted, now.GetStatus())
}

// What becomes of an order later is logged with the ids of the request that made it.
func TestPendingOrderHasItsTrace(t *testing.T) {
	t.Parallel()
	s, inventory, ctx := service(t)
	inventory.goAway(true)
	for _, name := range []string{"a", "b"} {
		_, err := s.CreateOrder(trace.WithRequest(trace.With(ctx, "trace-"+name), "request-"+name), request(name, 2))
		require.NoError(t, err)
	}
	inventory.goAway(false)
	core, seen := observer.New(zap.InfoLevel)
	require.NoError(t, s.confirmSome(ctx, zap.New(core)))
	ids := map[any]any{}
	lines := seen.FilterMessage("pending order settled").All()
	require.Len(t, lines, 2)
	for _, line := range lines {
		ids[line.ContextMap()["traceId"]] = line.ContextMap()["requestId"]
	}
	assert.Equal(t, map[any]any{"trace-a": "request-a", "trace-b": "request-b"}, ids)
}

// Two that use one key at the same time, one while inventory is away: whose stock was taken is settled, and nobody behind it waits.
func TestPendingOrderWhoseStockIsTaken(t *testing.T) {
	t.Parallel()
	s, inventory, ctx := service(t)
	inventory.goAway(true)
	ids := orderEach(ctx, t, s, "k", "behind")
	require.Error(t, s.confirmSome(ctx, zap.NewNop()), "it is away still")
	inventory.goAway(false)
	inventory.taken[ids["k"]] = 3

	require.NoError(t, s.confirmSome(ctx, zap.NewNop()))
	areNow(ctx, t, s, ids, map[string]string{"k": store.Rejected, "behind": store.Accepted})
	assert.Equal(t, map[string]int64{ids["k"]: 3, ids["behind"]: 2}, inventory.has())
}

// A round settles some of those that wait and not always the same, so that replicas share them and inventory is not run over.
func TestPendingOrdersAreShared(t *testing.T) {
	t.Parallel()
	s, inventory, ctx := service(t)
	inventory.goAway(true)
	var keys []string
	for i := range 4 * confirmBatch {
		keys = append(keys, fmt.Sprint("k", i))
	}
	ids := orderEach(ctx, t, s, keys...)
	inventory.goAway(false)
	require.NoError(t, s.confirmSome(ctx, zap.NewNop()))
	first := inventory.has()
	require.Len(t, first, confirmBatch)
	oldest := 0
	for _, key := range keys[:confirmBatch] {
		if _, ok := first[ids[key]]; ok {
			oldest++
		}
	}
	assert.Less(t, oldest, confirmBatch, "by chance, once in 800 million times")
	for range 3 {
		require.NoError(t, s.confirmSome(ctx, zap.NewNop()))
	}
	assert.Len(t, inventory.has(), len(keys), "what is settled does not wait any more")
}

// An order at which inventory has an accident waits on, and nobody behind it does.
func TestPendingOrderThatBreaksInventory(t *testing.T) {
	t.Parallel()
	s, inventory, ctx := service(t)
	inventory.goAway(true)
	ids := orderEach(ctx, t, s, "k", "behind")
	inventory.goAway(false)
	inventory.broken = ids["k"]

	core, seen := observer.New(zap.WarnLevel)
	require.NoError(t, s.confirmSome(ctx, zap.New(core)))
	areNow(ctx, t, s, ids, map[string]string{"k": store.Pending, "behind": store.Accepted})
	lines := seen.FilterMessage("a pending order cannot be settled").All()
	require.Len(t, lines, 1)
	assert.Equal(t, ids["k"], lines[0].ContextMap()["orderId"])
}

// warehouse is the real inventory, behind something else that happens first.
type warehouse struct {
	inventoryv1.InventoryClient
	first func()
	real  stocked.Service
}

func (w *warehouse) Reserve(ctx context.Context, r *inventoryv1.ReserveRequest, _ ...grpc.CallOption) (*inventoryv1.Stock, error) {
	w.first()
	return w.real.Reserve(ctx, r)
}

// Two replicas settle an order, and between them the stock is filled up: what one of them has rejected, the other does not take, nor does
// it say that it has settled it.
func TestTwoReplicasSettleOneOrder(t *testing.T) {
	t.Parallel()
	one, inventory, ctx := service(t)
	inventory.goAway(true)
	o, err := one.CreateOrder(ctx, request("k", 2))
	require.NoError(t, err)
	move := func(id string, delta int64) store.Stock {
		now, err := one.Store.MoveStock(ctx, store.Move{ID: id, SKU: "a", Delta: delta})
		require.NoError(t, err)
		return now
	}
	move("sold", 1-store.InitialStock("a"))

	core, seen := observer.New(zap.InfoLevel)
	one.Inventory = &warehouse{first: func() {}, real: stocked.Service{Store: one.Store}}
	var full store.Stock
	two := &Service{Config: one.Config, Store: one.Store, Fallback: one.Fallback, Inventory: &warehouse{real: stocked.Service{Store: one.Store}, first: func() {
		assert.NoError(t, one.confirmSome(ctx, zap.New(core)))
		full = move("restocked", 10)
	}}}
	require.NoError(t, two.confirmSome(ctx, zap.New(core)))
	end, err := one.GetOrder(ctx, &ordersv1.GetOrderRequest{Id: o.GetId()})
	require.NoError(t, err)
	assert.Equal(t, store.Rejected, end.GetStatus())
	now, err := one.Store.Level(ctx, "a")
	require.NoError(t, err)
	assert.Equal(t, full, now)
	lines := seen.FilterMessage("pending order settled").All()
	require.Len(t, lines, 1)
	assert.Equal(t, store.Rejected, lines[0].ContextMap()["status"])
}
