package health

import (
	"context"
	"time"

	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// Publish keeps gRPC's health service in step with readiness until ctx ends, and beats the pulse.
func (c *Checker) Publish(ctx context.Context, server *health.Server, every time.Duration, pulse *Pulse) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		state := grpc_health_v1.HealthCheckResponse_NOT_SERVING
		if c.Ready(ctx).OK {
			state = grpc_health_v1.HealthCheckResponse_SERVING
		}
		server.SetServingStatus("", state)
		pulse.Beat()
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}
