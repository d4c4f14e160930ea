package faults

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// Timeout is toxiproxy's toxic: it discards all data of a stream, and closes each connection after a time (0: never). Its
// undo closes the connections that it struck, for their data is lost; drop is what TCP survives. Connections From -> To.
type Timeout struct {
	ToxicEnds
	Timeout plan.Span `json:"timeout,omitzero"`
}

// Validate returns every error.
func (t *Timeout) Validate() error {
	return errors.Join(t.validate(), wholeTime("timeout", t.Timeout))
}

// wholeTime validates a time that toxiproxy has in milliseconds, and that may be 0.
func wholeTime(name string, s plan.Span) error {
	if s.Hi == 0 {
		return nil
	}
	if lo := time.Duration(s.Lo); lo > 0 && lo < time.Millisecond || time.Duration(s.Hi) < time.Millisecond || time.Duration(s.Hi) > maxDelay {
		return fmt.Errorf("%s %v: 0s, or 1ms to %v, in whole milliseconds", name, s, maxDelay)
	}
	return nil
}

// Targets are both ends.
func (t *Timeout) Targets() []plan.Target { return t.targets() }

// Inject adds the toxic.
func (t *Timeout) Inject(ctx context.Context, env *Env) (*Effect, error) {
	after := t.Timeout.D().Truncate(time.Millisecond)
	wait := probeTimeout
	if after > 0 && after <= 2*time.Second { // the close is worth waiting for
		wait += after + probeTimeout
	}
	return t.inject(ctx, env, toxic{
		kind:       "timeout",
		attributes: map[string]int64{"timeout": after.Milliseconds()},
		unit:       "chunks discarded and connections closed",
		patience:   2 * wait,
		prove: func(f *rule) func(context.Context) (string, error) {
			look := func(ctx context.Context, links []cluster.Link) ([]sighting, error) {
				return probe(ctx, f.env.Cluster, links, wait)
			}
			return f.each(look, func(s sighting) error {
				switch {
				case s.connect == 0:
					return fmt.Errorf("it was not even accepted: %w", s.err)
				case s.err == nil:
					return errors.New("it was answered")
				case s.timeout() && (after == 0 || after > wait):
					return nil
				case after > 0 && cutOff(s.err) && s.whole() >= after:
					return nil
				case cutOff(s.err):
					return fmt.Errorf("it ended after %v, and %v was asked for: %w", s.whole(), after, s.err)
				}
				return s.err
			}, f.met, func(seen []sighting) string {
				if after == 0 || after > wait {
					return fmt.Sprintf("%d of %d probes were accepted and got no answer within %v", len(seen), len(seen), wait)
				}
				return fmt.Sprintf("%d of %d probes got no answer and were closed after %s; %v was asked for", len(seen), len(seen), span(seen, sighting.whole), after)
			})
		},
		gone: func(f *rule) func(context.Context) (string, error) { return answered(env, f.links) },
	})
}
