package limit

import (
	"math"
	"time"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
)

// windowOf a limit is about a second, as long as a whole number of requests takes, or as one takes at rates below one; allowed is
// how many pass in it.
func windowOf(c config.Limit) (window time.Duration, allowed float64) {
	allowed = max(1, math.Floor(c.Rate))
	return time.Duration(allowed / c.Rate * float64(time.Second)), allowed
}

// counter counts in fixed windows.
type counter struct {
	window  time.Duration
	allowed float64
	begin   time.Time
	n       float64
}

func newCounter(c config.Limit) policy {
	window, allowed := windowOf(c)
	return &counter{window: window, allowed: allowed}
}

func (c *counter) take(now time.Time) (time.Duration, bool) {
	// Truncate leaves the wall clock, which may be set back.
	if passed := now.Sub(c.begin); passed < 0 || passed >= c.window {
		c.begin, c.n = now.Truncate(c.window), 0
	}
	if c.n >= c.allowed {
		return c.begin.Add(c.window).Sub(now), false
	}
	c.n++
	return 0, true
}
