package faults

import (
	"context"
	"errors"
	"fmt"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// Ends are the two ends of a link fault: each a node (the client among them), a service or a group. Packets, or for toxics connections,
// that go From -> To are meant.
type Ends struct {
	From string `json:"from"`
	To   string `json:"to"`
}

func (e Ends) validate() error {
	var errs []error
	if e.From == "" {
		errs = append(errs, errors.New("from is missing: a node, service or group"))
	}
	if e.To == "" {
		errs = append(errs, errors.New("to is missing: a node, service or group"))
	}
	if e.From != "" && e.From == e.To {
		errs = append(errs, fmt.Errorf("from and to are both %s", e.From))
	}
	return errors.Join(errs...)
}

func (e Ends) targets() []plan.Target { return []plan.Target{{Any: e.From}, {Any: e.To}} }

// links resolves both ends and returns every link from one of the first to one of the second.
func (e Ends) links(ctx context.Context, env *Env) ([]cluster.Link, error) {
	from, err := env.Resolve(ctx, plan.Target{Any: e.From})
	if err != nil {
		return nil, err
	}
	to, err := env.Resolve(ctx, plan.Target{Any: e.To})
	if err != nil {
		return nil, err
	}
	return between(from, to), nil
}

// validateWith validates the ends and the direction of a packet fault.
func (e Ends) validateWith(direction string) error {
	err := e.validate()
	switch direction {
	case "", "out", "both":
		return err
	}
	return errors.Join(err, fmt.Errorf("direction %q: out (from -> to) or both", direction))
}

// linksWith are the links of the ends in one direction, or in both.
func (e Ends) linksWith(ctx context.Context, env *Env, direction string) ([]cluster.Link, error) {
	links, err := e.links(ctx, env)
	if err != nil || direction != "both" {
		return links, err
	}
	return withReverse(links), nil
}

// withReverse adds the opposite of each link that is not there yet.
func withReverse(links []cluster.Link) []cluster.Link {
	have := map[cluster.Link]bool{}
	for _, l := range links {
		have[l] = true
	}
	all := links
	for _, l := range links {
		if r := (cluster.Link{From: l.To, To: l.From}); !have[r] {
			have[r] = true
			all = append(all, r)
		}
	}
	return all
}

// between returns the links from each of a to each of b, without those from a node to itself.
func between(a, b []string) []cluster.Link {
	var ls []cluster.Link
	for _, f := range a {
		for _, t := range b {
			if f != t {
				ls = append(ls, cluster.Link{From: f, To: t})
			}
		}
	}
	return ls
}
