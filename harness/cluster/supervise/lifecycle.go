package supervise

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// orderTime bounds what a carrier is asked for when a program is to end, whoever has lost patience meanwhile: half a stop is worse
// than a late one, and a carrier that does not answer must not hold the end of the topology up for ever.
const orderTime = 15 * time.Second

// changing runs f while nothing else changes the node's program, and returns when what happened was observed.
func (t *Topology) changing(ctx context.Context, name string, f func(*Node) error) error {
	n, err := t.living(name)
	if err != nil {
		return err
	}
	if err := n.op.lock(ctx); err != nil {
		return fmt.Errorf("node %s is being changed by another: %w", name, err)
	}
	defer n.op.unlock()
	if n.Service == nil {
		return fmt.Errorf("node %s has no program of its own", name)
	}
	if _, err := n.made(); err != nil {
		return err
	}
	err = f(n)
	t.events.flush(ctx)
	return err
}

// Kill implements cluster.Lifecycle.
func (t *Topology) Kill(ctx context.Context, name string) (exit cluster.Exit, err error) {
	err = t.changing(ctx, name, func(n *Node) error {
		exit, err = n.kill(ctx)
		return err
	})
	return exit, err
}

// kill ends every process of the node. The caller holds op.
func (n *Node) kill(ctx context.Context) (cluster.Exit, error) {
	r, err := n.announce()
	if err != nil {
		return cluster.Exit{}, err
	}
	n.emit(cluster.NodeSignalled, time.Now(), SignalName(unix.SIGKILL))
	if err := n.where().Kill(ctx); err != nil {
		return cluster.Exit{}, fmt.Errorf("kill node %s: %w", n.Info.Name, err)
	}
	return n.awaitDeath(ctx, r)
}

// announce notes that the harness asks for the death of the running program.
func (n *Node) announce() (*run, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.run == nil || !n.run.alive {
		return nil, fmt.Errorf("node %s is not running", n.Info.Name)
	}
	n.run.announced = true
	return n.run, nil
}

func (n *Node) awaitDeath(ctx context.Context, r *run) (cluster.Exit, error) {
	select {
	case <-r.ended:
		r.awaitWritten()
		return *r.exit, nil
	case <-n.t.died: // with every program; nobody tells their ends
		return cluster.Exit{}, fmt.Errorf("wait for the end of node %s: %w", n.Info.Name, n.t.Err())
	case <-ctx.Done():
		return cluster.Exit{}, fmt.Errorf("wait for the end of node %s: %w", n.Info.Name, ctx.Err())
	}
}

// Start implements cluster.Lifecycle.
func (t *Topology) Start(ctx context.Context, name string) error {
	return t.changing(ctx, name, func(n *Node) error { return n.start(ctx) })
}

// Stop implements cluster.Lifecycle.
func (t *Topology) Stop(ctx context.Context, name string) (exit cluster.Exit, err error) {
	err = t.changing(ctx, name, func(n *Node) error {
		exit, err = n.stop(ctx)
		return err
	})
	return exit, err
}

// stop sends the stop signal to the program alone, as a container's init does, and kills the node when the grace is
// over or ctx ends. The caller holds op.
func (n *Node) stop(ctx context.Context) (cluster.Exit, error) {
	sig, grace := unix.SIGTERM, n.Service.StopGrace
	s := n.Service.StopSignal
	if s == "" && n.t.cfg.StopSignal != nil {
		s = n.t.cfg.StopSignal(n.Service)
	}
	if s != "" {
		var err error
		if sig, err = ParseSignal(s); err != nil {
			return cluster.Exit{}, fmt.Errorf("stop node %s: %w", n.Info.Name, err)
		}
	}
	n.mu.Lock()
	n.wanted = false // as docker stop: the restart policy is over until the next start
	paused := n.state == cluster.StatePaused
	n.mu.Unlock()
	r, err := n.announce()
	if err != nil {
		return cluster.Exit{}, err
	}
	n.emit(cluster.NodeSignalled, time.Now(), SignalName(sig))
	telling, told := context.WithTimeout(context.WithoutCancel(ctx), orderTime)
	defer told()
	if err := n.where().Terminate(telling, sig, paused); err != nil {
		return cluster.Exit{}, fmt.Errorf("stop node %s: %w", n.Info.Name, err)
	}
	within, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if x, err := n.awaitDeath(within, r); err == nil {
		return x, nil
	}
	return n.killRest(ctx, r)
}

