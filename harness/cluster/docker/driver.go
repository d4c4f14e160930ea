// Package docker is the driver for a container engine: Docker, rootless Docker, or Podman's socket.
//
// Each node is two containers, as in a pod: one that owns the network namespace and whose only way out is the plane, and one with
// the program, which shares it. So the node's address stays when its program is killed, and a connection to it is
// refused, as on a host. The plane is one more container, in the middle of an internal network.
//
// The harness reaches the plane and the nodes' networks over the standard streams of their containers and needs
// nothing else of the engine than its API: no port, no shared directory, no route to its bridge.
//
// Importing it makes the executable, a test binary too, the plane and the pods of its containers: see package agent.
package docker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/docker/engine"
	"github.com/hasvc/gauntlet/harness/cluster/docker/images"
	"github.com/hasvc/gauntlet/harness/cluster/supervise"
)

// Driver starts topologies in containers. The zero value is ready.
type Driver struct{}

// New returns the driver.
func New() Driver { return Driver{} }

// Name implements cluster.Driver.
func (Driver) Name() string { return "docker" }

// Capabilities implements cluster.Driver. The answer is found once in the life of the process.
func (Driver) Capabilities() cluster.Capabilities { return capabilities() }

// connectTime is how long an engine may take to say who it is.
const connectTime = 10 * time.Second

var capabilities = sync.OnceValue(func() cluster.Capabilities {
	ctx, cancel := context.WithTimeout(context.Background(), connectTime)
	defer cancel()
	caps := cluster.Capabilities{}
	all := []cluster.Capability{cluster.PacketRules, cluster.PacketDelay, cluster.Toxics, cluster.Signals, cluster.CPULimit, cluster.MemoryLimit}
	e, err := engine.Connect(ctx)
	for _, c := range all {
		caps[c] = err
	}
	if err != nil {
		return caps
	}
	defer e.Close()
	caps[cluster.CPULimit], caps[cluster.MemoryLimit] = e.CPULimit(), e.MemoryLimit()
	return caps
})

// settle is longer than the engine takes to say that a program has ended: 30 to 60 ms on an idle machine, and more than 300 on a slow one
// beside other work. Only programs without a ready condition or healthcheck wait for it.
const settle = time.Second

// atOnce is longer than a program in a new container takes to say that its flags are wrong: more than 20 ms on a slow machine.
const atOnce = 250 * time.Millisecond

// Up implements cluster.Driver.
func (Driver) Up(ctx context.Context, spec *cluster.Spec, opt cluster.Options) (cluster.Cluster, error) {
	if err := check(spec); err != nil {
		return nil, err
	}
	opt, err := supervise.Absolute(opt)
	if err != nil {
		return nil, err
	}
	c, err := newCarrier(ctx, spec, opt)
	if err != nil {
		return nil, err
	}
	t, err := supervise.Up(ctx, c, supervise.Config{
		Spec: spec, Options: opt, Settle: settle, AtOnce: atOnce, StopSignal: c.stopSignal,
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// check says everything that is wrong with a spec, before anything starts.
func check(spec *cluster.Spec) error {
	return supervise.Check(spec, func(s *cluster.Service) (errs []error) {
		if s.Argv0 == "" && s.Source.Build == nil && s.Source.Image == "" {
			errs = append(errs, errors.New("it has neither a program nor an image"))
		}
		if s.Argv0 != "" {
			if _, err := supervise.FindUser(s.User); err != nil {
				errs = append(errs, err)
			}
		}
		return errs
	})
}

// Doctor tries an engine stage by stage.
func Doctor(ctx context.Context) []engine.Stage { return engine.Doctor(ctx) }

// Clean removes what topologies left whose harness is dead, and, while none stands whose harness lives, the images that this package
// made and nothing uses, and returns their names. Where there is no engine, or none that this user may use, there is nothing to clean; one that does not answer
// is an error, for what is left there goes on.
func Clean(ctx context.Context) (removed []string, err error) {
	e, err := engine.Connect(ctx)
	var ce *engine.ConnectError
	if errors.Is(err, engine.ErrNoEngine) || errors.As(err, &ce) && ce.Stage == "permission" {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for what was left in containers: %w", err)
	}
	defer e.Close()
	removed, err = e.Sweep(ctx)
	lives, livesErr := e.Lives(ctx)
	if err = errors.Join(err, livesErr); lives || livesErr != nil {
		return removed, err // a run that starts has its images before the containers that use them
	}
	old, cleanErr := images.New(e.API()).Clean(ctx)
	return append(removed, old...), errors.Join(err, cleanErr)
}

// RemoveVolumes implements cluster.VolumeKeeper.
func (Driver) RemoveVolumes(ctx context.Context, dir string, names ...string) error {
	key, err := volumesKey(dir)
	if err != nil {
		return fmt.Errorf("remove volumes: %w", err)
	}
	if key == "" {
		return nil // it never had any
	}
	e, err := engine.Connect(ctx)
	if err != nil {
		return fmt.Errorf("remove volumes: %w", err)
	}
	defer e.Close()
	if len(names) == 0 {
		return e.RemoveVolumes(ctx, volumeLabels(key, ""))
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, e.RemoveVolumes(ctx, volumeLabels(key, name)))
	}
	return errors.Join(errs...)
}
