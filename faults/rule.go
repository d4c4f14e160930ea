package faults

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// rule is a fault that is one rule on some links: how it is set, proved, asked for its prey and removed.
type rule struct {
	env   *Env
	links []cluster.Link
	id    cluster.RuleID
}

func inflict(ctx context.Context, env *Env, links []cluster.Link, r cluster.Rule) (*rule, error) {
	if len(links) == 0 {
		return nil, fmt.Errorf("no link is meant: from and to are the same single node")
	}
	f := &rule{env: env, links: links}
	applied := false
	env.Undo("remove the rule", func(ctx context.Context) error {
		if !applied {
			return nil
		}
		return env.Cluster.Remove(ctx, f.id)
	})
	whole, cancel := unbroken(ctx)
	defer cancel()
	id, err := env.Cluster.Apply(whole, links, r)
	if err != nil {
		return nil, fmt.Errorf("set a rule on %s: %w", describe(links), err)
	}
	f.id, applied = id, true
	return f, nil
}

// on is the rule on some of its links.
func (f *rule) on(links []cluster.Link) *rule {
	some := *f
	some.links = links
	return &some
}

// met says that the rule has met a probe on every link. Where it counted none nothing is proved, whatever the probe saw:
// something else may have held it up.
func (f *rule) met(ctx context.Context) error {
	cs, err := f.env.Cluster.Counters(ctx, f.id)
	if err != nil {
		return err
	}
	for _, c := range cs {
		if c.Probes == 0 {
			return NotYet("the rule on %s did not count the probe over it", c.Link)
		}
	}
	return nil
}

// bitten says what the rule acted on beside probes: a rule that only ever met a probe did not bite.
func (f *rule) bitten(unit string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		cs, err := f.env.Cluster.Counters(ctx, f.id)
		if err != nil {
			return "", err
		}
		var packets, busy uint64
		for _, c := range cs {
			if c.Packets > 0 {
				packets += c.Packets
				busy++
			}
		}
		if packets == 0 {
			return "", NotYet("no traffic on %s while the fault held: it had nothing to act on", describe(f.links))
		}
		return fmt.Sprintf("%d %s on %d of %d links", packets, unit, busy, len(f.links)), nil
	}
}

// silent proves that nothing gets over the links: every probe timed out.
func (f *rule) silent(ctx context.Context) (string, error) {
	seen, err := probe(ctx, f.env.Cluster, f.links, probeTimeout)
	if err != nil {
		return "", err
	}
	for _, s := range seen {
		if !s.timeout() {
			return "", NotYet("a probe over %s got an answer (%v)", s.link, s.err)
		}
	}
	if err := f.met(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d of %d probes got no answer within %v", len(seen), len(seen), probeTimeout), nil
}

// answered proves that every link carries data again.
func answered(env *Env, links []cluster.Link) proof {
	return func(ctx context.Context) (string, error) {
		seen, err := probe(ctx, env.Cluster, links, 2*probeTimeout)
		if err != nil {
			return "", err
		}
		var worst time.Duration
		for _, s := range seen {
			if s.err != nil {
				return "", NotYet("a probe over %s: %v", s.link, s.err)
			}
			worst = max(worst, s.connect+s.echo)
		}
		return fmt.Sprintf("%d of %d probes were answered, the slowest in %v", len(seen), len(seen), worst.Round(10*time.Microsecond)), nil
	}
}

// lifted proves that the plane does not have the rule any more and that every link carries data, for a rule that a probe may be
// spared by: its answer alone would say nothing.
func (f *rule) lifted(env *Env, links []cluster.Link) proof {
	carries := answered(env, links)
	return func(ctx context.Context) (string, error) {
		_, err := env.Cluster.Counters(ctx, f.id)
		switch {
		case err == nil:
			return "", fmt.Errorf("the plane still has the rule on %s", describe(f.links))
		case !errors.As(err, new(*cluster.UnknownRuleError)):
			return "", fmt.Errorf("ask the plane whether the rule on %s is gone: %w", describe(f.links), err)
		}
		said, err := carries(ctx)
		if err != nil {
			return "", err
		}
		return "the plane has removed the rule; " + said, nil
	}
}

func describe(links []cluster.Link) string {
	switch len(links) {
	case 0:
		return "no link"
	case 1:
		return links[0].String()
	}
	return fmt.Sprintf("%s and %d more links", links[0], len(links)-1)
}
