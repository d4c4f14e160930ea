package trace

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// Span is a line of the file that spans are written to.
type Span struct {
	TraceID    string         `json:"traceId"`
	SpanID     string         `json:"spanId"`
	Parent     string         `json:"parentSpanId,omitempty"`
	Name       string         `json:"name"`
	Kind       string         `json:"kind"` // server | client | internal
	Service    string         `json:"service"`
	Node       string         `json:"node"`
	Start      time.Time      `json:"start"`
	Seconds    float64        `json:"seconds"`
	Status     string         `json:"status"` // Unset | Ok | Error
	Error      string         `json:"error,omitempty"`
	Attributes map[string]any `json:"attributes,omitempty"`
}

// writer is an exporter that needs nothing beside the replica.
type writer struct {
	to            io.Writer
	service, node string
}

// ExportSpans implements sdk.SpanExporter. All spans of a batch are one write, so that replicas can share a file.
func (w *writer) ExportSpans(_ context.Context, spans []sdk.ReadOnlySpan) error {
	var lines bytes.Buffer
	enc := json.NewEncoder(&lines)
	for _, s := range spans {
		out := Span{
			TraceID: s.SpanContext().TraceID().String(), SpanID: s.SpanContext().SpanID().String(),
			Name: s.Name(), Kind: s.SpanKind().String(), Service: w.service, Node: w.node,
			Start: s.StartTime(), Seconds: s.EndTime().Sub(s.StartTime()).Seconds(),
			Status: s.Status().Code.String(), Error: s.Status().Description, Attributes: map[string]any{},
		}
		if s.Parent().SpanID().IsValid() {
			out.Parent = s.Parent().SpanID().String()
		}
		for _, a := range s.Attributes() {
			out.Attributes[string(a.Key)] = a.Value.AsInterface()
		}
		if err := enc.Encode(out); err != nil {
			return fmt.Errorf("encoding a span: %w", err)
		}
	}
	if _, err := w.to.Write(lines.Bytes()); err != nil {
		return fmt.Errorf("writing spans: %w", err)
	}
	return nil
}

// Shutdown implements sdk.SpanExporter.
func (*writer) Shutdown(context.Context) error { return nil }
