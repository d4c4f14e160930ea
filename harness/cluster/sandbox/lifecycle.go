package sandbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/sandbox/nodeinit"
)

// defaultGrace is Compose's stop_grace_period.
const defaultGrace = 10 * time.Second

// changing runs f while nothing else changes the node's program, and returns when what happened was observed.
func (c *sandbox) changing(ctx context.Context, name string, f func(*node) error) error {
	n, err := c.living(name)
	if err != nil {
		return err
	}
	if err := n.op.lock(ctx); err != nil {
		return fmt.Errorf("node %s is being changed by another: %w", name, err)
	}
	defer n.op.unlock()
	if n.service == nil {
		return fmt.Errorf("node %s has no program of its own", name)
	}
	err = f(n)
	c.events.flush(ctx)
	return err
}

// Kill implements cluster.Lifecycle.
func (c *sandbox) Kill(ctx context.Context, name string) (exit cluster.Exit, err error) {
	err = c.changing(ctx, name, func(n *node) error {
		exit, err = n.kill(ctx)
		return err
	})
	return exit, err
}

// kill ends every process of the node. The caller holds op.
func (n *node) kill(ctx context.Context) (cluster.Exit, error) {
	r, err := n.announce()
	if err != nil {
		return cluster.Exit{}, err
	}
	if _, err := n.control.call(ctx, nodeinit.Request{Op: nodeinit.OpKill}); err != nil {
		return cluster.Exit{}, fmt.Errorf("kill node %s: %w", n.info.Name, err)
	}
	return n.awaitDeath(ctx, r)
}

// announce notes that the harness asks for the death of the running program.
func (n *node) announce() (*run, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.run == nil || !n.run.alive {
		return nil, fmt.Errorf("node %s is not running", n.info.Name)
	}
	n.run.announced = true
	return n.run, nil
}

func (n *node) awaitDeath(ctx context.Context, r *run) (cluster.Exit, error) {
	select {
	case <-r.ended:
		r.awaitWritten()
		return exitOf(*r.exit), nil
	case <-ctx.Done():
		return cluster.Exit{}, fmt.Errorf("wait for the end of node %s: %w", n.info.Name, ctx.Err())
	}
}

// Start implements cluster.Lifecycle.
func (c *sandbox) Start(ctx context.Context, name string) error {
	return c.changing(ctx, name, func(n *node) error { return n.start(ctx) })
}

// Stop implements cluster.Lifecycle.
func (c *sandbox) Stop(ctx context.Context, name string) (exit cluster.Exit, err error) {
	err = c.changing(ctx, name, func(n *node) error {
		exit, err = n.stop(ctx)
		return err
	})
	return exit, err
}

// stop sends the stop signal to the program alone, as a container's init does, and kills the node when the grace is
// over or ctx ends. The caller holds op.
func (n *node) stop(ctx context.Context) (cluster.Exit, error) {
	sig, grace := unix.SIGTERM, n.service.StopGrace
	if s := n.service.StopSignal; s != "" {
		var err error
		if sig, err = parseSignal(s); err != nil {
			return cluster.Exit{}, fmt.Errorf("stop node %s: %w", n.info.Name, err)
		}
	}
	if grace == 0 {
		grace = defaultGrace
	}
	n.mu.Lock()
	n.wanted = false // as docker stop: the restart policy is over until the next start
	paused := n.state == cluster.StatePaused
	n.mu.Unlock()
	r, err := n.announce()
	if err != nil {
		return cluster.Exit{}, err
	}
	unbound := context.WithoutCancel(ctx)
	if _, err := n.control.call(unbound, nodeinit.Request{Op: nodeinit.OpSignal, Signal: &nodeinit.Signal{Signal: sig, Main: true}}); err != nil {
		return cluster.Exit{}, fmt.Errorf("stop node %s: %w", n.info.Name, err)
	}
	if paused {
		// A stopped program cannot act on the signal.
		if _, err := n.control.call(unbound, nodeinit.Request{Op: nodeinit.OpResume}); err != nil {
			return cluster.Exit{}, fmt.Errorf("stop node %s: %w", n.info.Name, err)
		}
	}
	within, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if x, err := n.awaitDeath(within, r); err == nil {
		return x, nil
	}
	return n.killRest(unbound, r)
}

