package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

const (
	// minDelay is above what a probe takes over a link without a delay: of a shorter one nobody sees that it is gone.
	minDelay = time.Millisecond
	// maxDelay is far above any delay that a service is meant to survive, and below what TCP gives up at.
	maxDelay = 30 * time.Second
)

// Validate returns every error.
func (d *Delay) Validate() error {
	errs := []error{d.validate()}
	if time.Duration(d.Time.Lo) < minDelay || time.Duration(d.Time.Hi) > maxDelay {
		errs = append(errs, fmt.Errorf("time %v: at least %v and at most %v", d.Time, minDelay, maxDelay))
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
	floor := d.floor()
	return &Effect{
		Links:    links,
		Prove:    f.slower(floor, d.Time.D()),
		Patience: 4 * d.Time.D(),
		Bitten:   f.bitten("packets held back"),
		Healed:   healed(env, func(env *Env, links []cluster.Link) proof { return faster(env, links, floor) }),
	}, nil
}

// floor is what tells a probe over a delayed link from one over a link that is not: it sends a SYN and a byte over the
// link, each held back. With jitter two may be short of it together, now and then; a wide one must not make it 0, which
// every probe passes.
func (d *Delay) floor() time.Duration {
	t, j := d.Time.D(), d.Jitter.D()
	if d.Distribution == "normal" || d.Distribution == "pareto" {
		j *= 3
	}
	return max(2*(t-j), t)
}

// slower proves that a round trip over every link takes at least floor. With jitter some probes may be quicker: a link that
// was slow once is proved, and the others are probed again.
func (f *rule) slower(floor, asked time.Duration) func(context.Context) (string, error) {
	left := slices.Clone(f.links)
	least, most := time.Duration(1<<62), time.Duration(0)
	return func(ctx context.Context) (string, error) {
		seen, err := probe(ctx, f.env.Cluster, left, 4*asked+2*probeTimeout)
		if err != nil {
			return "", err
		}
		left = nil
		var why error
		for _, s := range seen {
			switch took := s.connect + s.echo; {
			case s.err != nil:
				why = NotYet("a probe over %s: %v", s.link, s.err)
				left = append(left, s.link)
			case took < floor:
				why = NotYet("a probe over %s took %v, not %v or more", s.link, took, floor)
				left = append(left, s.link)
			default:
				least, most = min(least, took), max(most, took)
			}
		}
		if why != nil {
			return "", why
		}
		if err := f.met(ctx); err != nil {
			left = slices.Clone(f.links)
			return "", err
		}
		return fmt.Sprintf("connecting and one byte there and back took %v to %v over %d links; %v was asked for each way in",
			least.Round(10*time.Microsecond), most.Round(10*time.Microsecond), len(f.links), asked), nil
	}
}

// faster proves that a round trip over every link takes less than ceiling again. On a busy machine a probe may be slow by
// itself: a link that was quick once is proved, and the others are probed again.
func faster(env *Env, links []cluster.Link, ceiling time.Duration) proof {
	left := slices.Clone(links)
	var worst time.Duration
	return func(ctx context.Context) (string, error) {
		seen, err := probe(ctx, env.Cluster, left, ceiling+2*probeTimeout)
		if err != nil {
			return "", err
		}
		left = nil
		var why error
		for _, s := range seen {
			switch took := s.connect + s.echo; {
			case s.err != nil:
				why = NotYet("a probe over %s: %v", s.link, s.err)
				left = append(left, s.link)
			case took >= ceiling:
				why = NotYet("a probe over %s still took %v", s.link, took)
				left = append(left, s.link)
			default:
				worst = max(worst, took)
			}
		}
		if why != nil {
			return "", why
		}
		return fmt.Sprintf("%d of %d probes were answered, the slowest in %v", len(links), len(links), worst.Round(10*time.Microsecond)), nil
	}
}
