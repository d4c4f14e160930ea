package gateway

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/hasvc/gauntlet/hasvc/internal/defect"
)

// timeoutHeader is the time that the client gives a request, in whole milliseconds.
const timeoutHeader = "Request-Timeout"

var errLate = problem(http.StatusGatewayTimeout, "the deadline has passed")

// deadline returns the context that everything done for the request runs under. gRPC carries its deadline on.
func (s *Server) deadline(r *http.Request) (context.Context, context.CancelFunc, error) {
	if s.cfg.Defects.Has(defect.NoDeadline) {
		return context.WithoutCancel(r.Context()), func() {}, nil
	}
	d, err := s.timeOf(r)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), d)
	return ctx, cancel, nil
}

// timeOf is the time that a request has, or a stream to begin: the client's, at most the configured one.
func (s *Server) timeOf(r *http.Request) (time.Duration, error) {
	if s.cfg.Defects.Has(defect.NoDeadline) {
		return math.MaxInt64, nil
	}
	v := r.Header.Get(timeoutHeader)
	if v == "" {
		return s.cfg.Deadline, nil
	}
	ms, err := strconv.ParseUint(v, 10, 31)
	switch {
	case err != nil:
		return 0, problem(http.StatusBadRequest, timeoutHeader+" is a number of milliseconds")
	case ms == 0:
		return 0, errLate
	}
	return min(s.cfg.Deadline, time.Duration(ms)*time.Millisecond), nil
}