// killRest ends what did not end by itself, also when ctx has ended. What ended as the grace did is not signalled: a signal after the
// death would be told of.
func (n *Node) killRest(ctx context.Context, r *run) (cluster.Exit, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), orderTime)
	defer cancel()
	n.mu.Lock()
	dead := r.exit != nil
	if !dead {
		n.emit(cluster.NodeSignalled, time.Now(), SignalName(unix.SIGKILL))
	}
	n.mu.Unlock()
	if dead {
		return n.awaitDeath(ctx, r)
	}
	if err := n.where().Kill(ctx); err != nil && !errors.Is(err, ErrGone) {
		return cluster.Exit{}, fmt.Errorf("kill node %s after its grace: %w", n.Info.Name, err)
	}
	return n.awaitDeath(ctx, r)
}

// Restart implements cluster.Lifecycle.
func (t *Topology) Restart(ctx context.Context, name string, env map[string]string) error {
	return t.changing(ctx, name, func(n *Node) error {
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
func (t *Topology) Pause(ctx context.Context, name string) error {
	return t.changing(ctx, name, func(n *Node) error {
		if s := n.present(); s != cluster.StateRunning {
			return fmt.Errorf("pause node %s: it is %s", name, s)
		}
		if err := n.where().Pause(ctx); err != nil {
			return fmt.Errorf("pause node %s: %w", name, errors.Join(err, n.rouse(ctx)))
		}
		n.turn(cluster.StateRunning, cluster.StatePaused, cluster.NodePaused)
		return nil
	})
}

// rouseTime bounds the waking of a node that could not be paused.
const rouseTime = 10 * time.Second

// rouse wakes what a pause that failed has stopped: the node's state says that it runs.
func (n *Node) rouse(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rouseTime)
	defer cancel()
	return n.where().Resume(ctx)
}

// Resume implements cluster.Lifecycle.
func (t *Topology) Resume(ctx context.Context, name string) error {
	return t.changing(ctx, name, func(n *Node) error {
		if s := n.present(); s != cluster.StatePaused {
			return fmt.Errorf("resume node %s: it is %s", name, s)
		}
		if err := n.where().Resume(ctx); err != nil {
			return fmt.Errorf("resume node %s: %w", name, err)
		}
		n.turn(cluster.StatePaused, cluster.StateRunning, cluster.NodeResumed)
		return nil
	})
}

func (n *Node) present() cluster.State {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state
}

// turn changes the state unless the program died meanwhile.
func (n *Node) turn(from, to cluster.State, kind cluster.EventKind) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.state == from {
		n.state = to
		n.emit(kind, time.Now(), "")
		n.touch()
	}
}

// Signal implements cluster.Lifecycle.
func (t *Topology) Signal(ctx context.Context, name, signal, process string) (int, error) {
	n, err := t.living(name)
	if err != nil {
		return 0, err
	}
	sig, err := ParseSignal(signal)
	if err != nil {
		return 0, fmt.Errorf("signal node %s: %w", name, err)
	}
	place, err := n.made()
	if err != nil {
		return 0, err
	}
	sent := n.sending(sig)
	got, err := place.Signal(ctx, sig, process)
	maybe := err != nil // it may have come after the signal
	sent(got.Program || maybe && process == "", got.Count > 0 || maybe)
	t.events.flush(ctx)
	if err != nil {
		return 0, fmt.Errorf("signal node %s: %w", name, err)
	}
	if got.Count == 0 {
		if process != "" {
			return 0, fmt.Errorf("no process of node %s has %q in its command line", name, process)
		}
		return 0, fmt.Errorf("node %s has no process to signal", name)
	}
	return got.Count, nil
}

// sending notes that a signal is on its way to processes of the node; sent, whether the program is one of them, or any: only then was the
// node signalled, or processes of it, at the time before the sending. The program's death is told after that, since it may be the
// signal's doing.
func (n *Node) sending(sig syscall.Signal) (sent func(program, any bool)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r, a := n.run, asked{sig, time.Now(), n.state == cluster.StatePaused}
	if r == nil || !r.alive {
		return func(bool, bool) {}
	}
	r.sending++
	return func(program, any bool) {
		n.mu.Lock()
		defer n.mu.Unlock()
		switch {
		case program:
			r.signals = append(r.signals, a)
			n.emit(cluster.NodeSignalled, a.at, SignalName(sig))
		case any:
			n.emit(cluster.ProcessSignalled, a.at, SignalName(sig))
		}
		if r.sending--; r.sending == 0 && r.exit != nil {
			n.finish(r)
		}
	}
}

// AwaitReady implements cluster.Lifecycle.
func (t *Topology) AwaitReady(ctx context.Context, name string) error {
	n, err := t.living(name)
	if err != nil {
		return err
	}
	defer t.events.flush(ctx)
	return n.awaitReady(ctx)
}

// Hold implements cluster.Lifecycle.
func (t *Topology) Hold(name string) (release func()) {
	n, err := t.living(name)
	if err != nil {
		return func() {}
	}
	return n.hold()
}
