package faults

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
)

// Bandwidth is toxiproxy's toxic: it bounds the bytes a second of each connection's stream. Connections From -> To.
type Bandwidth struct {
	ToxicEnds
	Rate int64 `json:"rate"` // KB (1,000 bytes) a second
}

// mostBandwidth is the highest rate that a probe of two megabytes tells from a link without a bound.
const mostBandwidth = 100_000

// Validate returns every error.
func (b *Bandwidth) Validate() error {
	errs := []error{b.validate()}
	switch {
	case b.Rate == 0:
		errs = append(errs, fmt.Errorf("rate: 1 to %d KB a second; to let nothing through, use timeout (the connection is lost) or drop (TCP survives)", mostBandwidth))
	case b.Rate < 0 || b.Rate > mostBandwidth:
		errs = append(errs, fmt.Errorf("rate %d: 1 to %d KB a second", b.Rate, mostBandwidth))
	}
	return errors.Join(errs...)
}

// Targets are both ends.
func (b *Bandwidth) Targets() []plan.Target { return b.targets() }

// Inject adds the toxic.
func (b *Bandwidth) Inject(ctx context.Context, env *Env) (*Effect, error) {
	n, takes := b.probe()
	return b.inject(ctx, env, toxic{
		kind:       "bandwidth",
		attributes: map[string]int64{"rate": b.Rate},
		unit:       "chunks of data slowed down",
		patience:   4 * takes,
		prove: func(f *rule) func(context.Context) (string, error) {
			return f.each(b.transfer(f, n, 4*takes+2*probeTimeout), func(s sighting) error {
				switch {
				case s.err != nil:
					return s.err
				case s.echo < takes:
					return fmt.Errorf("%d bytes took %v, not %v or more", n, s.echo, takes)
				}
				return nil
			}, f.met, func(seen []sighting) string {
				return fmt.Sprintf("%d bytes took %s; at %d KB/s they take %v", n, span(seen, func(s sighting) time.Duration { return s.echo }), b.Rate, takes)
			})
		},
		gone: func(f *rule) func(context.Context) (string, error) { return b.carried(f, n, takes) },
	})
}

// probe is how many bytes are sent to see the bound, and how long they take at the least.
func (b *Bandwidth) probe() (n int, takes time.Duration) {
	rate := 1000 * b.Rate
	n = int(min(rate/5, 2_000_000)) // what comes in 200 ms
	return n, time.Duration(n) * time.Second / time.Duration(rate)
}
