package faults

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
)

// LimitData is toxiproxy's toxic: it closes each connection after so many bytes of the stream. Those before are delivered.
// Connections From -> To.
type LimitData struct {
	ToxicEnds
	Bytes *int64 `json:"bytes"` // counted from when the fault begins, or the connection
}

// mostProbed is the largest limit that a probe goes beyond.
const mostProbed = 4 << 20

// Validate returns every error.
func (l *LimitData) Validate() error {
	err := l.validate()
	switch {
	case l.Bytes == nil:
		err = errors.Join(err, errors.New("bytes is missing: how many may pass before the connection is closed; 0 closes at the first"))
	case *l.Bytes < 0:
		err = errors.Join(err, fmt.Errorf("bytes %d: 0 or more", *l.Bytes))
	}
	return err
}

// Targets are both ends.
func (l *LimitData) Targets() []plan.Target { return l.targets() }

// Inject adds the toxic.
func (l *LimitData) Inject(ctx context.Context, env *Env) (*Effect, error) {
	x := toxic{kind: "limit_data", attributes: map[string]int64{"bytes": *l.Bytes}, unit: "connections cut off"}
	if *l.Bytes <= mostProbed {
		n := int(*l.Bytes) + 1
		x.prove = func(f *rule) func(context.Context) (string, error) {
			return f.each(l.transfer(f, n, 4*probeTimeout), func(s sighting) error {
				switch {
				case s.err == nil:
					return fmt.Errorf("all of %d bytes got through", n)
				case s.connect == 0 || !cutOff(s.err):
					return s.err
				case l.stream() == "downstream" && s.got != n-1:
					return fmt.Errorf("%d bytes came, and %d were let pass", s.got, n-1)
				}
				return nil
			}, f.met, func(seen []sighting) string {
				return fmt.Sprintf("%d of %d probes with %d bytes were cut off, in %s", len(seen), len(seen), n, span(seen, func(s sighting) time.Duration { return s.echo }))
			})
		}
		x.gone = func(f *rule) func(context.Context) (string, error) { return l.carried(f, n, 0) }
	}
	return l.inject(ctx, env, x)
}
