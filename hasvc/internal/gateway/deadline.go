package gateway

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/hasvc/gauntlet/hasvc/internal/defect"
)

// timeoutHeader is the time that the client gives a request, in whole milliseconds.
const timeoutHeader = "Request-Timeout"

// deadline returns the context that everything done for the request runs under: the client's time, at most the configured
// one. gRPC carries it on.
func (s *Server) deadline(r *http.Request) (context.Context, context.CancelFunc, error) {
	if s.cfg.Defects.Has(defect.NoDeadline) {
		return context.WithoutCancel(r.Context()), func() {}, nil
	}
	d := s.cfg.Deadline
	if v := r.Header.Get(timeoutHeader); v != "" {
		ms, err := strconv.ParseUint(v, 10, 31)
		if err != nil {
			return nil, nil, problem(http.StatusBadRequest, timeoutHeader+" is a number of milliseconds")
		}
		if ms == 0 {
			return nil, nil, problem(http.StatusGatewayTimeout, "the deadline has passed")
		}
		d = min(d, time.Duration(ms)*time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(r.Context(), d)
	return ctx, cancel, nil
}
