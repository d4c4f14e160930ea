package orders

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/inventoryv1"
	"github.com/hasvc/gauntlet/hasvc/internal/ordersv1"
	"github.com/hasvc/gauntlet/hasvc/internal/store"
)

// inventory answers with err, or waits for the end of the call's time.
type inventory struct {
	inventoryv1.InventoryClient
	err  error
	hang bool
}

func (i *inventory) answer(ctx context.Context, sku string) (*inventoryv1.Stock, error) {
	if i.hang {
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	return &inventoryv1.Stock{Sku: sku, Level: 7, Revision: 3}, i.err
}

func (i *inventory) Reserve(ctx context.Context, r *inventoryv1.ReserveRequest, _ ...grpc.CallOption) (*inventoryv1.Stock, error) {
	return i.answer(ctx, r.GetSku())
}

func (i *inventory) Level(ctx context.Context, r *inventoryv1.LevelRequest, _ ...grpc.CallOption) (*inventoryv1.Stock, error) {
	return i.answer(ctx, r.GetSku())
}

func TestNoFallback(t *testing.T) {
	away := status.Error(codes.Unavailable, "away")
	for _, test := range []struct {
		name    string
		inv     inventory
		defects []defect.Name
		status  string // what an order begins with; empty: it fails
	}{
		{name: "there", status: store.Accepted},
		{name: "away", inv: inventory{err: away}, status: store.Pending},
		{name: "hanging", inv: inventory{hang: true}, status: store.Pending},
		{name: "broken", inv: inventory{err: status.Error(codes.Internal, "x")}, status: store.Pending},
		{name: "not enough", inv: inventory{err: status.Error(codes.FailedPrecondition, "short")}},
		{name: "refused", inv: inventory{err: status.Error(codes.InvalidArgument, "bad")}},
		{name: "no fallback", inv: inventory{err: away}, defects: []defect.Name{defect.NoFallback}},
		{name: "no fallback, hanging", inv: inventory{hang: true}, defects: []defect.Name{defect.NoFallback}},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := config.Config{Defects: defect.Set{}}
			for _, d := range test.defects {
				cfg.Defects[d] = true
			}
			s := &Service{Config: cfg, Inventory: &inventory{}, Fallback: NewFallback(cfg, prometheus.NewRegistry())}
			within := func() context.Context {
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				t.Cleanup(cancel)
				return ctx
			}
			known, err := s.GetStock(within(), &ordersv1.GetStockRequest{Sku: "a"})
			require.NoError(t, err)
			assert.False(t, known.GetStale())

			s.Inventory = &test.inv
			got, err := s.reserve(within(), &ordersv1.CreateOrderRequest{IdempotencyKey: "k", Sku: "a", Quantity: 1})
			assert.Equal(t, test.status == "", err != nil, "%v", err)
			assert.Equal(t, test.status, got)

			stock, err := s.GetStock(within(), &ordersv1.GetStockRequest{Sku: "a"})
			assert.Equal(t, test.status == "", err != nil, "%v", err)
			if err == nil {
				assert.EqualValues(t, 7, stock.GetLevel())
				assert.Equal(t, test.status == store.Pending, stock.GetStale())
			}
			_, err = s.GetStock(within(), &ordersv1.GetStockRequest{Sku: "never-asked"})
			assert.Equal(t, test.status != store.Accepted, err != nil, "what was never known cannot be told")
			want := 0.0
			if test.status == store.Pending {
				want = 1
			}
			for _, kind := range []string{"pending", "stale"} {
				assert.InDelta(t, want, testutil.ToFloat64(s.Fallback.used.WithLabelValues(kind)), 0, kind)
			}
		})
	}
}

// An answer that came late does not replace a newer one.
func TestNewestIsRemembered(t *testing.T) {
	f := NewFallback(config.Config{}, prometheus.NewRegistry())
	f.remember(&ordersv1.Stock{Sku: "a", Level: 2, Revision: 9})
	f.remember(&ordersv1.Stock{Sku: "a", Level: 5, Revision: 8})
	got, ok := f.stale(t.Context(), "a", status.Error(codes.Unavailable, ""))
	require.True(t, ok)
	assert.EqualValues(t, 2, got.GetLevel())
}
