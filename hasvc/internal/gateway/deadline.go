package gateway

import (
	"context"
	"math"
	"net/http"
	"time"

	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/requests"
)

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
	return requests.Time(r, s.cfg.Deadline)
}
