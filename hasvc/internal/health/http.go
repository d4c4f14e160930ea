package health

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Routes adds /healthz (liveness) and /readyz, also as /ready. They answer 200 or 503 with JSON: status, timestamp, NAME_ping_ms
// for each dependency, and problems.
func (c *Checker) Routes(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", answer(c.Live))
	mux.HandleFunc("GET /readyz", answer(c.Ready))
	mux.HandleFunc("GET /ready", answer(c.Ready))
}

func answer(probe func(context.Context) Report) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		report := probe(r.Context())
		body := map[string]any{"status": report.Status, "timestamp": report.Time.UTC().Format(time.RFC3339Nano)}
		for name, ms := range report.PingMS {
			body[name+"_ping_ms"] = ms
		}
		if len(report.Problems) > 0 {
			body["problems"] = report.Problems
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if !report.OK {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(body) // the prober has gone: nobody is left to tell
	}
}
