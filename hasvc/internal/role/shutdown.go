package role

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/health"
)

// departure is how a replica leaves. The order is the point: whoever sends requests must have heard of it before the replica
// stops to take them.
type departure struct {
	cfg   config.Config
	check *health.Checker
	log   *zap.Logger

	deregister func(ctx context.Context) error // leaves the registry
	depart     func()                          // tells clients and streams to go on elsewhere: to wait for streams would be in vain
	finish     func(ctx context.Context) error // stops to take requests and waits for those in flight
	abort      func()                          // closes every connection
}

// leave carries it out: not ready, out of the registry, wait for the drain delay, finish what is in flight, close.
func (d departure) leave() error {
	begin := time.Now()
	if d.cfg.Defects.Has(defect.NoDrain) {
		d.abort()
		return nil
	}
	// Not derived from the context that has just ended.
	ctx, cancel := context.WithTimeout(context.Background(), d.cfg.Drain+d.cfg.Shutdown)
	defer cancel()
	if d.cfg.Defects.Has(defect.LateDeregister) {
		d.depart()
		err := d.finish(ctx)
		d.check.Drain()
		d.out(ctx)
		return err
	}
	d.check.Drain()
	d.depart()
	d.log.Info("draining", zap.Duration("for", d.cfg.Drain))
	var gone sync.WaitGroup
	gone.Go(func() { d.out(ctx) }) // the drain delay runs meanwhile, also when the registry is away
	<-time.After(d.cfg.Drain)
	err := d.finish(ctx)
	gone.Wait()
	d.log.Info("stopped", zap.Duration("after", time.Since(begin)))
	return err
}

// out leaves the registry. That the registry is away at this moment is no reason to fail: the lease runs out.
func (d departure) out(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Lease)
	defer cancel()
	if err := d.deregister(ctx); err != nil {
		d.log.Warn("could not leave the registry", zap.Error(err))
	}
}
