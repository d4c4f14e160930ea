package role

import (
	"context"
	"fmt"

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

// pingService asks any replica of a service whether it is ready.
func pingService(ctx context.Context, service string, conn *grpc.ClientConn) error {
	resp, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		return fmt.Errorf("asking %s whether it is ready: %w", service, err)
	}
	if s := resp.GetStatus(); s != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("%s is not ready: %s", service, s)
	}
	return nil
}
