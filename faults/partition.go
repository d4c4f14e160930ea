package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// Partition cuts nodes off by dropping packets: connections time out, live ones stall and go on after the heal.
type Partition struct {
	Isolate   plan.Target `json:"isolate"`
	From      string      `json:"from,omitempty"`      // group (the default: the rest of the isolated nodes' group, or service) | all (every node, the client too)
	Direction string      `json:"direction,omitempty"` // both (the default) | in | out, seen from the isolated nodes
}

// Validate returns every error.
func (p *Partition) Validate() error {
	errs := []error{ValidateTarget(p.Isolate)}
	switch p.From {
	case "", "group", "all":
	default:
		errs = append(errs, fmt.Errorf("from %q: group (the rest of the group) or all (every node)", p.From))
	}
	switch p.Direction {
	case "", "both", "in", "out":
	default:
		errs = append(errs, fmt.Errorf("direction %q: both, in or out, seen from the isolated nodes", p.Direction))
	}
	return errors.Join(errs...)
}

// Targets are the isolated nodes.
func (p *Partition) Targets() []plan.Target { return []plan.Target{p.Isolate} }

// Inject sets the rules of all links at once.
func (p *Partition) Inject(ctx context.Context, env *Env) (*Effect, error) {
	isolated, err := env.Resolve(ctx, p.Isolate)
	if err != nil {
		return nil, err
	}
	others := p.others(env.Cluster.Nodes(), isolated)
	if len(others) == 0 {
		return nil, fmt.Errorf("nothing is left to cut %v off from", isolated)
	}
	var links []cluster.Link
	if p.Direction != "in" {
		links = append(links, between(isolated, others)...)
	}
	if p.Direction != "out" {
		links = append(links, between(others, isolated)...)
	}
	e, err := severed(ctx, env, links, cluster.Rule{Drop: true})
	if err != nil {
		return nil, err
	}
	e.Targets = isolated
	return e, nil
}

// others are the nodes that the isolated ones lose.
func (p *Partition) others(nodes []cluster.NodeInfo, isolated []string) []string {
	groups, services := map[string]bool{}, map[string]bool{}
	for _, n := range nodes {
		if slices.Contains(isolated, n.Name) {
			if n.Group != "" {
				groups[n.Group] = true
			} else {
				services[n.Service] = true
			}
		}
	}
	var others []string
	for _, n := range nodes {
		if slices.Contains(isolated, n.Name) {
			continue
		}
		if p.From == "all" || groups[n.Group] || services[n.Service] {
			others = append(others, n.Name)
		}
	}
	if p.From == "all" {
		others = append(others, cluster.Client)
	}
	return others
}
