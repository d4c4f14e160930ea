package plane

import (
	"encoding/json"
	"sync/atomic"

	"github.com/Shopify/toxiproxy/v2/toxics"
)

// resetPeer is toxiproxy's reset_peer: it resets the connection at both ends after timeout ms, and lets no data pass
// until then. What differs: the time is counted from when the toxic was put on the connection (or it was made), so that
// idle and live connections are reset too; and data is held, not discarded, so that a connection from which it is taken
// off in time goes on.
type resetPeer struct {
	*strike
	off atomic.Bool
}

func parseResetPeer(attributes json.RawMessage) (func(*strike) toxics.Toxic, error) {
	var t toxics.ResetToxic
	if err := attributesInto(attributes, &t); err != nil {
		return nil, err
	}
	d, err := milliseconds("timeout", t.Timeout, 0)
	return func(s *strike) toxics.Toxic {
		r := &resetPeer{strike: s}
		s.pipe.ends.after(d, func() {
			if !r.off.Load() {
				s.count(0)
				s.pipe.ends.reset()
			}
		})
		return r
	}, err
}

// Pipe implements toxics.Toxic.
func (r *resetPeer) Pipe(stub *toxics.ToxicStub) { <-stub.Interrupt }

// heal implements healer.
func (r *resetPeer) heal() bool {
	r.off.Store(true)
	return false
}
