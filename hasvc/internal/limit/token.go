package limit

import (
	"time"

	"golang.org/x/time/rate"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
)

// token is a token bucket: tokens drop into it at the rate, a burst of them fits, and each request takes one.
type token struct{ bucket *rate.Limiter }

func newToken(c config.Limit) policy {
	return token{rate.NewLimiter(rate.Limit(c.Rate), c.Burst)}
}

func (t token) take(now time.Time) (time.Duration, bool) {
	r := t.bucket.ReserveN(now, 1)
	if d := r.DelayFrom(now); d > 0 {
		r.CancelAt(now) // asking is free
		return d, false
	}
	return 0, true
}