// killRest ends what did not end by itself.
func (n *node) killRest(ctx context.Context, r *run) (cluster.Exit, error) {
	if _, err := n.control.call(ctx, nodeinit.Request{Op: nodeinit.OpKill}); err != nil && !errors.Is(err, errInitGone) {
		return cluster.Exit{}, fmt.Errorf("kill node %s after its grace: %w", n.info.Name, err)
	}
	return n.awaitDeath(ctx, r)
}

// Restart implements cluster.Lifecycle.
func (c *sandbox) Restart(ctx context.Context, name string, env map[string]string) error {
	return c.changing(ctx, name, func(n *node) error {
		n.mu.Lock()
		running := n.run != nil && n.run.alive
		n.mu.Unlock()
		if running {
			if _, err := n.stop(ctx); err != nil {
				return err
			}
		}
		n.mu.Lock()
		if env != nil {
			if n.env == nil {
				n.env = map[string]string{}
			}
			maps.Copy(n.env, env)
		}
		n.mu.Unlock()
		return n.start(ctx)
	})
}

// Pause implements cluster.Lifecycle.
func (c *sandbox) Pause(ctx context.Context, name string) error {
	return c.changing(ctx, name, func(n *node) error {
		if s := n.present(); s != cluster.StateRunning {
			return fmt.Errorf("pause node %s: it is %s", name, s)
		}
		if _, err := n.control.call(ctx, nodeinit.Request{Op: nodeinit.OpPause}); err != nil {
			return fmt.Errorf("pause node %s: %w", name, err)
		}
		n.turn(cluster.StateRunning, cluster.StatePaused, cluster.NodePaused)
		return nil
	})
}

// Resume implements cluster.Lifecycle.
func (c *sandbox) Resume(ctx context.Context, name string) error {
	return c.changing(ctx, name, func(n *node) error {
		if s := n.present(); s != cluster.StatePaused {
			return fmt.Errorf("resume node %s: it is %s", name, s)
		}
		if _, err := n.control.call(ctx, nodeinit.Request{Op: nodeinit.OpResume}); err != nil {
			return fmt.Errorf("resume node %s: %w", name, err)
		}
		n.turn(cluster.StatePaused, cluster.StateRunning, cluster.NodeResumed)
		return nil
	})
}

func (n *node) present() cluster.State {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state
}

// turn changes the state unless the program died meanwhile.
func (n *node) turn(from, to cluster.State, kind cluster.EventKind) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.state == from {
		n.state = to
		n.emit(kind, time.Now(), "")
		n.touch()
	}
}

// Signal implements cluster.Lifecycle.
func (c *sandbox) Signal(ctx context.Context, name, signal, process string) (int, error) {
	n, err := c.living(name)
	if err != nil {
		return 0, err
	}
	sig, err := parseSignal(signal)
	if err != nil {
		return 0, fmt.Errorf("signal node %s: %w", name, err)
	}
	n.mu.Lock()
	if n.run != nil && n.run.alive {
		n.run.signals = append(n.run.signals, asked{sig, time.Now()})
	}
	n.mu.Unlock()
	rep, err := n.control.call(ctx, nodeinit.Request{Op: nodeinit.OpSignal, Signal: &nodeinit.Signal{Signal: sig, Match: process}})
	if err != nil {
		return 0, fmt.Errorf("signal node %s: %w", name, err)
	}
	if rep.Count == 0 {
		if process != "" {
			return 0, fmt.Errorf("no process of node %s has %q in its command line", name, process)
		}
		return 0, fmt.Errorf("node %s has no process to signal", name)
	}
	return rep.Count, nil
}

// AwaitReady implements cluster.Lifecycle.
func (c *sandbox) AwaitReady(ctx context.Context, name string) error {
	n, err := c.living(name)
	if err != nil {
		return err
	}
	defer c.events.flush(ctx)
	return n.awaitReady(ctx)
}

// Hold implements cluster.Lifecycle.
func (c *sandbox) Hold(name string) (release func()) {
	n, err := c.living(name)
	if err != nil {
		return func() {}
	}
	return n.hold()
}
