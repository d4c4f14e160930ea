package plane

import (
	"encoding/json"
	"time"

	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/Shopify/toxiproxy/v2/toxics"
)

// slowClose is toxiproxy's slow_close: it holds the end of a stream back, for delay ms. As it is of one stream, a client
// that has ended its own still gets the answer. The delay is counted once, whatever other toxics come and go meanwhile.
type slowClose struct {
	*strike
	delay time.Duration
	due   time.Time // zero until the stream has ended

	waiting *stream.StreamChunk
}

func parseSlowClose(attributes json.RawMessage) (func(*strike) toxics.Toxic, error) {
	var t toxics.SlowCloseToxic
	if err := attributesInto(attributes, &t); err != nil {
		return nil, err
	}
	d, err := milliseconds("delay", t.Delay, 0)
	return func(s *strike) toxics.Toxic { return &slowClose{strike: s, delay: d} }, err
}

// Pipe implements toxics.Toxic.
func (c *slowClose) Pipe(stub *toxics.ToxicStub) {
	for {
		if c.waiting == nil {
			select {
			case <-stub.Interrupt:
				return
			case c.waiting = <-stub.Input:
			}
		}
		if c.waiting == nil { // the stream has ended
			if c.due.IsZero() {
				c.due = time.Now().Add(c.delay)
				c.count(0)
			}
			if sleepUntil(c.due, stub) {
				stub.Close()
			}
			return
		}
		select {
		case stub.Output <- c.waiting:
			c.waiting = nil
		case <-stub.Interrupt:
			return
		}
	}
}

// takeHeld implements holder.
func (c *slowClose) takeHeld() *stream.StreamChunk {
	x := c.waiting
	c.waiting = nil
	return x
}
