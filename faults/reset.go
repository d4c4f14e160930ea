package faults

import (
	"context"
	"fmt"

	"github.com/hasvc/gauntlet/harness/plan"
)

// Reset ends the live TCP connections between two ends, idle ones too: both sides see "connection reset by peer". New
// connections are not touched.
type Reset struct {
	Ends
}

// Validate returns every error.
func (r *Reset) Validate() error { return r.validate() }

// Targets are both ends.
func (r *Reset) Targets() []plan.Target { return r.targets() }

// Inject resets what is connected now.
func (r *Reset) Inject(ctx context.Context, env *Env) (*Effect, error) {
	links, err := r.links(ctx, env)
	if err != nil {
		return nil, err
	}
	n, err := env.Cluster.Reset(ctx, links)
	if err != nil {
		return nil, fmt.Errorf("reset the connections of %s: %w", describe(links), err)
	}
	return &Effect{Links: links, Prove: func(context.Context) (string, error) {
		if n == 0 {
			return "", fmt.Errorf("no connection between %s and %s was there to be reset", r.From, r.To)
		}
		return fmt.Sprintf("%d connections were reset at both ends", n), nil
	}}, nil
}
