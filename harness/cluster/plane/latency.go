package plane

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/Shopify/toxiproxy/v2/toxics"
)

// latency is toxiproxy's toxic of that name, with its attributes, its buffer and its meaning. Two things are its own:
// the jitter is a function of the seed (toxiproxy draws from a source that cannot be seeded), and a chunk that it
// holds when the chain of toxics changes stays held (toxiproxy's lets it go early).
type latency struct {
	toxics.LatencyToxic
	seed uint64
	n    uint64 // chunks that came

	waiting *stream.StreamChunk
	delay   time.Duration // of the one that waits
}

func parseLatency(attributes json.RawMessage) (func(uint64) toxics.Toxic, error) {
	var t toxics.LatencyToxic
	if err := attributesInto(attributes, &t); err != nil {
		return nil, err
	}
	if most := maxDelay.Milliseconds(); t.Latency < 0 || t.Jitter < 0 || t.Latency > most || t.Jitter > most {
		return nil, fmt.Errorf("latency %d ms and jitter %d ms must be between 0 and %d", t.Latency, t.Jitter, most)
	}
	return func(seed uint64) toxics.Toxic { return &latency{LatencyToxic: t, seed: seed} }, nil
}

// Pipe implements toxics.Toxic.
func (l *latency) Pipe(stub *toxics.ToxicStub) {
	for {
		if l.waiting == nil {
			select {
			case <-stub.Interrupt:
				return
			case c := <-stub.Input:
				if c == nil {
					stub.Close()
					return
				}
				l.waiting, l.delay = c, l.draw()
			}
		}
		if !l.wait(stub) {
			return
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

// takeHeld implements holder.
func (l *latency) takeHeld() *stream.StreamChunk {
	c := l.waiting
	l.waiting = nil
	return c
}
