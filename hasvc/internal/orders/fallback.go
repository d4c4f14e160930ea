package orders

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/lru"
	"github.com/hasvc/gauntlet/hasvc/internal/ordersv1"
)

const (
	// stocksKnown bounds the levels that are remembered.
	stocksKnown = 10_000
	// inventoryShare is the part of a request's time that inventory gets. What is left is for what is done without it.
	inventoryShare = 2
)

// Fallback is what orders does while inventory is away: an order is accepted as pending, to be confirmed later, and a level
// is the one known last, marked as stale.
type Fallback struct {
	off  bool
	used *prometheus.CounterVec

	mu   sync.Mutex
	last *lru.Map[string, *ordersv1.Stock] // by SKU
}

// NewFallback registers the counter of fallbacks.
func NewFallback(cfg config.Config, reg prometheus.Registerer) *Fallback {
	f := &Fallback{off: cfg.Defects.Has(defect.NoFallback), last: lru.New[string, *ordersv1.Stock](stocksKnown), used: prometheus.NewCounterVec(
		prometheus.CounterOpts{Name: "hasvc_fallbacks_total", Help: "Answers that were given without inventory."}, []string{"kind"})}
	reg.MustRegister(f.used)
	return f
}

// within bounds a call to inventory so that there is time left after it.
func (f *Fallback) within(ctx context.Context) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if f.off || !ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(end)/inventoryShare)
}

// pending reports whether an order may be accepted although its stock could not be taken. An answer of inventory, such as
// that there is not enough, is final.
func (f *Fallback) pending(ctx context.Context, err error) bool {
	if f.off || ctx.Err() != nil || !away(err) {
		return false
	}
	f.used.WithLabelValues("pending").Inc()
	return true
}

// remember keeps a level that inventory has answered.
func (f *Fallback) remember(s *ordersv1.Stock) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if known, ok := f.last.Get(s.GetSku()); !ok || known.GetRevision() <= s.GetRevision() {
		f.last.Put(s.GetSku(), s)
	}
}

// stale is the level known last of a SKU.
func (f *Fallback) stale(ctx context.Context, sku string, err error) (*ordersv1.Stock, bool) {
	if f.off || ctx.Err() != nil || !away(err) {
		return nil, false
	}
	f.mu.Lock()
	s, ok := f.last.Get(sku)
	f.mu.Unlock()
	if !ok {
		return nil, false
	}
	f.used.WithLabelValues("stale").Inc()
	return &ordersv1.Stock{Sku: s.GetSku(), Level: s.GetLevel(), Revision: s.GetRevision(), Stale: true}, true
}

// away reports whether inventory did not answer, or with an accident: the codes at which the breaker counts a failure.
func away(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Internal, codes.Unknown:
		return true
	}
	return false
}
