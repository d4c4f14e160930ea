// Package health answers whether a replica is alive and whether it is ready. Liveness looks at nothing but the process, or
// the loss of a dependency would get every replica restarted. Readiness asks every dependency, with a deadline.
package health

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hasvc/gauntlet/hasvc/internal/defect"
)

// Dependency is asked at each readiness probe.
type Dependency struct {
	Name string // "etcd" is reported as etcd_ping_ms
	Ping func(ctx context.Context) error
	// Optional dependencies are measured and reported but do not make the replica unready: the gateway goes on with the
	// endpoints it knows while the registry is away.
	Optional bool
}

// Checker of one replica. The fields are set before it is used.
type Checker struct {
	Timeout      time.Duration // of a probe
	Dependencies []Dependency
	Pulses       []*Pulse
	Defects      defect.Set

	started  atomic.Bool
	once     sync.Once
	draining context.Context //nolint:containedctx // it is the replica's life, not a probe's
	drain    context.CancelFunc
}

// Started says that the replica has begun to serve.
func (c *Checker) Started() { c.started.Store(true) }

// Drain makes the replica unready for good, and ends the probes under way.
func (c *Checker) Drain() {
	c.life()
	c.drain()
}

// life ends when the replica drains.
func (c *Checker) life() context.Context {
	c.once.Do(func() { c.draining, c.drain = context.WithCancel(context.Background()) })
	return c.draining
}

// Report is the outcome of a probe.
type Report struct {
	OK       bool
	Status   string
	Time     time.Time
	PingMS   map[string]float64 // dependency -> latency in milliseconds
	Problems map[string]string  // dependency or goroutine -> what is wrong
}

// Ready probes the dependencies, all at once. That the replica drains is said without them: who waits for one that hangs would go on
// sending requests, for longer perhaps than the replica drains.
func (c *Checker) Ready(ctx context.Context) Report {
	if c.Defects.Has(defect.ReadyLies) {
		return Report{OK: true, Status: "ready", Time: time.Now()}
	}
	life := c.life()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(life, cancel)()
	r := Report{Time: time.Now()}
	if life.Err() == nil {
		r = c.probe(ctx)
	}
	switch {
	case life.Err() != nil:
		r = Report{Status: "draining", Time: r.Time}
	case !c.started.Load():
		r.OK, r.Status = false, "starting"
	case !r.OK:
		r.Status = "not ready"
	default:
		r.Status = "ready"
	}
	return r
}

// Live says that the process answers.
func (c *Checker) Live(ctx context.Context) Report {
	if c.Defects.Has(defect.LiveChecksDeps) {
		r := c.probe(ctx)
		if r.Status = "alive"; !r.OK {
			r.Status = "dead"
		}
		return r
	}
	return Report{OK: true, Status: "alive", Time: time.Now()}
}

func (c *Checker) probe(ctx context.Context) Report {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	r := Report{OK: true, Time: time.Now(), PingMS: map[string]float64{}, Problems: map[string]string{}}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, d := range c.Dependencies {
		wg.Go(func() {
			begin := time.Now()
			err := d.Ping(ctx)
			mu.Lock()
			defer mu.Unlock()
			r.PingMS[d.Name] = float64(time.Since(begin).Microseconds()) / 1000
			if err != nil {
				r.Problems[d.Name] = err.Error()
				r.OK = r.OK && d.Optional
			}
		})
	}
	wg.Wait()
	for _, p := range c.Pulses {
		if silent, stuck := p.Silent(); stuck {
			r.Problems[p.Name] = fmt.Sprintf("has not gone round for %s", silent.Round(time.Millisecond))
			r.OK = false
		}
	}
	return r
}
