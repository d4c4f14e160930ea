package faults

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// ResetPeer is toxiproxy's toxic: it resets each connection after a time (0: at once), at both ends, and lets nothing of
// the stream pass until then. Unlike toxiproxy's it strikes live and idle connections too. Connections From -> To.
type ResetPeer struct {
	ToxicEnds
	Timeout plan.Span `json:"timeout,omitzero"`
}

// Validate returns every error.
func (r *ResetPeer) Validate() error {
	return errors.Join(r.validate(), wholeTime("timeout", r.Timeout))
}

// Targets are both ends.
func (r *ResetPeer) Targets() []plan.Target { return r.targets() }

// Inject adds the toxic.
func (r *ResetPeer) Inject(ctx context.Context, env *Env) (*Effect, error) {
	after := r.Timeout.D().Truncate(time.Millisecond)
	return r.inject(ctx, env, toxic{
		kind:       "reset_peer",
		attributes: map[string]int64{"timeout": after.Milliseconds()},
		unit:       "connections reset",
		patience:   2 * after,
		prove: func(f *rule) func(context.Context) (string, error) {
			look := func(ctx context.Context, links []cluster.Link) ([]sighting, error) {
				begin := time.Now()
				seen, err := probe(ctx, f.env.Cluster, links, after+2*probeTimeout)
				for i := range seen {
					if seen[i].connect == 0 { // it was reset before it could be used
						seen[i].connect = time.Since(begin)
					}
				}
				return seen, err
			}
			return f.each(look, func(s sighting) error {
				switch {
				case s.err == nil:
					return errors.New("it was answered")
				case !wasReset(s.err):
					return fmt.Errorf("it was not reset: %w", s.err)
				case s.whole() < after:
					return fmt.Errorf("it was reset after %v, and %v was asked for", s.whole(), after)
				}
				return nil
			}, f.met, func(seen []sighting) string {
				return fmt.Sprintf("%d of %d probes were reset after %s; %v was asked for", len(seen), len(seen), span(seen, sighting.whole), after)
			})
		},
		gone: func(f *rule) func(context.Context) (string, error) { return answered(env, f.links) },
	})
}
