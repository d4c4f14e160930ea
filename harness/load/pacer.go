package load

import (
	"context"
	"sort"
	"sync"
	"time"
)

// pacer is the vegeta.Pacer of a Schedule. vegeta sleeps for the time that Pace returns and cannot be woken; so Pace
// does the waiting itself, and a load of one request in ten seconds still stops at once.
type pacer struct {
	ctx   context.Context
	sched *Schedule
	start time.Time
	alarm *alarm
	phase func() string

	mu     sync.Mutex
	phases []phaseFrom // in the order of seq

	ended  time.Duration // when the end of ctx was seen
	missed int           // due before that and never sent; read when the attack is over
}

// phaseFrom says that request seq and those after it came due in a phase.
type phaseFrom struct {
	seq  uint64
	name string
}

func newPacer(ctx context.Context, s *Schedule, a *alarm, phase func() string) *pacer {
	return &pacer{ctx: ctx, sched: s, start: time.Now(), alarm: a, phase: phase}
}

// late is how far behind the generator may be and still send, after its end, what was due before it.
const late = 100 * time.Millisecond

// Pace returns when request n is due, or says that the load is over.
func (p *pacer) Pace(_ time.Duration, n uint64) (time.Duration, bool) {
	due, ok := p.sched.Due(n)
	if !ok {
		<-p.ctx.Done()
		return 0, true
	}
	for wait := time.Until(p.start.Add(due)); wait > 0 && p.ctx.Err() == nil; wait = time.Until(p.start.Add(due)) {
		p.alarm.wait(p.ctx, wait)
	}
	if p.ctx.Err() != nil {
		now := time.Since(p.start)
		if p.ended == 0 {
			p.ended = max(now, 1)
		}
		if due >= p.ended {
			return 0, true
		}
		if now-due > late {
			p.missed = int(p.sched.Count(p.ended) - n)
			return 0, true
		}
	}
	p.note(n)
	return 0, false
}

// Rate is part of vegeta.Pacer.
func (p *pacer) Rate(t time.Duration) float64 { return p.sched.Rate(t) }

func (p *pacer) note(n uint64) {
	name := p.phase()
	if k := len(p.phases); k > 0 && p.phases[k-1].name == name { // only Pace appends, so it may read without the lock
		return
	}
	p.mu.Lock()
	p.phases = append(p.phases, phaseFrom{n, name})
	p.mu.Unlock()
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
