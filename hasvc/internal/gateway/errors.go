package gateway

import (
	"errors"
	"net/http"

	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/logs"
	"github.com/hasvc/gauntlet/hasvc/internal/reply"
	"github.com/hasvc/gauntlet/hasvc/internal/requests"
)

// problem is an error that is answered with a status.
func problem(status int, message string) error {
	return &reply.Problem{Status: status, Message: message}
}

// statusClientGone is answered to a client that has closed its connection: for the logs only (nginx's number).
const statusClientGone = 499

// asProblem of an error: itself, else with the status that stands for the gRPC code.
func asProblem(err error) *reply.Problem {
	var p *reply.Problem
	if errors.As(err, &p) {
		return p
	}
	status, message := httpStatus(err)
	return &reply.Problem{Status: status, Message: message}
}

func httpStatus(err error) (int, string) {
	st, ok := status.FromError(err)
	if !ok {
		st = status.FromContextError(err) // of a wait before the call
	}
	switch st.Code() {
	case codes.InvalidArgument:
		return http.StatusBadRequest, st.Message()
	case codes.NotFound:
		return http.StatusNotFound, st.Message()
	case codes.Aborted, codes.AlreadyExists, codes.FailedPrecondition:
		return http.StatusConflict, st.Message()
	case codes.Unavailable:
		return http.StatusServiceUnavailable, "orders is away: " + st.Message()
	case codes.ResourceExhausted:
		return http.StatusTooManyRequests, st.Message()
	case codes.DeadlineExceeded:
		return http.StatusGatewayTimeout, "the deadline has passed"
	case codes.Unimplemented:
		return http.StatusNotImplemented, st.Message()
	case codes.Canceled:
		return statusClientGone, "the client has gone"
	}
	return http.StatusInternalServerError, "internal error: " + st.Message()
}

// fail answers with JSON: error and traceId. An answer that has begun cannot be taken back: its connection is cut, or the
// client would take what it has for the whole.
func (s *Server) fail(w *requests.Counted, r *http.Request, err error) {
	p := asProblem(err)
	if p.Status >= http.StatusInternalServerError {
		logs.From(r.Context()).Warn("request failed", zap.String("method", r.Method), zap.String("path", r.URL.Path), zap.Int("status", p.Status), zap.Error(err))
	}
	if w.Wrote {
		panic(http.ErrAbortHandler)
	}
	reply.Error(r.Context(), w, p)
}
