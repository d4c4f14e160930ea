package faults

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
)

// Slicer is toxiproxy's toxic: it cuts the data of a stream into small pieces, and waits after each. Connections From -> To.
type Slicer struct {
	ToxicEnds
	AverageSize   int       `json:"average_size"`             // bytes
	SizeVariation int       `json:"size_variation,omitempty"` // bytes more or less
	Delay         plan.Span `json:"delay,omitzero"`           // after each piece
}

const (
	mostSlice      = 16 << 10 // what is larger is mostly not cut: data comes in chunks of at most 32 KB
	mostSliceDelay = 100 * time.Millisecond
)

// Validate returns every error.
func (s *Slicer) Validate() error {
	errs := []error{s.validate()}
	if s.AverageSize < 1 || s.AverageSize > mostSlice {
		errs = append(errs, fmt.Errorf("average_size %d: 1 to %d bytes", s.AverageSize, mostSlice))
	}
	if s.SizeVariation < 0 || s.SizeVariation > 0 && s.SizeVariation >= s.AverageSize {
		errs = append(errs, fmt.Errorf("size_variation %d: 0 or more, and less than the average_size of %d", s.SizeVariation, s.AverageSize))
	}
	if lo := time.Duration(s.Delay.Lo); lo > 0 && lo < time.Microsecond || time.Duration(s.Delay.Hi) > mostSliceDelay {
		errs = append(errs, fmt.Errorf("delay %v: 0s, or 1µs to %v; it comes after each piece", s.Delay, mostSliceDelay))
	}
	return errors.Join(errs...)
}

// Targets are both ends.
func (s *Slicer) Targets() []plan.Target { return s.targets() }

// Inject adds the toxic.
func (s *Slicer) Inject(ctx context.Context, env *Env) (*Effect, error) {
	const pieces = 5 // of the probe, at the least
	n := (pieces-1)*(s.AverageSize+s.SizeVariation) + 1
	delay := s.Delay.D().Truncate(time.Microsecond)
	takes := (pieces - 1) * delay
	under := takes
	if takes < 20*time.Millisecond {
		under = 0 // a probe may take that long by itself
	}
	wait := time.Duration(4*n/s.AverageSize)*(delay+2*time.Millisecond) + 2*probeTimeout
	return s.inject(ctx, env, toxic{
		kind:       "slicer",
		attributes: map[string]int64{"average_size": int64(s.AverageSize), "size_variation": int64(s.SizeVariation), "delay": delay.Microseconds()},
		unit:       "chunks cut into pieces",
		patience:   wait,
		prove: func(f *rule) func(context.Context) (string, error) {
			return f.each(s.transfer(f, n, wait), func(p sighting) error {
				switch {
				case p.err != nil:
					return p.err
				case p.echo < takes:
					return fmt.Errorf("%d bytes in pieces took %v, not %v or more", n, p.echo, takes)
				}
				return nil
			}, f.met, func(seen []sighting) string {
				return fmt.Sprintf("%d bytes were cut into pieces and came whole in %s", n, span(seen, func(p sighting) time.Duration { return p.echo }))
			})
		},
		gone: func(f *rule) func(context.Context) (string, error) { return s.carried(f, n, under) },
	})
}
