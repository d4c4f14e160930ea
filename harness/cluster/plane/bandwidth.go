package plane

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/Shopify/toxiproxy/v2/toxics"
)

// bandwidth is toxiproxy's toxic of that name: rate is in KB (1,000 bytes) a second, of each connection. What differs:
// a rate of 0, which stalls for ever there, is refused; data comes in pieces of 10 ms, not of 100; and a chunk that it
// holds when another toxic comes or goes stays held.
type bandwidth struct {
	*strike
	rate int64 // bytes a second

	waiting *stream.StreamChunk // what is left of it
	free    time.Time           // when what was passed on would have got through
}

const (
	maxRate       = 100_000_000 // KB/s
	bandwidthStep = 10 * time.Millisecond
)

func parseBandwidth(attributes json.RawMessage) (func(*strike) toxics.Toxic, error) {
	var t toxics.BandwidthToxic
	if err := attributesInto(attributes, &t); err != nil {
		return nil, err
	}
	if t.Rate < 1 || t.Rate > maxRate {
		return nil, fmt.Errorf("rate %d KB/s must be between 1 and %d; to let nothing through, use timeout", t.Rate, maxRate)
	}
	return func(s *strike) toxics.Toxic { return &bandwidth{strike: s, rate: 1000 * t.Rate} }, nil
}

// Pipe implements toxics.Toxic.
func (b *bandwidth) Pipe(stub *toxics.ToxicStub) {
	for {
		if b.waiting == nil {
			select {
			case <-stub.Interrupt:
				return
			case c := <-stub.Input:
				if c == nil {
					stub.Close()
					return
				}
				b.count(len(c.Data))
				b.waiting = c
				if c.Timestamp.After(b.free) { // it was idle until then
					b.free = c.Timestamp
				}
			}
		}
		if !b.passOn(stub) {
			return
		}
	}
}

// passOn lets the next piece go when it has got through, and returns false when it was interrupted before.
func (b *bandwidth) passOn(stub *toxics.ToxicStub) bool {
	n := int(min(int64(len(b.waiting.Data)), max(1, b.rate*int64(bandwidthStep)/int64(time.Second))))
	due := b.free.Add(time.Duration(n) * time.Second / time.Duration(b.rate))
	if !sleepUntil(due, stub) {
		return false
	}
	select {
	case stub.Output <- &stream.StreamChunk{Data: b.waiting.Data[:n:n], Timestamp: due}:
	case <-stub.Interrupt:
		return false
	}
	b.free = due
	if rest := b.waiting.Data[n:]; len(rest) > 0 {
		b.waiting = &stream.StreamChunk{Data: rest, Timestamp: b.waiting.Timestamp}
	} else {
		b.waiting = nil
	}
	return true
}

// takeHeld implements holder.
func (b *bandwidth) takeHeld() *stream.StreamChunk {
	c := b.waiting
	b.waiting = nil
	return c
}
