package plane

import (
	"encoding/json"
	"math"

	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/Shopify/toxiproxy/v2/toxics"
)

// limitData is toxiproxy's limit_data: it lets so many bytes of a stream pass, counted from when the toxic was put on the
// connection (or it was made), and then closes the connection. The bytes that it let pass are delivered.
type limitData struct {
	*strike
	left int64

	waiting *stream.StreamChunk
}

func parseLimitData(attributes json.RawMessage) (func(*strike) toxics.Toxic, error) {
	var t toxics.LimitDataToxic
	if err := attributesInto(attributes, &t); err != nil {
		return nil, err
	}
	if t.Bytes < 0 {
		return nil, attributeError("bytes", t.Bytes, 0, math.MaxInt64, "bytes")
	}
	return func(s *strike) toxics.Toxic { return &limitData{strike: s, left: t.Bytes} }, nil
}

// Pipe implements toxics.Toxic.
func (l *limitData) Pipe(stub *toxics.ToxicStub) {
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
				l.waiting = c
			}
		}
		n := min(int64(len(l.waiting.Data)), l.left)
		if n > 0 {
			select {
			case stub.Output <- &stream.StreamChunk{Data: l.waiting.Data[:n:n], Timestamp: l.waiting.Timestamp}:
			case <-stub.Interrupt:
				return
			}
		}
		lost := len(l.waiting.Data) - int(n)
		l.waiting = nil
		if l.left -= n; l.left == 0 {
			l.count(lost)
			l.cutLater()
			stub.Close()
			return
		}
	}
}

// takeHeld implements holder. It is asked when the toxic is taken off: then nothing is cut.
func (l *limitData) takeHeld() *stream.StreamChunk {
	c := l.waiting
	l.waiting = nil
	return c
}
