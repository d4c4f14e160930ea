package trace

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
)

// propagator carries the ids and the W3C trace context from hop to hop, in HTTP headers and gRPC metadata alike: one place for
// both directions of unary calls, streams and requests.
type propagator struct {
	w3c    propagation.TraceContext
	broken bool
}

// Inject implements propagation.TextMapPropagator.
func (p propagator) Inject(ctx context.Context, to propagation.TextMapCarrier) {
	if id := RequestID(ctx); id != "" {
		to.Set(RequestHeader, id)
	}
	if p.broken { // the defect trace-broken: whoever is called begins a trace of its own
		return
	}
	if id := ID(ctx); id != "" {
		to.Set(Header, id)
	}
	p.w3c.Inject(ctx, to)
}

// Extract implements propagation.TextMapPropagator: after it, ctx has both ids.
func (p propagator) Extract(ctx context.Context, from propagation.TextMapCarrier) context.Context {
	ctx = With(p.w3c.Extract(ctx, from), identify(from.Get("traceparent"), from.Get(Header)))
	request := from.Get(RequestHeader)
	if !clean(request) {
		request = newID()
	}
	return WithRequest(ctx, request)
}

// Fields implements propagation.TextMapPropagator.
func (p propagator) Fields() []string { return append(p.w3c.Fields(), Header, RequestHeader) }
