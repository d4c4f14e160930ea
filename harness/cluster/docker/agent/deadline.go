package agent

import (
	"sync"
	"time"
)

// deadline is that of reads or of writes. Its methods are called with the condition's lock held.
type deadline struct {
	wake  *sync.Cond // whom to wake when it has come
	at    time.Time
	timer *time.Timer
}

func (d *deadline) set(t time.Time) {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.at = t; !t.IsZero() {
		d.timer = time.AfterFunc(time.Until(t), func() {
			d.wake.L.Lock()
			defer d.wake.L.Unlock()
			d.wake.Broadcast()
		})
	}
	d.wake.Broadcast()
}

func (d *deadline) over() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }
