// Package reply writes HTTP answers: JSON, and for an error always the same: {"error", "traceId"}.
package reply

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/hasvc/gauntlet/hasvc/internal/trace"
)

// DefaultRetryAfter is what a client is told to wait when it is not known how long.
const DefaultRetryAfter = time.Second

// Problem is an error with the HTTP status that it is answered with.
type Problem struct {
	Status     int
	Message    string
	RetryAfter time.Duration // with 429 and 503; 0: DefaultRetryAfter
}

func (p *Problem) Error() string { return p.Message }

// JSON answers with a body.
func JSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client has gone: nobody is left to tell
}

// Error answers with a problem.
func Error(ctx context.Context, w http.ResponseWriter, p *Problem) {
	if p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests {
		wait := p.RetryAfter
		if wait <= 0 {
			wait = DefaultRetryAfter
		}
		// Whole seconds, never less than what is meant.
		w.Header().Set("Retry-After", strconv.FormatFloat(math.Ceil(wait.Seconds()), 'f', 0, 64))
	}
	JSON(w, p.Status, map[string]string{"error": p.Message, "traceId": trace.ID(ctx)})
}
