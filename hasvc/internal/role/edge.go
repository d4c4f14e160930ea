package role

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/edge"
	"github.com/hasvc/gauntlet/hasvc/internal/health"
	"github.com/hasvc/gauntlet/hasvc/internal/registry"
	"github.com/hasvc/gauntlet/hasvc/internal/store"
)

// Edge passes requests on to gateways, which it finds in the registry.
func Edge(ctx context.Context, cfg config.Config, log *zap.Logger, listening func(Addrs)) error {
	warmUp(ctx, cfg)
	tracer, err := newTracer("edge", cfg)
	if err != nil {
		return err
	}
	defer closeTracer(tracer, log)
	etcd, err := store.Client(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer etcd.Close()

	leasing, watching := health.NewPulse("registrar", pulseMost), health.NewPulse("registry watcher", pulseMost)
	reg := newMetrics()
	registryStore := store.New(etcd, cfg)
	check := &health.Checker{Timeout: cfg.Ready, Pulses: []*health.Pulse{leasing, watching}, Defects: cfg.Defects}
	l, err := listen(cfg.HTTP)
	if err != nil {
		return err
	}
	addr, err := advertised(cfg, l)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	run, failed := context.WithCancelCause(ctx)
	defer failed(nil)
	server := edge.New(cfg, reg, tracer, log, func(mux *http.ServeMux) {
		check.Routes(mux)
		mux.Handle("GET /metrics", exposed(reg, cfg.Defects))
	})
	defer server.Close()
	check.Dependencies = []health.Dependency{
		{Name: "gateway", Ping: server.Ping},
		{Name: "etcd", Ping: registryStore.Ping, Optional: true}, // it goes on with the gateways that it knows
	}
	hs, err := serveHTTP(l, server, cfg, log, failed)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	listening(Addrs{HTTP: l.Addr().String()})
	log.Info("listening", zap.Stringer("http", l.Addr()))

	// The registry is followed until the last request has been passed on.
	watch, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	var early, late sync.WaitGroup
	watcher := &registry.Watcher{Etcd: etcd, Service: "gateway", Pulse: watching, Defects: cfg.Defects, Log: log, Update: server.Gateways}
	late.Go(func() { watcher.Run(watch) })
	registrar := &registry.Registrar{Etcd: etcd, Lease: cfg.Lease, Pulse: leasing, Defects: cfg.Defects, Log: log, Metrics: registry.NewMetrics(reg),
		Entry: registry.Entry{Service: "edge", Instance: instance(addr), Addr: addr}}
	check.Started()
	early.Go(func() {
		registrar.Run(run, func(ctx context.Context) error {
			if r := check.Ready(ctx); !r.OK {
				return fmt.Errorf("%s: %v", r.Status, r.Problems)
			}
			return nil
		})
	})

	<-run.Done()
	early.Wait()
	err = departure{cfg: cfg, check: check, log: log,
		deregister: registrar.Deregister,
		depart:     hs.depart,
		finish: func(ctx context.Context) error {
			// A stream whose client asked for an end comes to it meanwhile. The others have none: they are cut while there is time to end well.
			defer time.AfterFunc(cfg.Shutdown*4/5, server.EndStreams).Stop()
			return hs.finish(ctx)
		},
		abort: hs.abort,
	}.leave()
	stopWatching()
	late.Wait()
	if cause := context.Cause(run); ctx.Err() == nil {
		err = errors.Join(cause, err)
	}
	return err
}
