package trace

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/metric/noop"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/stats"

	"github.com/hasvc/gauntlet/hasvc/internal/defect"
)

const (
	writeEvery = 200 * time.Millisecond // what a replica that is killed loses at most
	closeWait  = time.Second
)

// Tracer makes the spans of a replica. Without a file to write them to it makes none, and passes the ids on all the same.
type Tracer struct {
	provider *sdk.TracerProvider
	ids      propagator
	file     *os.File
}

// New returns a tracer that appends spans to the file, a JSON object to the line; an empty path: none are made.
func New(path, service, node string, defects defect.Set) (*Tracer, error) {
	t := &Tracer{ids: propagator{broken: defects.Has(defect.TraceBroken)}}
	options := []sdk.TracerProviderOption{sdk.WithIDGenerator(generator{}), sdk.WithSampler(sdk.NeverSample())}
	if path != "" {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, fmt.Errorf("opening the file for spans: %w", err)
		}
		t.file = f
		options = append(options, sdk.WithSampler(sdk.AlwaysSample()),
			sdk.WithBatcher(&writer{to: f, service: service, node: node}, sdk.WithBatchTimeout(writeEvery)))
	}
	t.provider = sdk.NewTracerProvider(options...)
	return t, nil
}

// Close writes what has not been written.
func (t *Tracer) Close() error {
	if t.file == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("writing the last spans: %w", err)
	}
	return t.file.Close()
}

// Server makes a span of each call that comes in.
func (t *Tracer) Server() grpc.ServerOption {
	return grpc.StatsHandler(otelgrpc.NewServerHandler(t.grpc()...))
}

// Client makes a span of each attempt of a call that goes out.
func (t *Tracer) Client() grpc.DialOption {
	return grpc.WithStatsHandler(otelgrpc.NewClientHandler(t.grpc()...))
}

func (t *Tracer) grpc() []otelgrpc.Option {
	return []otelgrpc.Option{
		otelgrpc.WithTracerProvider(t.provider), otelgrpc.WithPropagators(t.ids),
		otelgrpc.WithMeterProvider(noop.NewMeterProvider()), // client_golang counts
		otelgrpc.WithFilter(func(i *stats.RPCTagInfo) bool {
			return !strings.HasPrefix(i.FullMethodName, "/"+grpc_health_v1.Health_ServiceDesc.ServiceName+"/")
		}),
	}
}

// HTTP makes a span of each request of a route.
func (t *Tracer) HTTP(route string, next http.Handler) http.Handler {
	return otelhttp.NewHandler(next, route,
		otelhttp.WithTracerProvider(t.provider), otelhttp.WithPropagators(t.ids), otelhttp.WithMeterProvider(noop.NewMeterProvider()),
		otelhttp.WithSpanNameFormatter(func(route string, _ *http.Request) string { return route }))
}

// Transport makes a span of each request that goes out.
func (t *Tracer) Transport(base http.RoundTripper) http.RoundTripper {
	return otelhttp.NewTransport(base,
		otelhttp.WithTracerProvider(t.provider), otelhttp.WithPropagators(t.ids), otelhttp.WithMeterProvider(noop.NewMeterProvider()))
}

// generator makes the ids of spans; a trace has the one that the request came with.
type generator struct{}

// NewIDs implements sdk.IDGenerator.
func (g generator) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	id := ID(ctx)
	if id == "" {
		id = newID()
	}
	t := otelID(id)
	return t, g.NewSpanID(ctx, t)
}

// NewSpanID implements sdk.IDGenerator.
func (generator) NewSpanID(context.Context, trace.TraceID) (id trace.SpanID) {
	for !id.IsValid() {
		rand.Read(id[:]) // never fails since Go 1.24
	}
	return id
}
