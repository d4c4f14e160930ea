package plane

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/Shopify/toxiproxy/v2/toxics"
)

// slicer is toxiproxy's toxic of that name: it cuts data into pieces of average_size bytes, more or less size_variation,
// and waits delay µs after each. What differs: the sizes are a function of the seed, and a chunk that it is about to cut
// when another toxic comes or goes is cut after that.
type slicer struct {
	toxics.SlicerToxic
	*strike
	n uint64 // sizes drawn

	waiting *stream.StreamChunk // what is left of it
	sizes   []int               // of the pieces it is cut into
	next    time.Time           // when the next one may go
}

func parseSlicer(attributes json.RawMessage) (func(*strike) toxics.Toxic, error) {
	var t toxics.SlicerToxic
	if err := attributesInto(attributes, &t); err != nil {
		return nil, err
	}
	const mostBytes = 1 << 30
	var errs []error
	if t.AverageSize < 1 || t.AverageSize > mostBytes {
		errs = append(errs, attributeError("average_size", int64(t.AverageSize), 1, mostBytes, "bytes"))
	}
	if t.SizeVariation < 0 || t.SizeVariation >= max(t.AverageSize, 1) {
		errs = append(errs, fmt.Errorf("size_variation %d must be at least 0 and below the average_size of %d", t.SizeVariation, t.AverageSize))
	}
	if most := maxDelay.Microseconds(); t.Delay < 0 || int64(t.Delay) > most {
		errs = append(errs, attributeError("delay", int64(t.Delay), 0, most, "µs"))
	}
	return func(s *strike) toxics.Toxic { return &slicer{SlicerToxic: t, strike: s} }, errors.Join(errs...)
}

// Pipe implements toxics.Toxic.
func (s *slicer) Pipe(stub *toxics.ToxicStub) {
	for {
		if s.waiting == nil {
			select {
			case <-stub.Interrupt:
				return
			case c := <-stub.Input:
				if c == nil {
					stub.Close()
					return
				}
				s.waiting, s.sizes = c, s.cut(nil, len(c.Data))
				if len(s.sizes) > 1 {
					s.count(len(c.Data))
				}
			}
		}
		if !s.piece(stub) {
			return
		}
	}
}

// piece lets the next one go, and returns false when it was interrupted before.
func (s *slicer) piece(stub *toxics.ToxicStub) bool {
	if !sleepUntil(s.next, stub) {
		return false
	}
	n := s.sizes[0]
	select {
	case stub.Output <- &stream.StreamChunk{Data: s.waiting.Data[:n:n], Timestamp: s.waiting.Timestamp}:
	case <-stub.Interrupt:
		return false
	}
	s.next = time.Now().Add(time.Duration(s.Delay) * time.Microsecond)
	if s.sizes = s.sizes[1:]; len(s.sizes) == 0 {
		s.waiting = nil
		return true
	}
	s.waiting = &stream.StreamChunk{Data: s.waiting.Data[n:], Timestamp: s.waiting.Timestamp}
	return true
}

// cut appends the sizes of the pieces of size bytes: toxiproxy's way, by halves.
func (s *slicer) cut(sizes []int, size int) []int {
	if size-s.AverageSize <= s.SizeVariation {
		return append(sizes, size)
	}
	left := size / 2
	if s.SizeVariation > 0 {
		left += int(unit(mix(s.seed, s.n))*float64(2*s.SizeVariation)) - s.SizeVariation
		s.n++
	}
	return s.cut(s.cut(sizes, left), size-left)
}

// takeHeld implements holder.
func (s *slicer) takeHeld() *stream.StreamChunk {
	c := s.waiting
	s.waiting, s.sizes = nil, nil
	return c
}
