package role

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"go.uber.org/zap"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/gateway"
	"github.com/hasvc/gauntlet/hasvc/internal/health"
	"github.com/hasvc/gauntlet/hasvc/internal/ordersv1"
	"github.com/hasvc/gauntlet/hasvc/internal/registry"
	"github.com/hasvc/gauntlet/hasvc/internal/store"
)

// Gateway serves the HTTP API on top of orders, which it finds in the registry.
func Gateway(ctx context.Context, cfg config.Config, log *zap.Logger, listening func(Addrs)) error {
	warmUp(ctx, cfg)
	tracer, err := newTracer("gateway", cfg)
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
	conn, err := discover("orders", etcd, cfg, watching, reg, tracer, log)
	if err != nil {
		return err
	}
	defer conn.Close()

	registryStore := store.New(etcd, cfg)
	check := &health.Checker{
		Timeout: cfg.Ready,
		Dependencies: []health.Dependency{
			{Name: "orders", Ping: func(ctx context.Context) error { return pingService(ctx, "orders", conn) }},
			{Name: "etcd", Ping: registryStore.Ping, Optional: true},
		},
		Pulses:  []*health.Pulse{leasing, watching},
		Defects: cfg.Defects,
	}
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
	api := gateway.New(cfg, ordersv1.NewOrdersClient(conn), reg, tracer, log, func(mux *http.ServeMux) {
		check.Routes(mux)
		mux.Handle("GET /metrics", exposed(reg, cfg.Defects))
	})
	streams, endStreams := context.WithCancel(context.Background())
	defer endStreams()
	if !cfg.Defects.Has(defect.StreamCut) {
		api.Streams = streams
	}
	hs, err := serveHTTP(l, api, cfg, log, failed)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	listening(Addrs{HTTP: l.Addr().String()})
	log.Info("listening", zap.Stringer("http", l.Addr()))

	var early sync.WaitGroup
	registrar := &registry.Registrar{Etcd: etcd, Lease: cfg.Lease, Pulse: leasing, Defects: cfg.Defects, Log: log, Metrics: registry.NewMetrics(reg),
		Entry: registry.Entry{Service: "gateway", Instance: instance(addr), Addr: addr}}
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
		depart:     func() { hs.depart(); endStreams() },
		finish:     hs.finish,
		abort:      hs.abort,
	}.leave()
	if cause := context.Cause(run); ctx.Err() == nil {
		err = errors.Join(cause, err)
	}
	return err
}
