package role

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	grpchealth "google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/health"
	"github.com/hasvc/gauntlet/hasvc/internal/logs"
	"github.com/hasvc/gauntlet/hasvc/internal/mtls"
	"github.com/hasvc/gauntlet/hasvc/internal/recovery"
	"github.com/hasvc/gauntlet/hasvc/internal/registry"
	"github.com/hasvc/gauntlet/hasvc/internal/rpc"
	"github.com/hasvc/gauntlet/hasvc/internal/store"
	"github.com/hasvc/gauntlet/hasvc/internal/trace"
	"github.com/hasvc/gauntlet/hasvc/internal/workers"
)

// publishEvery is how often gRPC's health service follows readiness.
const publishEvery = 250 * time.Millisecond

// backend is what the roles that serve gRPC on top of etcd have in common, with health and metrics over HTTP beside it.
type backend struct {
	service string
	cfg     config.Config
	log     *zap.Logger
	reg     *prometheus.Registry
	tracer  *trace.Tracer
	etcd    *clientv3.Client
	db      *store.Store
	check   *health.Checker
}

// serve runs a backend until ctx ends. prepare makes what the service needs beyond the store, and says how to register and to
// close it.
func serveBackend(ctx context.Context, service string, cfg config.Config, log *zap.Logger, listening func(Addrs), prepare func(b *backend) (register func(*grpc.Server), closeAll func(), err error)) error {
	warmUp(ctx, cfg)
	tracer, err := newTracer(service, cfg)
	if err != nil {
		return err
	}
	defer closeTracer(tracer, log)
	etcd, err := store.Client(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer etcd.Close()
	db := store.New(etcd, cfg)
	defer db.Close()

	leasing, publishing := health.NewPulse("registrar", pulseMost), health.NewPulse("health publisher", pulseMost)
	b := &backend{service: service, cfg: cfg, log: log, reg: newMetrics(), tracer: tracer, etcd: etcd, db: db, check: &health.Checker{
		Timeout:      cfg.Ready,
		Dependencies: []health.Dependency{{Name: "etcd", Ping: db.Ping}},
		Pulses:       []*health.Pulse{leasing, publishing},
		Defects:      cfg.Defects,
	}}
	register, closeAll, err := prepare(b)
	if err != nil {
		return err
	}
	defer closeAll()

	secure, err := mtls.Server(cfg.TLS)
	if err != nil {
		return err
	}
	grpcListener, err := listen(cfg.GRPC)
	if err != nil {
		return err
	}
	httpListener, err := listen(cfg.HTTP)
	if err != nil {
		return errors.Join(err, grpcListener.Close())
	}
	addr, err := advertised(cfg, grpcListener)
	if err != nil {
		return errors.Join(err, grpcListener.Close(), httpListener.Close())
	}

	run, failed := context.WithCancelCause(ctx)
	defer failed(nil)
	mux := http.NewServeMux()
	b.check.Routes(mux)
	mux.Handle("GET /metrics", exposed(b.reg, cfg.Defects))
	hs, err := serveHTTP(httpListener, mux, cfg, log, failed)
	if err != nil {
		return errors.Join(err, grpcListener.Close(), httpListener.Close())
	}
	streams := rpc.NewStreams()
	server, healthServer := b.server(streams, secure)
	register(server)
	gs := serveGRPC(grpcListener, server, failed)
	listening(Addrs{HTTP: httpListener.Addr().String(), GRPC: grpcListener.Addr().String()})
	log.Info("listening", zap.Stringer("http", httpListener.Addr()), zap.Stringer("grpc", grpcListener.Addr()))

	// What ends before the replica leaves the registry, and what goes on until it has stopped.
	var early, late sync.WaitGroup
	registrar := &registry.Registrar{Etcd: etcd, Lease: cfg.Lease, Pulse: leasing, Defects: cfg.Defects, Log: log, Metrics: registry.NewMetrics(b.reg),
		Entry: registry.Entry{Service: service, Instance: instance(addr), Addr: addr},
		// Who is ready can be found: a gateway that waits for the replicas begins with all of them in its list.
		Registered: b.check.Started}
	early.Go(func() { registrar.Run(run, db.Ping) })
	publish, stopPublishing := context.WithCancel(context.WithoutCancel(ctx))
	late.Go(func() { b.check.Publish(publish, healthServer, publishEvery, publishing) })

	<-run.Done()
	early.Wait()
	err = departure{cfg: cfg, check: b.check, log: log,
		deregister: registrar.Deregister,
		depart:     streams.Drain,
		finish:     gs.finish,
		abort:      gs.abort,
	}.leave()
	stopPublishing()
	late.Wait()
	hs.abort() // health and metrics, to the last
	if cause := context.Cause(run); ctx.Err() == nil {
		err = errors.Join(cause, err)
	}
	return err
}

// server has what every service has: spans, access log, metrics, deadlines and gRPC's health service.
func (b *backend) server(streams *rpc.Streams, secure credentials.TransportCredentials) (*grpc.Server, *grpchealth.Server) {
	access, served := logs.Access{Log: b.log, Defects: b.cfg.Defects}, rpc.NewServed(b.reg)
	unary := []grpc.UnaryServerInterceptor{access.Unary, served.Unary}
	if b.cfg.Defects.Has(defect.NoDeadline) {
		unary = append(unary, rpc.Endless)
	} else {
		unary = append(unary, rpc.Deadline(b.cfg.Deadline))
	}
	guard := recovery.New(b.cfg, b.reg, b.log)
	unary = append(unary, workers.New(b.cfg, b.reg).Unary) // who waits in line, waits within its deadline
	unary = append(unary, guard.Unary)                     // next to the handler: what stands before it sees INTERNAL
	stream := []grpc.StreamServerInterceptor{access.Stream, served.Stream}
	if !b.cfg.Defects.Has(defect.StreamCut) {
		stream = append(stream, streams.Server)
	}
	stream = append(stream, guard.Stream)
	server := grpc.NewServer(append(rpc.ServerOptions(), grpc.Creds(secure), b.tracer.Server(),
		grpc.ChainUnaryInterceptor(unary...), grpc.ChainStreamInterceptor(stream...))...)
	h := grpchealth.NewServer()
	h.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING) // until the first probe
	grpc_health_v1.RegisterHealthServer(server, h)
	reflection.Register(server) // clients without the .proto files: grpcurl, load generators
	return server, h
}
