package limit

import (
	"time"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
)

// leaky is a leaky bucket as a queue: requests go on one after the other at the rate, and a burst of them may wait.
type leaky struct {
	every time.Duration
	most  time.Duration // that a request waits
	next  time.Time     // when the next one may go on
}

func newLeaky(c config.Limit) policy {
	every := time.Duration(float64(time.Second) / c.Rate)
	return &leaky{every: every, most: time.Duration(c.Burst) * every}
}

func (l *leaky) take(now time.Time) (time.Duration, bool) {
	if l.next.Before(now) {
		l.next = now
	}
	wait := l.next.Sub(now)
	if wait > l.most {
		return wait - l.most, false
	}
	l.next = l.next.Add(l.every)
	return wait, true
}
