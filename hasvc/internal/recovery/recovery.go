// Package recovery makes a panic cost the request that panicked, and nothing else. Without it one bad request ends the
// process, for net/http recovers by itself but gRPC does not; and the caller that tries it again ends the next replica.
package recovery

import (
	"context"
	"errors"
	"net/http"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/trace"
)

// ErrPanicked is what a request that panicked ends with. What it was goes to the log, not to the caller. It is INTERNAL,
// which is not tried again.
var ErrPanicked = status.Error(codes.Internal, "the request panicked")

// Guard runs requests.
type Guard struct {
	off    bool
	panics prometheus.Counter
	log    *zap.Logger
}

// New registers the counter of panics.
func New(cfg config.Config, reg prometheus.Registerer, log *zap.Logger) *Guard {
	g := &Guard{off: cfg.Defects.Has(defect.NoRecover), log: log,
		panics: prometheus.NewCounter(prometheus.CounterOpts{Name: "hasvc_panics_total", Help: "Requests that panicked."})}
	reg.MustRegister(g.panics)
	return g
}

// Run calls handle and turns a panic into ErrPanicked. It sees what happens in its own goroutine: one that a handler starts
// must be run by Run too.
func (g *Guard) Run(ctx context.Context, handle func() error) (err error) {
	if g.off {
		return handle()
	}
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if cut, ok := p.(error); ok && errors.Is(cut, http.ErrAbortHandler) {
			panic(p) // net/http's way to cut a connection, meant as such
		}
		g.panics.Inc()
		g.log.Error("a request panicked", trace.Field(ctx), zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
		err = ErrPanicked
	}()
	return handle()
}

// Unary is a server interceptor. It stands behind those that give the request its trace.
func (g *Guard) Unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (reply any, err error) {
	err = g.Run(ctx, func() error {
		reply, err = handle(ctx, req)
		return err
	})
	return reply, err
}

// Stream is a server interceptor.
func (g *Guard) Stream(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	return g.Run(s.Context(), func() error { return handle(srv, s) })
}

// Poison stands for the bug that every service has somewhere: with HASVC_POISON=x an order of the SKU x panics.
func Poison(cfg config.Config, sku string) {
	if cfg.Poison != "" && sku == cfg.Poison {
		panic("poison: an order of " + sku)
	}
}
