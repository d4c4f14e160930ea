package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// Container is a container of a run. Its methods may be called from several goroutines.
type Container struct {
	e     *Engine
	id    string
	name  string
	stdin bool

	joined bool // it is on a network
}

// createTime bounds the making of one container or network.
const createTime = 60 * time.Second

// lasting is ctx but for its end: a call that is cancelled goes on in the engine, and what it makes would come after the run was
// removed. So the making of something is waited for, though not for ever.
func lasting(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), createTime)
}

// Create makes a container, with its files in it, and does not start it. Nothing is left of one that failed, or whose ctx ended
// meanwhile.
func (r *Run) Create(ctx context.Context, s Spec) (*Container, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	provider, err := r.e.provider()
	if err != nil {
		return nil, err
	}
	labels := map[string]string{LabelRole: s.Role}
	if s.Node != "" {
		labels[LabelNode] = s.Node
	}
	c := &Container{e: r.e, name: r.full(s.Name), stdin: s.Stdin, joined: s.Network != nil}
	within, cancel := lasting(ctx)
	defer cancel()
	made, err := provider.CreateContainer(within, testcontainers.ContainerRequest{
		Name: c.name, Image: s.Image, Entrypoint: s.Entrypoint, Cmd: s.Cmd, Env: s.Env, Labels: r.labels(labels),
		ConfigModifier: s.config, HostConfigModifier: s.host, EndpointSettingsModifier: s.endpoints,
	})
	if made != nil { // also on some errors
		c.id = made.GetContainerID()
	}
	if err == nil {
		err = c.upload(within, s)
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		err = fmt.Errorf("make the container %s of the image %s: %w", c.name, s.Image, Plain(err))
		if c.id != "" {
			err = errors.Join(err, c.Discard(ctx))
		}
		return nil, err
	}
	return c, nil
}

// ID returns the engine's id of the container.
func (c *Container) ID() string { return c.id }

// Name returns the engine's name of the container.
func (c *Container) Name() string { return c.name }

// did adds to an error what was being done to the container.
func (c *Container) did(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s the container %s: %w", what, c.name, Plain(err))
}

// Start starts the container's program. The error quotes the engine; ErrNoProgram when there was nothing to start.
func (c *Container) Start(ctx context.Context) error {
	if _, err := c.e.api.ContainerStart(ctx, c.id, client.ContainerStartOptions{}); err != nil {
		return c.did("start", plainStart(err))
	}
	return nil
}

// Kill sends a signal (SIGHUP, HUP or 1) to process 1 of the container; others get what it passes on. After SIGKILL,
// which ends all, it returns when they have ended. A paused container is resumed to get it. ErrNotRunning when there is none.
func (c *Container) Kill(ctx context.Context, signal string) error {
	if _, err := c.e.api.ContainerKill(ctx, c.id, client.ContainerKillOptions{Signal: signal}); err != nil {
		return c.did("send "+signal+" to", err)
	}
	if signal == "SIGKILL" || signal == "KILL" || signal == "9" {
		_, err := c.Wait(ctx) // engines give up after 10 s
		return err
	}
	return nil
}

// Stop sends a signal, waits for the grace, then kills. It returns when the program has ended; one that was not running is
// no error.
//
// The engine's own stop takes whole seconds, and a signal only since API 1.42.
func (c *Container) Stop(ctx context.Context, signal string, grace time.Duration) error {
	err := c.Kill(ctx, signal)
	if err == nil {
		err = c.waitFor(ctx, grace)
	}
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = c.Kill(ctx, "SIGKILL")
	}
	if errors.Is(err, ErrNotRunning) {
		return nil
	}
	return err
}

// waitFor is Wait for a limited time.
func (c *Container) waitFor(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, err := c.Wait(ctx)
	return err
}

// Wait returns the exit status of the program when it is not running: 128 + n after signal n, as shells have it.
func (c *Container) Wait(ctx context.Context) (int, error) {
	w := c.e.api.ContainerWait(ctx, c.id, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	// One of the two always comes, also when ctx ends. To leave without would leave the client's goroutine.
	select {
	case res := <-w.Result:
		if res.Error != nil {
			return 0, c.did("wait for", errors.New(res.Error.Message))
		}
		return int(res.StatusCode), nil
	case err := <-w.Error:
		if ctx.Err() != nil {
			err = ctx.Err() // a cut answer looks like a broken connection
		}
		return 0, c.did("wait for", err)
	}
}

// Pause stops every process of the container by the kernel's freezer; Unpause is its inverse.
func (c *Container) Pause(ctx context.Context) error {
	_, err := c.e.api.ContainerPause(ctx, c.id, client.ContainerPauseOptions{})
	return c.did("pause", err)
}

// Unpause resumes what Pause stopped.
func (c *Container) Unpause(ctx context.Context) error {
	_, err := c.e.api.ContainerUnpause(ctx, c.id, client.ContainerUnpauseOptions{})
	return c.did("resume", err)
}

// Limit sets the container's limits, running or not. What is zero is not limited any more.
func (c *Container) Limit(ctx context.Context, l cluster.Limits) error {
	r := update(l)
	_, err := c.e.api.ContainerUpdate(ctx, c.id, client.ContainerUpdateOptions{Resources: &r})
	return c.did("limit", err)
}

// Remove kills and removes the container and its unnamed volumes. One that is gone is no error.
func (c *Container) Remove(ctx context.Context) error {
	return c.e.removeContainer(ctx, thing{kind: "container", id: c.id, name: c.name, joined: c.joined})
}

// discardTime bounds the removal of a container that came to nothing: what is left of it goes with its run.
const discardTime = 20 * time.Second

// Discard is Remove also when ctx has ended, for a container that came to nothing: another of its name may follow.
func (c *Container) Discard(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardTime)
	defer cancel()
	return c.Remove(ctx)
}

// State is the present state of a container.
type State struct {
	Running   bool // also while paused
	Paused    bool
	ExitCode  int    // of the last program, when it is not running: 128 + n after signal n
	OOMKilled bool   // a process of the last program was killed for want of memory
	Pid       int    // of process 1, as the engine's machine numbers it; 0: not running
	Error     string // why the last start failed
	// By the engine's clock. Zero: never.
	Started, Finished time.Time
}

// Inspect returns the present state. ErrNoContainer when it was removed.
func (c *Container) Inspect(ctx context.Context) (State, error) {
	res, err := c.e.api.ContainerInspect(ctx, c.id, client.ContainerInspectOptions{})
	if err != nil {
		return State{}, c.did("look at", err)
	}
	in := res.Container.State
	return State{
		Running: in.Running, Paused: in.Paused, ExitCode: in.ExitCode, OOMKilled: in.OOMKilled, Pid: in.Pid, Error: in.Error,
		Started: engineTime(in.StartedAt), Finished: engineTime(in.FinishedAt),
	}, nil
}

// engineTime reads a time of the engine, whose zero is the year 1, as Go's.
func engineTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{} // empty: never
	}
	return t
}
