package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// SlowClose is toxiproxy's toxic: it holds the end of a stream back. Connections From -> To.
type SlowClose struct {
	ToxicEnds
	Delay plan.Span `json:"delay"`
}

// Validate returns every error.
func (c *SlowClose) Validate() error {
	errs := []error{c.validate()}
	if time.Duration(c.Delay.Lo) < time.Millisecond || time.Duration(c.Delay.Hi) > maxDelay {
		errs = append(errs, fmt.Errorf("delay %v: 1ms to %v, in whole milliseconds", c.Delay, maxDelay))
	}
	return errors.Join(errs...)
}

// Targets are both ends.
func (c *SlowClose) Targets() []plan.Target { return c.targets() }

// Inject adds the toxic.
func (c *SlowClose) Inject(ctx context.Context, env *Env) (*Effect, error) {
	delay := c.Delay.D().Truncate(time.Millisecond)
	return c.inject(ctx, env, toxic{
		kind:       "slow_close",
		attributes: map[string]int64{"delay": delay.Milliseconds()},
		unit:       "ends held back",
		patience:   4 * delay,
		prove: func(f *rule) func(context.Context) (string, error) {
			return f.each(closing(f, 4*delay+2*probeTimeout), func(s sighting) error {
				switch {
				case s.err != nil:
					return s.err
				case s.echo < delay:
					return fmt.Errorf("closing took %v, not %v or more", s.echo, delay)
				}
				return nil
			}, f.met, func(seen []sighting) string {
				return fmt.Sprintf("closing both ways took %s; %v was asked for", span(seen, func(s sighting) time.Duration { return s.echo }), delay)
			})
		},
		gone: func(f *rule) func(context.Context) (string, error) {
			return f.each(closing(f, delay+2*probeTimeout), func(s sighting) error {
				if s.err == nil && s.echo >= delay {
					return fmt.Errorf("closing still took %v", s.echo)
				}
				return s.err
			}, nothing, func(seen []sighting) string {
				return "closing both ways took " + span(seen, func(s sighting) time.Duration { return s.echo })
			})
		},
	})
}

// closing probes how long it takes from the end of what is sent to the end of what is received.
func closing(f *rule, wait time.Duration) look {
	return func(ctx context.Context, links []cluster.Link) ([]sighting, error) {
		return probeWith(ctx, f.env.Cluster, links, wait, echoByte, func(conn net.Conn, s *sighting) {
			if sendByte(conn, s); s.err != nil {
				return
			}
			half, ok := conn.(interface{ CloseWrite() error })
			if !ok {
				s.err = errors.New("a connection from here cannot be closed by halves")
				return
			}
			begin := time.Now()
			if s.err = half.CloseWrite(); s.err != nil {
				return
			}
			_, s.err = io.Copy(io.Discard, conn)
			s.echo = time.Since(begin)
		})
	}
}
