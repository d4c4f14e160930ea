package faults

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// Restart stops the selected nodes gracefully and starts them again: all at once, or one after the other. It is over when the last one is ready.
type Restart struct {
	plan.Target
	Rolling *Rolling     `json:"rolling,omitempty"`
	Down    plan.Span    `json:"down,omitzero"` // how long each stays stopped before it is started again: a successor may take its time
	With    *RestartWith `json:"with,omitempty"`
}

// Rolling restarts one node after the other.
type Rolling struct {
	Wait string    `json:"wait,omitempty"` // ready (the default): the next one only when this one is ready | none
	Gap  plan.Span `json:"gap,omitzero"`   // pause between one and the next
}

// RestartWith is what changes with the restart.
type RestartWith struct {
	Env map[string]string `json:"env,omitempty"` // added to the program's environment from now on
}

// Validate returns every error.
func (r *Restart) Validate() error {
	errs := []error{ValidateTarget(r.Target)}
	if r.Rolling != nil {
		switch r.Rolling.Wait {
		case "", "ready", "none":
		default:
			errs = append(errs, fmt.Errorf("rolling.wait %q: ready or none", r.Rolling.Wait))
		}
	}
	return errors.Join(errs...)
}

// Targets are the nodes.
func (r *Restart) Targets() []plan.Target { return []plan.Target{r.Target} }

// Inject restarts, and returns when the last node is ready.
func (r *Restart) Inject(ctx context.Context, env *Env) (*Effect, error) {
	nodes, err := env.Resolve(ctx, r.Target)
	if err != nil {
		return nil, err
	}
	var with map[string]string
	if r.With != nil {
		with = r.With.Env
	}
	stopped := map[string]*bool{} // from before the stop of each until its program was started
	for _, n := range nodes {
		down := new(bool)
		stopped[n] = down
		// Of a restart that was cut off, or has failed; one that is over is not taken back.
		env.Undo("start "+n+" again", func(ctx context.Context) error {
			if !*down {
				return nil
			}
			s, err := env.Cluster.Status(n)
			if err == nil && s.State == cluster.StateExited {
				if err = env.Cluster.Start(ctx, n); err == nil {
					err = env.Cluster.AwaitReady(ctx, n)
				}
			}
			return unlessAway(env.Cluster, n, err)
		})
	}
	restart := func(n string) (string, error) {
		// Of what another fault has stopped this would be the start, and the end of that fault before its time.
		switch s, err := env.Cluster.Status(n); {
		case err != nil:
			return "", err
		case s.State != cluster.StateRunning:
			return "", fmt.Errorf("%s is %s: only what runs can be restarted", n, s.State)
		}
		begin := time.Now()
		*stopped[n] = true
		if r.Down.D() > 0 {
			if _, err := env.Cluster.Stop(ctx, n); err != nil {
				return "", err
			}
			if err := wait(ctx, r.Down.D()); err != nil {
				return "", err
			}
		}
		if err := env.Cluster.Restart(ctx, n, with); err != nil {
			return "", err
		}
		*stopped[n] = false
		if r.Rolling == nil || r.Rolling.Wait != "none" {
			if err := env.Cluster.AwaitReady(ctx, n); err != nil {
				return "", fmt.Errorf("%s did not become ready after its restart: %w", n, err)
			}
		}
		s, err := env.Cluster.Status(n)
		if err != nil {
			return "", err
		}
		// The start that is running now must be younger than this fault, or nothing was restarted.
		if !s.Started.After(begin) {
			return "", fmt.Errorf("%s still runs the program that was started before", n)
		}
		return fmt.Sprintf("%s in %v", n, time.Since(begin).Round(time.Millisecond)), nil
	}
	var said []string
	if r.Rolling == nil {
		said, err = each(nodes, restart)
	} else {
		for i, n := range nodes {
			if i > 0 {
				if err = wait(ctx, r.Rolling.Gap.D()); err != nil {
					break
				}
			}
			var s string
			if s, err = restart(n); err != nil {
				break
			}
			said = append(said, s)
		}
	}
	if err != nil {
		return nil, err
	}
	means := "restarted and ready: "
	if r.Rolling != nil && r.Rolling.Wait == "none" {
		means = "restarted: "
	}
	return &Effect{Targets: nodes, Prove: func(context.Context) (string, error) {
		return means + strings.Join(said, ", "), nil
	}}, nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
