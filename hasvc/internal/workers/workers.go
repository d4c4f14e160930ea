// Package workers bounds how many calls a replica works on at a time, as the pool of connections to a database does. What comes
// beyond that waits in line, first come first served, for as long as its caller does: nobody works for somebody who has left.
package workers

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/logs"
)

// Pool of one replica.
type Pool struct {
	places  *semaphore.Weighted // nil: no bound
	waiting prometheus.Gauge
}

// New registers the metrics.
func New(cfg config.Config, reg prometheus.Registerer) *Pool {
	p := &Pool{waiting: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "hasvc_queue_length", Help: "Calls that wait in line until a worker is free.",
	})}
	reg.MustRegister(p.waiting)
	if cfg.Workers > 0 {
		p.places = semaphore.NewWeighted(int64(cfg.Workers))
	}
	return p
}

// Unary is the interceptor of calls. Streams live for as long as their clients like, and take no place; nor do health checks,
// which would find a replica ill that only has much to do.
func (p *Pool) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if p.places == nil || logs.IsProbe(info.FullMethod) {
		return handle(ctx, req)
	}
	if err := p.enter(ctx); err != nil {
		return nil, status.FromContextError(err).Err()
	}
	defer p.places.Release(1)
	return handle(ctx, req)
}

// enter waits for a place.
func (p *Pool) enter(ctx context.Context) error {
	if p.places.TryAcquire(1) {
		return nil
	}
	p.waiting.Inc()
	defer p.waiting.Dec()
	return p.places.Acquire(ctx, 1)
}
