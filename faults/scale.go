package faults

import (
	"context"
	"errors"
	"fmt"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// Scale changes the number of replicas of a service. The undo brings the number back.
type Scale struct {
	Service  string `json:"service"`
	Replicas int    `json:"replicas"`
}

// Validate returns every error.
func (s *Scale) Validate() error {
	var errs []error
	if s.Service == "" {
		errs = append(errs, errors.New("service is missing"))
	}
	if s.Replicas < 0 || s.Replicas > cluster.MaxReplicas {
		errs = append(errs, fmt.Errorf("replicas %d: 0 to %d", s.Replicas, cluster.MaxReplicas))
	}
	return errors.Join(errs...)
}

// Targets is the service.
func (s *Scale) Targets() []plan.Target { return []plan.Target{{Service: s.Service}} }

// Inject scales.
func (s *Scale) Inject(ctx context.Context, env *Env) (*Effect, error) {
	before := s.count(env)
	// What is noted here is what the undo brings back: the number that another fault left for a while would stay.
	if planned := s.planned(env); before != planned {
		return nil, fmt.Errorf("%s has %d replicas and its topology %d: another fault has changed it", s.Service, before, planned)
	}
	if before == s.Replicas {
		return nil, fmt.Errorf("%s has %d replicas already", s.Service, before)
	}
	env.Undo(fmt.Sprintf("scale %s back to %d", s.Service, before), func(ctx context.Context) error {
		return env.Cluster.Scale(ctx, s.Service, before)
	})
	if err := env.Cluster.Scale(ctx, s.Service, s.Replicas); err != nil {
		return nil, err
	}
	counted := func(want int) func(context.Context) (string, error) {
		return func(context.Context) (string, error) {
			if n := s.count(env); n != want {
				return "", NotYet("%s has %d replicas, not %d", s.Service, n, want)
			}
			return fmt.Sprintf("%s has %d replicas", s.Service, want), nil
		}
	}
	return &Effect{Prove: counted(s.Replicas), Bitten: counted(s.Replicas), Gone: counted(before)}, nil
}

// planned is the number that the topology starts with.
func (s *Scale) planned(env *Env) int {
	for _, x := range env.Cluster.Spec().Services {
		if x.Name == s.Service {
			return x.Replicas
		}
	}
	return 0
}

func (s *Scale) count(env *Env) (n int) {
	for _, i := range env.Cluster.Nodes() {
		if i.Service == s.Service {
			n++
		}
	}
	return n
}
