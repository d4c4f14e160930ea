package role

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/health"
	"github.com/hasvc/gauntlet/hasvc/internal/registry"
	"github.com/hasvc/gauntlet/hasvc/internal/rpc"
	"github.com/hasvc/gauntlet/hasvc/internal/trace"
)

// discover connects to a service whose replicas are in the registry.
func discover(service string, etcd *clientv3.Client, cfg config.Config, watching *health.Pulse, reg prometheus.Registerer, tracer *trace.Tracer, log *zap.Logger) (*grpc.ClientConn, error) {
	conn, err := rpc.Dial(registry.Scheme+":///"+service, registry.Resolver{New: func(service string, update func([]string)) *registry.Watcher {
		return &registry.Watcher{Etcd: etcd, Service: service, Pulse: watching, Defects: cfg.Defects, Log: log, Update: update}
	}}, cfg, rpc.NewMetrics(reg), tracer.Client())
	if err != nil {
		return nil, err
	}
	conn.Connect() // look the endpoints up now, not at the first request
	return conn, nil
}

// pingTries is how many replicas are asked at most. One that begins, or that alone is cut off from the store, says nothing about
// the others, and a gateway must not leave the balancing for it.
const pingTries = 3

// pingService asks replicas of a service, one after the other, until one is ready.
func pingService(ctx context.Context, service string, conn *grpc.ClientConn) error {
	ctx = rpc.Attempts(ctx)
	for left := pingTries; ; left-- {
		err := pingReplica(ctx, left, service, conn)
		if err == nil || left == 1 || ctx.Err() != nil {
			return err
		}
	}
}

// pingReplica asks one replica, which has its share of the time: one that hangs must leave some for the others.
func pingReplica(ctx context.Context, left int, service string, conn *grpc.ClientConn) error {
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/time.Duration(left))
		defer cancel()
	}
	resp, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		return fmt.Errorf("asking %s whether it is ready: %w", service, err)
	}
	if s := resp.GetStatus(); s != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("%s is not ready: %s", service, s)
	}
	return nil
}
