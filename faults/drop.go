package faults

import (
	"context"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// Drop discards every packet of a link, without a word to either end: new connections time out, live ones stall, and
// go on after the heal.
type Drop struct {
	Ends
	Direction string `json:"direction,omitempty"` // both | out (From -> To only); default out
}

// Validate returns every error.
func (d *Drop) Validate() error { return d.validateWith(d.Direction) }

// Targets are both ends.
func (d *Drop) Targets() []plan.Target { return d.targets() }

// Inject sets the rule.
func (d *Drop) Inject(ctx context.Context, env *Env) (*Effect, error) {
	links, err := d.linksWith(ctx, env, d.Direction)
	if err != nil {
		return nil, err
	}
	return severed(ctx, env, links, cluster.Rule{Drop: true})
}

// severed injects a rule after which nothing gets over the links.
func severed(ctx context.Context, env *Env, links []cluster.Link, r cluster.Rule) (*Effect, error) {
	f, err := inflict(ctx, env, links, r)
	if err != nil {
		return nil, err
	}
	return &Effect{Links: links, Prove: f.silent, Bitten: f.bitten("packets dropped"), Healed: healed(env, answered)}, nil
}
