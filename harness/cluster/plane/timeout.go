package plane

import (
	"encoding/json"
	"sync/atomic"

	"github.com/Shopify/toxiproxy/v2/toxics"
)

// timeout is toxiproxy's toxic of that name: it discards all data, and closes the connection after timeout ms, counted
// from when the toxic was put on it (or it was made); with 0 it does not. Taking the toxic off closes the connection,
// since its data is lost: packets dropped by a rule are what TCP survives. While another timeout holds on the same stream
// nobody sees the hole, and that one closes it: so one takes the other's place (toxiproxyapi's change).
//
// It acts by the clock and not by the stream, so that a peer that does not read delays nothing.
type timeout struct {
	*strike
	off atomic.Bool
}

func parseTimeout(attributes json.RawMessage) (func(*strike) toxics.Toxic, error) {
	var t toxics.TimeoutToxic
	if err := attributesInto(attributes, &t); err != nil {
		return nil, err
	}
	d, err := milliseconds("timeout", t.Timeout, 0)
	return func(s *strike) toxics.Toxic {
		t := &timeout{strike: s}
		if d > 0 {
			s.pipe.ends.after(d, func() {
				if !t.off.Load() {
					s.count(0)
					s.pipe.ends.close()
				}
			})
		}
		return t
	}, err
}

// Pipe implements toxics.Toxic.
func (t *timeout) Pipe(stub *toxics.ToxicStub) {
	for {
		select {
		case <-stub.Interrupt:
			return
		case c := <-stub.Input:
			if c == nil {
				// A stream with a hole must not pass for one that has ended: that closes both.
				if t.pipe.lost.Load() {
					t.cutLater()
				}
				stub.Close()
				return
			}
			t.pipe.lost.Store(true)
			t.count(len(c.Data))
		}
	}
}

// heal implements healer.
func (t *timeout) heal() bool {
	t.off.Store(true)
	if t.pipe.stage(func(s *stage) bool { return s.of != t.of && s.of.kind == t.of.kind }) != nil {
		return false
	}
	t.pipe.ends.close()
	return true
}
