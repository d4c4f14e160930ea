package gateway

import (
	"encoding/json"
	"errors"
	"net/http"

	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/logs"
	"github.com/hasvc/gauntlet/hasvc/internal/trace"
)

// problem is an error with the HTTP status that it is answered with.
type problem struct {
	status  int
	message string
}

func (p *problem) Error() string { return p.message }

// statusClientGone is answered to a client that has closed its connection: for the logs only (nginx's number).
const statusClientGone = 499

// retryAfter is what a client is told to wait when a dependency is away, in seconds.
const retryAfter = "1"

// httpStatus of an error: that of a problem, else the one that stands for the gRPC code.
func httpStatus(err error) (int, string) {
	var p *problem
	if errors.As(err, &p) {
		return p.status, p.message
	}
	st := status.Convert(err)
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

// fail answers with JSON: error and traceId.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	code, message := httpStatus(err)
	if code >= http.StatusInternalServerError {
		logs.From(r.Context()).Warn("request failed", zap.String("method", r.Method), zap.String("path", r.URL.Path), zap.Int("status", code), zap.Error(err))
	}
	if code == http.StatusServiceUnavailable || code == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", retryAfter)
	}
	reply(w, code, map[string]string{"error": message, "traceId": trace.ID(r.Context())})
}

func reply(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the client has gone: nobody is left to tell
}
