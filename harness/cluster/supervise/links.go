package supervise

import (
	"context"
	"fmt"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/plane"
)

// addresses translates links between nodes into those between addresses.
func (t *Topology) addresses(links []cluster.Link) ([]plane.AddrLink, error) {
	out := make([]plane.AddrLink, 0, len(links))
	for _, l := range links {
		from, err := t.node(l.From)
		if err != nil {
			return nil, err
		}
		to, err := t.node(l.To)
		if err != nil {
			return nil, err
		}
		if from == to {
			return nil, fmt.Errorf("link %s: a node's traffic with itself does not pass the plane", l)
		}
		out = append(out, plane.AddrLink{From: from.Info.Addr, To: to.Info.Addr})
	}
	return out, nil
}

// Apply implements cluster.Linker.
func (t *Topology) Apply(ctx context.Context, links []cluster.Link, r cluster.Rule) (cluster.RuleID, error) {
	a, err := t.addresses(links)
	if err != nil {
		return 0, err
	}
	id, err := t.carrier.Apply(ctx, a, r)
	if err != nil {
		return 0, fmt.Errorf("put a rule on %d links: %w", len(links), err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rules[id] = append([]cluster.Link(nil), links...)
	return id, nil
}

// Remove implements cluster.Linker.
func (t *Topology) Remove(ctx context.Context, id cluster.RuleID) error {
	if err := t.carrier.Remove(ctx, id); err != nil {
		return fmt.Errorf("remove rule %d: %w", id, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.rules, id)
	return nil
}

// Counters implements cluster.Linker.
func (t *Topology) Counters(ctx context.Context, id cluster.RuleID) ([]cluster.Counter, error) {
	t.mu.Lock()
	links := t.rules[id]
	t.mu.Unlock()
	// Of one that was removed, or never was, the plane is asked too: it has the word on what is gone.
	counts, err := t.carrier.Counters(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("read the counters of rule %d: %w", id, err)
	}
	if len(counts) != len(links) {
		return nil, fmt.Errorf("rule %d has %d links and the plane counts %d", id, len(links), len(counts))
	}
	out := make([]cluster.Counter, len(counts))
	for i, n := range counts {
		out[i] = cluster.Counter{Link: links[i], Packets: n.Packets, Bytes: n.Bytes, Probes: n.Probes}
	}
	return out, nil
}

// Reset implements cluster.Linker.
func (t *Topology) Reset(ctx context.Context, links []cluster.Link) (int, error) {
	a, err := t.addresses(links)
	if err != nil {
		return 0, err
	}
	n, err := t.carrier.Reset(ctx, a)
	if err != nil {
		return n, fmt.Errorf("reset %d links: %w", len(links), err)
	}
	return n, nil
}
