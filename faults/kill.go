package faults

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// Kill ends every process of the selected nodes with SIGKILL, all at once. The undo starts them again. Their restart
// policy is suspended while the fault holds.
type Kill struct {
	plan.Target
}

// Validate returns every error.
func (k *Kill) Validate() error { return ValidateTarget(k.Target) }

// Targets are the nodes.
func (k *Kill) Targets() []plan.Target { return []plan.Target{k.Target} }

// Inject kills.
func (k *Kill) Inject(ctx context.Context, env *Env) (*Effect, error) {
	return down(ctx, env, k.Target, func(ctx context.Context, node string) (string, error) {
		ctx, cancel := unbroken(ctx)
		defer cancel()
		exit, err := env.Cluster.Kill(ctx, node)
		if err != nil {
			return "", err
		}
		if exit.Signal != "SIGKILL" {
			return "", fmt.Errorf("%s was sent SIGKILL but ended by itself before (%s)", node, ended(exit))
		}
		return node + " was reaped with SIGKILL", nil
	})
}

// Terminate stops the selected nodes as an orchestrator does: the stop signal, the grace period, then SIGKILL. The
// undo starts them again.
type Terminate struct {
	plan.Target
}

// Validate returns every error.
func (t *Terminate) Validate() error { return ValidateTarget(t.Target) }

// Targets are the nodes.
func (t *Terminate) Targets() []plan.Target { return []plan.Target{t.Target} }

// Inject stops.
func (t *Terminate) Inject(ctx context.Context, env *Env) (*Effect, error) {
	return down(ctx, env, t.Target, func(ctx context.Context, node string) (string, error) {
		exit, err := env.Cluster.Stop(ctx, node)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%s was asked to stop and ended (%s)", node, ended(exit)), nil
	})
}

// down takes nodes down, all at once, and brings them back in the undo.
func down(ctx context.Context, env *Env, t plan.Target, end func(context.Context, string) (string, error)) (*Effect, error) {
	nodes, err := env.Resolve(ctx, t)
	if err != nil {
		return nil, err
	}
	for _, n := range nodes {
		release := env.Cluster.Hold(n)
		env.Undo("start "+n+" again", func(ctx context.Context) error {
			defer release()
			s, err := env.Cluster.Status(n)
			if err == nil && s.State != cluster.StateRunning {
				err = env.Cluster.Start(ctx, n)
			}
			return unlessAway(env.Cluster, n, err)
		})
	}
	proofs, err := each(nodes, func(n string) (string, error) { return end(ctx, n) })
	if err != nil {
		return nil, err
	}
	bitten, err := lasting(env, nodes, cluster.StateExited)
	if err != nil {
		return nil, err
	}
	return &Effect{
		Targets: nodes,
		Bitten:  bitten,
		Prove:   func(context.Context) (string, error) { return strings.Join(proofs, "; "), nil },
		Gone:    restored(env, nodes, ready),
	}, nil
}

// ready proves that the nodes run and are ready.
func ready(env *Env, nodes []string) proof {
	return func(ctx context.Context) (string, error) {
		for _, n := range nodes {
			if err := env.Cluster.AwaitReady(ctx, n); err != nil {
				return "", fmt.Errorf("%s did not become ready again: %w", n, err)
			}
		}
		return strings.Join(nodes, ", ") + " run and are ready", nil
	}
}

// each does something to all nodes at once and collects what it says, in the order of the nodes.
func each(nodes []string, do func(node string) (string, error)) ([]string, error) {
	said, errs := make([]string, len(nodes)), make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { said[i], errs[i] = do(n) })
	}
	wg.Wait()
	return said, errors.Join(errs...)
}

func ended(e cluster.Exit) string {
	if e.Signal != "" {
		return "by " + e.Signal
	}
	return fmt.Sprintf("with status %d", e.Code)
}
