package health

import (
	"sync"
	"time"
)

// Pulse notices a key goroutine that is stuck: the goroutine calls Beat, and readiness asks Alive.
type Pulse struct {
	Name string
	Most time.Duration // between two beats

	mu   sync.Mutex
	last time.Time
}

// NewPulse returns a pulse that has just beaten.
func NewPulse(name string, most time.Duration) *Pulse {
	return &Pulse{Name: name, Most: most, last: time.Now()}
}

// Beat says that the goroutine goes round.
func (p *Pulse) Beat() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
}

// Silent is how long the last beat lies back, and whether that is too long.
func (p *Pulse) Silent() (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := time.Since(p.last)
	return d, d > p.Most
}
