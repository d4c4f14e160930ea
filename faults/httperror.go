package faults

import (
	"context"
	"errors"
	"fmt"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// HTTPError answers requests with an error of HTTP in the place of the server, which never sees them. Requests From -> To,
// of HTTP/1.1 and of HTTP/2 without TLS.
type HTTPError struct {
	Ends
	Chosen
	Status     int    `json:"status"`
	Path       string `json:"path,omitempty"`   // a regular expression on the path, without the query
	Method     string `json:"method,omitempty"` // likewise on the method
	Body       string `json:"body,omitempty"`
	RetryAfter string `json:"retry-after,omitempty"` // the value of that header
}

// maxReply bounds the body of an answer.
const maxReply = 4096

// Validate returns every error.
func (h *HTTPError) Validate() error {
	errs := []error{h.Ends.validate(), h.Chosen.validate(), expression("path", h.Path), expression("method", h.Method)}
	if h.Status < 400 || h.Status > 599 {
		errs = append(errs, fmt.Errorf("status %d: an error, 400 to 599", h.Status))
	}
	if len(h.Body) > maxReply {
		errs = append(errs, fmt.Errorf("body: %d bytes, at most %d", len(h.Body), maxReply))
	}
	for _, c := range h.RetryAfter {
		if c < ' ' || c > '~' {
			errs = append(errs, fmt.Errorf("retry-after %q: seconds or a date", h.RetryAfter))
			break
		}
	}
	return errors.Join(errs...)
}

// Targets are both ends.
func (h *HTTPError) Targets() []plan.Target { return h.targets() }

// ReplyLinks are the ends of the links that requests are answered on.
func (h *HTTPError) ReplyLinks() Ends { return h.Ends }

// Inject has requests answered.
func (h *HTTPError) Inject(ctx context.Context, env *Env) (*Effect, error) {
	return h.Chosen.inject(ctx, env, h.Ends, cluster.Reply{
		HTTP: &cluster.HTTPReply{Status: h.Status, Body: h.Body, RetryAfter: h.RetryAfter}, Method: h.Method, Path: h.Path,
	}, fmt.Sprintf("status %d", h.Status))
}
