package faults

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// Reject answers every packet of a link with a refusal: a TCP reset, for other protocols "port unreachable". The
// sender learns of it at once; the other end of a live connection does not.
type Reject struct {
	Ends
	Direction string `json:"direction,omitempty"` // both | out (From -> To only); default out
}

// Validate returns every error.
func (r *Reject) Validate() error { return r.validateWith(r.Direction) }

// Targets are both ends.
func (r *Reject) Targets() []plan.Target { return r.targets() }

// Inject sets the rule.
func (r *Reject) Inject(ctx context.Context, env *Env) (*Effect, error) {
	links, err := r.linksWith(ctx, env, r.Direction)
	if err != nil {
		return nil, err
	}
	f, err := inflict(ctx, env, links, cluster.Rule{Reject: true})
	if err != nil {
		return nil, err
	}
	return &Effect{Links: links, Prove: f.refused, Bitten: f.bitten("packets rejected"), Healed: healed(env, answered)}, nil
}

// refused proves that every probe was refused, though a listener waited for it.
func (f *rule) refused(ctx context.Context) (string, error) {
	seen, err := probe(ctx, f.env.Cluster, f.links, probeTimeout)
	if err != nil {
		return "", err
	}
	for _, s := range seen {
		if !errors.Is(s.err, syscall.ECONNREFUSED) && !errors.Is(s.err, syscall.ECONNRESET) {
			return "", NotYet("a probe over %s was not refused (%v)", s.link, s.err)
		}
	}
	if err := f.met(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d of %d probes were refused by the link", len(seen), len(seen)), nil
}
