package plane

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/Shopify/toxiproxy/v2/toxics"
)

// latency is toxiproxy's toxic of that name, with its attributes, its buffer and its meaning. Three things are its own.
// The jitter is a function of the seed (toxiproxy draws from a source that cannot be seeded). A chunk that it holds when
// the chain of toxics changes stays held (toxiproxy's lets it go early). And when it is taken off, what it holds leaves
// when it is due, as on a path that has become short, and not all at once: the toxic stays until then, and lets pass
// what came later.
type latency struct {
	toxics.LatencyToxic
	*strike
	n uint64 // chunks that came

	waiting *stream.StreamChunk
	delay   time.Duration // of the one that waits

	once   sync.Once
	healed chan struct{}
	at     time.Time // when; valid once healed is closed
	left   bool
}

func parseLatency(attributes json.RawMessage) (func(*strike) toxics.Toxic, error) {
	var t toxics.LatencyToxic
	if err := attributesInto(attributes, &t); err != nil {
		return nil, err
	}
	if most := maxDelay.Milliseconds(); t.Latency < 0 || t.Jitter < 0 || t.Latency > most || t.Jitter > most {
		return nil, fmt.Errorf("latency %d ms and jitter %d ms must be between 0 and %d", t.Latency, t.Jitter, most)
	}
	if t.Jitter > t.Latency {
		return nil, fmt.Errorf("jitter %d ms is above the latency of %d ms: some data would not be held back at all", t.Jitter, t.Latency)
	}
	return func(s *strike) toxics.Toxic { return newLatency(t, s) }, nil
}

func newLatency(t toxics.LatencyToxic, s *strike) *latency {
	return &latency{LatencyToxic: t, strike: s, healed: make(chan struct{})}
}

// Pipe implements toxics.Toxic.
func (l *latency) Pipe(stub *toxics.ToxicStub) {
	for {
		if l.waiting == nil && !l.receive(stub) {
			return
		}
		if !l.wait(stub) {
			return
		}
	}
}

// receive waits for a chunk, and returns false when there is none to come or when it was interrupted.
func (l *latency) receive(stub *toxics.ToxicStub) bool {
	healed := l.healed
	if l.left {
		healed = nil
	}
	for {
		select {
		case <-stub.Interrupt:
			return false
		case c := <-stub.Input:
			if c == nil {
				stub.Close()
				return false
			}
			l.count(len(c.Data))
			l.waiting, l.delay = c, l.draw()
			if l.isHealed() && c.Timestamp.After(l.at) {
				l.delay = 0
			}
			return true
		case <-healed:
			if len(stub.Input) == 0 { // nothing is held any more
				l.leave()
				l.left, healed = true, nil
			}
		}
	}
}

// wait passes the chunk on when it is due, and returns false when it was interrupted before.
func (l *latency) wait(stub *toxics.ToxicStub) bool {
	c := l.waiting
	sleep := l.delay - time.Since(c.Timestamp)
	if sleep > 0 {
		timer := time.NewTimer(sleep)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-stub.Interrupt:
			return false
		}
	}
	late := *c
	late.Timestamp = c.Timestamp.Add(max(l.delay, 0)) // toxics that follow count from here
	select {
	case stub.Output <- &late:
		l.waiting = nil
		return true
	case <-stub.Interrupt:
		return false
	}
}

func (l *latency) draw() time.Duration {
	d := l.Latency
	if l.Jitter > 0 {
		d += int64(unit(mix(l.seed, l.n))*float64(2*l.Jitter)) - l.Jitter
	}
	l.n++
	return time.Duration(d) * time.Millisecond
}

func (l *latency) isHealed() bool {
	select {
	case <-l.healed:
		return true
	default:
		return false
	}
}

// heal implements healer.
func (l *latency) heal() bool {
	l.once.Do(func() {
		l.at = time.Now()
		close(l.healed)
	})
	return true
}

// takeHeld implements holder.
func (l *latency) takeHeld() *stream.StreamChunk {
	c := l.waiting
	l.waiting = nil
	return c
}
