// Package shed refuses what is beyond the capacity of this replica, so that what it accepts is answered as fast as ever. The
// limit of requests in hand is not configured: it follows from how long they take (failsafe-go's adaptive limiter, after TCP
// Vegas). Within it, priorities differ in how much of it they get.
package shed

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/reply"
)

const (
	// The limit is set anew after so long, when there are so many samples: often enough to be there before clients notice.
	windowLeast, windowMost, windowSamples = 100 * time.Millisecond, 2 * time.Second, 20
	// peak keeps the limit above what was in hand lately, so that the end of a burst does not lower it.
	peak = 5 * time.Second
	// lowShare is the part of the limit that requests of low priority may fill.
	lowShare = 0.7
	// highWait is how long one of high priority waits for a place. Places come free all the time, and who waits is first: where five are
	// let in at a time and each takes 200 ms, one in ten finds none within 100 ms.
	highWait = 250 * time.Millisecond
)

// failsafe's own priorities need a queue in front of the limit, which all share, and react in steps. Without a queue the
// rule is three lines, and an accepted request has waited for nobody.

// Limiter of one replica.
type Limiter struct {
	limiter adaptivelimiter.AdaptiveLimiter[any] // nil: takes everything
	shed    *prometheus.CounterVec
}

// New registers the metrics.
func New(cfg config.Config, reg prometheus.Registerer) *Limiter {
	l := &Limiter{shed: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hasvc_shed_total", Help: "Requests that were refused because there are too many.",
	}, []string{"priority"})}
	reg.MustRegister(l.shed)
	if !cfg.Shed || cfg.Defects.Has(defect.NoShed) {
		return l
	}
	l.limiter = adaptivelimiter.NewBuilder[any]().
		WithLimits(config.ShedLeast, config.ShedMost, uint(cfg.ShedFirst)).
		WithRecentWindow(windowLeast, windowMost, windowSamples).
		WithMaxLimitStabilizationWindow(peak).
		Build()
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hasvc_shed_limit", Help: "Requests that may be in hand at a time, as it is now.",
	}, func() float64 { return float64(l.limiter.Limit()) }))
	return l
}

// Run calls handle when there is a place for the request; else the error is a *reply.Problem (503).
func (l *Limiter) Run(ctx context.Context, r *http.Request, handle func() error) error {
	if l.limiter == nil {
		return handle()
	}
	p := Priority(r)
	permit, ok := l.place(ctx, p)
	if !ok {
		l.shed.WithLabelValues(p).Inc()
		return &reply.Problem{Status: http.StatusServiceUnavailable, Message: "too many requests are in hand"}
	}
	normal := false
	defer func() {
		// How long an answer took says something about the capacity; how fast an error came does not, and would pass for a
		// replica with time to spare.
		if normal {
			permit.Record()
		} else {
			permit.Drop()
		}
	}()
	err := handle()
	normal = err == nil || context.Cause(ctx) == context.DeadlineExceeded //nolint:errorlint // the cause itself
	return err
}

func (l *Limiter) place(ctx context.Context, priority string) (adaptivelimiter.Permit, bool) {
	switch priority {
	case "low":
		if float64(l.limiter.Inflight()) >= lowShare*float64(l.limiter.Limit()) {
			return nil, false
		}
	case "high":
		permit, err := l.limiter.AcquirePermitWithMaxWait(ctx, highWait)
		return permit, err == nil
	}
	return l.limiter.TryAcquirePermit()
}

// Priority of a request: high, normal or low, by X-Priority.
func Priority(r *http.Request) string {
	switch p := strings.ToLower(r.Header.Get("X-Priority")); p {
	case "high", "low":
		return p
	}
	return "normal"
}
