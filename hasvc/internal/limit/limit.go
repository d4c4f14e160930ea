// Package limit bounds what one client may ask of one route, in one of four ways. They differ in what they do with a burst:
// counter forgets all at the end of each second, so that twice the rate passes around it; sliding weighs the second before
// as well; token saves up what was not used; leaky lets requests wait for their turn, and so lets none pass faster than the
// rate.
package limit

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/lru"
	"github.com/hasvc/gauntlet/hasvc/internal/reply"
)

// policy decides about the requests of one client to one route.
type policy interface {
	// take says whether a request may go on, and after how long; if not, when it would make sense to ask again.
	take(now time.Time) (wait time.Duration, ok bool)
}

// The policies, by the words of HASVC_LIMIT.
var policies = map[string]func(config.Limit) policy{
	"counter": newCounter,
	"sliding": newSliding,
	"token":   newToken,
	"leaky":   newLeaky,
}

// Limiter keeps a policy for each client and route.
type Limiter struct {
	cfg     config.Limit
	make    func(config.Limit) policy // nil: no limit
	limited *prometheus.CounterVec

	mu     sync.Mutex
	asking *lru.Map[asker, policy]
}

type asker struct{ client, route string }

// New registers the counter of refused requests.
func New(cfg config.Config, reg prometheus.Registerer) *Limiter {
	l := &Limiter{cfg: cfg.Limit, make: policies[cfg.Limit.Kind], limited: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hasvc_limited_total", Help: "Requests that were refused because their client asks too much.",
	}, []string{"route", "kind"})}
	if cfg.Defects.Has(defect.NoLimit) {
		l.make = nil
	}
	// Clients name themselves: a map without a bound would be theirs to fill.
	l.asking = lru.New[asker, policy](max(cfg.Limit.Clients, 1))
	reg.MustRegister(l.limited)
	return l
}

// Wait returns when the request may go on. The error is a *reply.Problem (429), or that of ctx.
func (l *Limiter) Wait(ctx context.Context, r *http.Request, route string) error {
	if l.make == nil {
		return nil
	}
	wait, ok := l.take(asker{Client(r), route}, time.Now())
	if !ok {
		l.limited.WithLabelValues(route, l.cfg.Kind).Inc()
		return &reply.Problem{Status: http.StatusTooManyRequests, Message: "this client asks too much", RetryAfter: wait}
	}
	if wait <= 0 {
		return nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *Limiter) take(a asker, now time.Time) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, ok := l.asking.Get(a)
	if !ok {
		p = l.make(l.cfg)
		l.asking.Put(a, p)
	}
	return p.take(now)
}

// Client is who asks: X-Client-ID, which stands for what a real service takes from the client's credentials, else the
// address that the request came from.
func Client(r *http.Request) string {
	const most = 64
	if id := r.Header.Get("X-Client-ID"); id != "" {
		return id[:min(len(id), most)]
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
