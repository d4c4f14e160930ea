package load

import (
	"context"
	"sort"
	"sync"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
)

// pacer is the vegeta.Pacer of a Schedule. vegeta sleeps for the time that Pace returns and cannot be woken; so Pace
// does the waiting itself, and a load of one request in ten seconds still stops at once.
type pacer struct {
	ctx     context.Context
	planned *Schedule
	start   time.Time
	alarm   *alarm
	phase   func() string

	// A request is begun, and the schedule changed, under the lock: what was begun was due before the change.
	mu      sync.Mutex
	sched   *Schedule
	changed chan struct{} // closed by the next change
	phases  []phaseFrom   // in the order of seq

	ended  time.Duration // when the end of ctx was seen
	missed int           // due before that and never sent; read when the attack is over
}

// phaseFrom says that request seq and those after it came due in a phase.
type phaseFrom struct {
	seq  uint64
	name string
}

func newPacer(ctx context.Context, s *Schedule, a *alarm, phase func() string) *pacer {
	return &pacer{ctx: ctx, planned: s, sched: s, start: time.Now(), alarm: a, phase: phase, changed: make(chan struct{})}
}

// late is how far behind the generator may be and still send, after its end, what was due before it.
const late = 100 * time.Millisecond

// Pace returns when request n is due, or says that the load is over.
func (p *pacer) Pace(_ time.Duration, n uint64) (time.Duration, bool) {
	for p.ctx.Err() == nil {
		wait, changed := p.begin(n)
		if wait <= 0 {
			return 0, false
		}
		p.alarm.wait(p.ctx, wait, changed)
	}
	return 0, p.over(n)
}

// begin begins request n if it is due, or says how long to wait, unless the schedule changes.
func (p *pacer) begin(n uint64) (wait time.Duration, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	due, ok := p.sched.Due(n)
	if !ok {
		return time.Hour, p.changed
	}
	if wait = due - time.Since(p.start); wait <= 0 {
		p.note(n)
	}
	return wait, p.changed
}

// over says whether request n is after the end. What was due before it is begun yet, if it is not too late for that.
func (p *pacer) over(n uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Since(p.start)
	if p.ended == 0 {
		p.ended = max(now, 1)
	}
	due, ok := p.sched.Due(n)
	if !ok || due >= p.ended {
		return true
	}
	if now-due > late {
		p.missed = int(p.sched.Count(p.ended) - n)
		return true
	}
	p.note(n)
	return false
}

// Rate is part of vegeta.Pacer.
func (p *pacer) Rate(t time.Duration) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sched.Rate(t)
}

// due is when a request that was begun was due.
func (p *pacer) due(n uint64) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	d, _ := p.sched.Due(n)
	return d
}

// change gives the load other rates from now on, and returns that moment with the new schedule.
func (p *pacer) change(c plan.RateChange) (time.Duration, *Schedule, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := time.Since(p.start)
	s, err := p.sched.Changed(t, p.planned, c)
	if err != nil {
		return 0, nil, err
	}
	p.sched = s
	close(p.changed)
	p.changed = make(chan struct{})
	return t, s, nil
}

func (p *pacer) progress() plan.LoadProgress {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := time.Since(p.start)
	if p.ended > 0 {
		t = p.ended // nothing is due any more
	}
	return plan.LoadProgress{At: plan.Duration(t), Due: p.sched.Count(t), Planned: p.planned.Count(t),
		Rate: p.sched.Rate(t), PlannedRate: p.planned.Rate(t), Ended: p.ctx.Err() != nil}
}

// note keeps the phase in which request n came due.
func (p *pacer) note(n uint64) {
	name := p.phase()
	if k := len(p.phases); k == 0 || p.phases[k-1].name != name {
		p.phases = append(p.phases, phaseFrom{n, name})
	}
}

// phaseOf is the phase in which request n came due.
func (p *pacer) phaseOf(n uint64) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := sort.Search(len(p.phases), func(i int) bool { return p.phases[i].seq > n })
	if i == 0 {
		return ""
	}
	return p.phases[i-1].name
}
