package faults

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// Delay holds the packets of a link back, in netem's words. Packets that go From -> To only: a round trip grows by
// one delay.
type Delay struct {
	Ends
	Time         plan.Span `json:"time"`
	Jitter       plan.Span `json:"jitter,omitzero"`
	Distribution string    `json:"distribution,omitempty"` // uniform (the default) | normal | pareto
}

// maxDelay is far above any delay that a service is meant to survive, and below what TCP gives up at.
const maxDelay = 30 * time.Second

// Validate returns every error.
func (d *Delay) Validate() error {
	errs := []error{d.validate()}
	if d.Time.D() <= 0 || time.Duration(d.Time.Hi) > maxDelay {
		errs = append(errs, fmt.Errorf("time %v: more than 0 and at most %v", d.Time, maxDelay))
	}
	if d.Jitter.Hi > d.Time.Lo {
		errs = append(errs, fmt.Errorf("jitter %v is above the delay of %v: a packet cannot leave before it came", d.Jitter, d.Time))
	}
	switch d.Distribution {
	case "", "uniform", "normal", "pareto":
	default:
		errs = append(errs, fmt.Errorf("distribution %q: uniform, normal or pareto", d.Distribution))
	}
	return errors.Join(errs...)
}

// Targets are both ends.
func (d *Delay) Targets() []plan.Target { return d.targets() }

// Inject sets the rule.
func (d *Delay) Inject(ctx context.Context, env *Env) (*Effect, error) {
	links, err := d.links(ctx, env)
	if err != nil {
		return nil, err
	}
	f, err := inflict(ctx, env, links, cluster.Rule{Delay: &cluster.Delay{
		Time: d.Time.D(), Jitter: d.Jitter.D(), Distribution: d.Distribution, Seed: env.Seed}})
	if err != nil {
		return nil, err
	}
	// What a probe must take at the least: it sends a SYN and a byte over the link, each held back. A normal distribution
	// goes below time - jitter now and then, hence three of them.
	floor := max(2*(d.Time.D()-3*d.Jitter.D()), 0)
	if d.Jitter.D() == 0 {
		floor = 2 * d.Time.D()
	}
	return &Effect{
		Links:  links,
		Prove:  f.slower(floor, d.Time.D()),
		Bitten: f.bitten("packets held back"),
		Gone:   faster(env, links, 2*d.Time.D()),
	}, nil
}

// slower proves that a round trip over every link takes at least floor.
func (f *rule) slower(floor, asked time.Duration) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		seen, err := probe(ctx, f.env.Cluster, f.links, 4*asked+2*probeTimeout)
		if err != nil {
			return "", err
		}
		least, most := time.Duration(1<<62), time.Duration(0)
		for _, s := range seen {
			if s.err != nil {
				return "", NotYet("a probe over %s: %v", s.link, s.err)
			}
			took := s.connect + s.echo
			if took < floor {
				return "", NotYet("a probe over %s took %v, not %v or more", s.link, took, floor)
			}
			least, most = min(least, took), max(most, took)
		}
		if err := f.settle(ctx); err != nil {
			return "", err
		}
		return fmt.Sprintf("connecting and one byte there and back took %v to %v over %d links; %v was asked for each way in",
			least.Round(10*time.Microsecond), most.Round(10*time.Microsecond), len(seen), asked), nil
	}
}

// faster proves that a round trip over every link takes less than ceiling again.
func faster(env *Env, links []cluster.Link, ceiling time.Duration) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		seen, err := probe(ctx, env.Cluster, links, ceiling+2*probeTimeout)
		if err != nil {
			return "", err
		}
		var worst time.Duration
		for _, s := range seen {
			if s.err != nil {
				return "", NotYet("a probe over %s: %v", s.link, s.err)
			}
			if took := s.connect + s.echo; took >= ceiling {
				return "", NotYet("a probe over %s still took %v", s.link, took)
			} else {
				worst = max(worst, took)
			}
		}
		return fmt.Sprintf("%d of %d probes were answered, the slowest in %v", len(seen), len(seen), worst.Round(10*time.Microsecond)), nil
	}
}
