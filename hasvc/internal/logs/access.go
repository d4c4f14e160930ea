package logs

import (
	"context"
	"net/http"
	"path"
	"strings"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/trace"
)

// The lines of the access log. A request has the first, and then one of the others; with neither the replica was killed.
const (
	accepted = "accepted" // its handling begins
	done     = "done"     // its answer was written, whatever it says
	aborted  = "aborted"  // its handling ended without an answer
)

// Access is the access log. Whatever a handler logs by From has the request's ids too.
type Access struct {
	Log     *zap.Logger
	Defects defect.Set
}

// request is one on its way.
type request struct {
	log   *zap.Logger
	begin time.Time
}

// Of is the log of the request that ctx belongs to, with its ids.
func (a Access) Of(ctx context.Context) *zap.Logger {
	ids := []zap.Field{zap.String("requestId", trace.RequestID(ctx))}
	if !a.Defects.Has(defect.LogNoTrace) {
		ids = append(ids, trace.Field(ctx))
	}
	return a.Log.With(ids...)
}

func (a Access) begin(ctx context.Context, method, route string) (context.Context, request) {
	log := a.Of(ctx)
	r := request{log: log.With(zap.String("method", method), zap.String("route", route)), begin: time.Now()}
	r.log.Info(accepted)
	return With(ctx, log), r
}

func (r request) done(outcome zap.Field) {
	r.log.Info(done, outcome, zap.Float64("seconds", time.Since(r.begin).Seconds()))
}

func (r request) aborted(why string) {
	r.log.Info(aborted, zap.String("error", why), zap.Float64("seconds", time.Since(r.begin).Seconds()))
}

// HTTP logs the requests of a route. It stands outside of everything else that handles them, but inside of the tracer, which
// knows the ids; and tells the client both.
func (a Access) HTTP(route string, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(trace.Header, trace.ID(r.Context()))
		w.Header().Set(trace.RequestHeader, trace.RequestID(r.Context()))
		ctx, req := a.begin(r.Context(), r.Method, route)
		seen := &seen{ResponseWriter: w, status: http.StatusOK}
		ended := false
		defer func() {
			switch {
			case !ended:
				req.aborted("the handler gave up")
			case r.Context().Err() != nil:
				req.aborted("the client has gone, or its connection was closed")
			default:
				req.done(zap.Int("status", seen.status))
			}
		}()
		next(seen, r.WithContext(ctx))
		ended = true
	})
}

// seen is a response that remembers its status.
type seen struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (s *seen) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (s *seen) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// Unary logs the calls of a gRPC server.
func (a Access) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (resp any, err error) {
	if IsProbe(info.FullMethod) {
		return handle(ctx, req)
	}
	ctx, r := a.begin(ctx, info.FullMethod, path.Base(info.FullMethod))
	ended := false
	defer func() { r.answered(ended, err) }()
	resp, err = handle(ctx, req)
	ended = true
	return resp, err
}

// Stream logs the streams of a gRPC server.
func (a Access) Stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	if IsProbe(info.FullMethod) {
		return handle(srv, ss)
	}
	ctx, r := a.begin(ss.Context(), info.FullMethod, path.Base(info.FullMethod))
	ended := false
	defer func() { r.answered(ended, err) }()
	err = handle(srv, withContext{ss, ctx})
	ended = true
	return err
}

func (r request) answered(ended bool, err error) {
	code := status.Code(err)
	switch {
	case !ended:
		r.aborted("the handler panicked")
	case code == codes.Canceled:
		r.aborted("the caller has gone, or its connection was closed")
	default:
		r.done(zap.Stringer("code", code))
	}
}

// IsProbe says whether a method is a health check: asked so often, and for so little, that it is not logged, and takes no place.
func IsProbe(method string) bool {
	return strings.HasPrefix(method, "/"+grpc_health_v1.Health_ServiceDesc.ServiceName+"/")
}

// withContext is a stream with another context.
type withContext struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s withContext) Context() context.Context { return s.ctx }
