package faults

import (
	"context"
	"fmt"
	"strings"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// Pause stops every process of the selected nodes (SIGSTOP): connections stay open and nothing answers, as with a
// machine that hangs or a long garbage collection. The undo lets them go on.
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
	return &Effect{
		Targets: nodes,
		Prove:   inState(env, nodes, cluster.StatePaused, "every process is stopped (state T)"),
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
