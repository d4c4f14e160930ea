// Package trace ties together what the services do for one request: two ids that every hop passes on, over HTTP and gRPC, in
// log lines, exemplars and answers; and OpenTelemetry's spans.
package trace

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
)

// Headers of HTTP, in both directions, and in lower case keys of gRPC's metadata.
const (
	Header        = "X-Trace-ID"   // of everything that one request of a client leads to
	RequestHeader = "X-Request-ID" // of one request of a client: its retries are others to the client, and the same to us
)

const maxID = 64

type (
	key        struct{}
	requestKey struct{}
)

// With returns a context with the id of a trace.
func With(ctx context.Context, id string) context.Context { return context.WithValue(ctx, key{}, id) }

// WithRequest returns a context with the id of a request.
func WithRequest(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestKey{}, id)
}

// ID of the trace that ctx belongs to; empty: none.
func ID(ctx context.Context) string {
	id, _ := ctx.Value(key{}).(string)
	return id
}

// RequestID of the request that ctx belongs to; empty: none.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}

// Field is the trace's id as a log field.
func Field(ctx context.Context) zap.Field { return zap.String("traceId", ID(ctx)) }

// identify takes the id of X-Trace-ID where it stands for the trace of the W3C traceparent, else that of the traceparent, else
// that of X-Trace-ID alone, else makes one. What is malformed counts as not there: a caller's bad header must not cost it the
// request, nor reach the logs.
func identify(traceparent, id string) string {
	if !clean(id) {
		id = ""
	}
	// https://www.w3.org/TR/trace-context/#traceparent-header: version-traceid-parentid-flags
	if p := strings.Split(traceparent, "-"); len(p) >= 4 && len(p[0]) == 2 && isTraceID(p[1]) {
		if id != "" && otelID(id).String() == p[1] {
			return id
		}
		return p[1]
	}
	if id != "" {
		return id
	}
	return newID()
}

// otelID is the id that OpenTelemetry knows a trace by: the id itself where it has the form, else what it always becomes.
func otelID(id string) trace.TraceID {
	if isTraceID(id) {
		t, _ := trace.TraceIDFromHex(id) // it has just been looked at
		return t
	}
	sum := sha256.Sum256([]byte(id))
	return trace.TraceID(sum[:16])
}

func isTraceID(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 16 && strings.Trim(s, "0") != "" && strings.ToLower(s) == s
}

// clean says whether an id from outside may go into logs and headers.
func clean(id string) bool { return id != "" && len(id) <= maxID && !strings.ContainsFunc(id, notWord) }

func notWord(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
}

func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails since Go 1.24
	return hex.EncodeToString(b[:])
}
