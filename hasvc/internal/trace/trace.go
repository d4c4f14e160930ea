// Package trace carries the id that ties the log lines of one request together, over HTTP and gRPC.
package trace

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"strings"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// Header is the HTTP header with the id, in both directions, and in lower case the gRPC metadata key.
const Header = "X-Trace-ID"

const maxID = 64

type key struct{}

// With returns a context with the id.
func With(ctx context.Context, id string) context.Context { return context.WithValue(ctx, key{}, id) }

// ID of the request that ctx belongs to; empty: none.
func ID(ctx context.Context) string {
	id, _ := ctx.Value(key{}).(string)
	return id
}

// Field is the id as a log field.
func Field(ctx context.Context) zap.Field { return zap.String("traceId", ID(ctx)) }

// FromRequest takes the id of a W3C traceparent, else that of X-Trace-ID, else makes one. What is malformed counts as
// not there: a caller's bad header must not cost it the request, nor reach the logs.
func FromRequest(r *http.Request) string {
	// https://www.w3.org/TR/trace-context/#traceparent-header: version-traceid-parentid-flags
	if p := strings.Split(r.Header.Get("Traceparent"), "-"); len(p) >= 4 && len(p[0]) == 2 && isTraceID(p[1]) {
		return p[1]
	}
	if id := r.Header.Get(Header); id != "" && len(id) <= maxID && !strings.ContainsFunc(id, notWord) {
		return id
	}
	return newID()
}

func isTraceID(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 16 && strings.Trim(s, "0") != "" && strings.ToLower(s) == s
}

func notWord(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
}

func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails since Go 1.24
	return hex.EncodeToString(b[:])
}

// UnaryClient sends the id along.
func UnaryClient(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if id := ID(ctx); id != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, strings.ToLower(Header), id)
	}
	return invoke(ctx, method, req, reply, cc, opts...)
}

// UnaryServer takes it from the caller, or makes one.
func UnaryServer(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	id := ""
	if v := metadata.ValueFromIncomingContext(ctx, strings.ToLower(Header)); len(v) > 0 && len(v[0]) <= maxID && !strings.ContainsFunc(v[0], notWord) {
		id = v[0]
	}
	if id == "" {
		id = newID()
	}
	return handle(With(ctx, id), req)
}
