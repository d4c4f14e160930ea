package faults

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// Pause stops every process of the selected nodes, by SIGSTOP or, in a container, by its freezer: connections stay open and
// nothing answers, as with a machine that hangs or a long garbage collection. The undo lets them go on.
type Pause struct {
	plan.Target
}

// Validate returns every error.
func (p *Pause) Validate() error { return ValidateTarget(p.Target) }

// Targets are the nodes.
func (p *Pause) Targets() []plan.Target { return []plan.Target{p.Target} }

// Inject pauses.
func (p *Pause) Inject(ctx context.Context, env *Env) (*Effect, error) {
	nodes, err := env.Resolve(ctx, p.Target)
	if err != nil {
		return nil, err
	}
	for _, n := range nodes {
		env.Undo("resume "+n, func(ctx context.Context) error {
			s, err := env.Cluster.Status(n)
			// Otherwise it was not stopped, or has died since: what it should be is for the proof to say.
			if err == nil && s.State == cluster.StatePaused {
				err = env.Cluster.Resume(ctx, n)
			}
			return unlessAway(env.Cluster, n, err)
		})
	}
	whole, cancel := unbroken(ctx)
	defer cancel()
	if _, err := each(nodes, func(n string) (string, error) { return "", env.Cluster.Pause(whole, n) }); err != nil {
		return nil, err
	}
	bitten, err := lasting(env, nodes, cluster.StatePaused)
	if err != nil {
		return nil, err
	}
	return &Effect{
		Targets: nodes,
		Prove:   inState(env, nodes, cluster.StatePaused, "none of its processes goes on"),
		Bitten:  bitten,
		Gone: restored(env, nodes, func(env *Env, nodes []string) proof {
			return inState(env, nodes, cluster.StateRunning, "its processes run")
		}),
	}, nil
}

// inState proves that all nodes are in a state.
func inState(env *Env, nodes []string, want cluster.State, means string) proof {
	return func(context.Context) (string, error) {
		for _, n := range nodes {
			s, err := env.Cluster.Status(n)
			if err != nil {
				return "", err
			}
			if s.State != want {
				return "", NotYet("%s is %s", n, s.State)
			}
		}
		return fmt.Sprintf("%s: %s", strings.Join(nodes, ", "), means), nil
	}
}

// lasting proves that nodes have stayed as they are now, in a state that they leave only when they are started or go on: one that
// another fault has started ran for a part of the time, whatever it is by then.
func lasting(env *Env, nodes []string, state cluster.State) (proof, error) {
	began := map[string]time.Time{}
	for _, n := range nodes {
		s, err := env.Cluster.Status(n)
		if err := unlessAway(env.Cluster, n, err); err != nil {
			return nil, err
		}
		began[n] = s.Started
	}
	return restored(env, nodes, func(env *Env, nodes []string) proof {
		return func(context.Context) (string, error) {
			for _, n := range nodes {
				switch s, err := env.Cluster.Status(n); {
				case err != nil:
					return "", err
				case s.State != state:
					return "", NotYet("%s is %s", n, s.State)
				case !s.Started.Equal(began[n]):
					return "", NotYet("%s was started meanwhile", n)
				}
			}
			return fmt.Sprintf("%s: %s until the undo", strings.Join(nodes, ", "), state), nil
		}
	}), nil
}
