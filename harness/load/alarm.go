package load

import (
	"context"
	"time"
)

// alarm wakes a pacer at a moment.
type alarm struct {
	timer *time.Timer
	sharp *ticker // nil where there is none: the timer does the work alone
}

// plainAlarm is a timer of the runtime. It is up to a millisecond late: an idle runtime sleeps in epoll_wait, whose
// timeout it rounds up to whole milliseconds.
func plainAlarm() *alarm {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &alarm{timer: t}
}

// sharpAlarm is late by tens of microseconds, where the system has the means. The timer stays beside it: a busy runtime
// looks at its timers more often than at its descriptors.
func sharpAlarm() *alarm {
	a := plainAlarm()
	a.sharp = newTicker()
	return a
}

// wait returns when d has passed, ctx ended or other was closed, or before: an alarm that was set earlier may still ring.
func (a *alarm) wait(ctx context.Context, d time.Duration, other <-chan struct{}) {
	var rang <-chan struct{}
	if a.sharp != nil && a.sharp.set(d) {
		rang = a.sharp.rang
	}
	a.timer.Reset(d)
	select {
	case <-a.timer.C:
	case <-rang:
	case <-ctx.Done():
	case <-other:
	}
	a.timer.Stop()
}

func (a *alarm) close() {
	if a.sharp != nil {
		a.sharp.close()
	}
}
