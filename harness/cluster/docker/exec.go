package docker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/docker/engine"
	"github.com/hasvc/gauntlet/harness/cluster/supervise"
)

// execVariable marks the environment of a program that was run beside a node's own, and of what it starts: the engine
// has no way to signal such a program, so it is found by the mark.
const execVariable = "GAUNTLET_EXEC"

// execution is a program that was started beside a node's own.
type execution struct {
	place *place
	mark  string
	done  chan struct{} // closed when the result is there
	exit  cluster.Exit
	err   error
}

// Exec implements supervise.Place.
func (p *place) Exec(ctx context.Context, proc cluster.Process) (cluster.Execution, error) {
	container, err := p.present()
	if err != nil {
		return nil, err
	}
	if len(proc.Argv) == 0 {
		return nil, errors.New("no program is named")
	}
	x := &execution{place: p, mark: rand.Text(), done: make(chan struct{})}
	env := map[string]string{execVariable: x.mark}
	maps.Copy(env, proc.Env)
	// The engine lets go of a program whose context ends: this one is killed when ctx does.
	within, letGo := context.WithCancelCause(p.c.streams)
	run, err := container.Exec(within, engine.ExecSpec{Argv: proc.Argv, Env: env, Stdin: proc.Stdin, Stdout: proc.Stdout, Stderr: proc.Stderr})
	if err != nil {
		letGo(nil)
		return nil, err
	}
	p.node.Topology().Go(func() { x.finish(ctx, run, letGo) })
	return x, nil
}

// finish waits for the program and its output. One that cannot be killed when ctx ends is let go.
func (x *execution) finish(ctx context.Context, run *engine.Exec, letGo context.CancelCauseFunc) {
	defer letGo(nil)
	ended := make(chan struct{})
	var killing sync.WaitGroup
	killing.Go(func() {
		select {
		case <-ctx.Done():
			if x.place.node.Topology().Life().Err() != nil {
				return // the topology ends, and the container with it; who would kill it now would come after the list of what is to be removed
			}
			letGo(killUntil(ended, func() error {
				_, err := x.signal(syscall.SIGKILL) // one that has ended already is no matter
				return err
			}))
		case <-ended:
		}
	})
	code, err := run.Wait()
	close(ended)
	killing.Wait()
	x.exit, x.err = exitOf(code, time.Now()), err
	close(x.done)
}

// killTime bounds the killing of a program that was let go; killAgain is the pause between two attempts.
const (
	killTime  = 20 * time.Second
	killAgain = time.Second
)

// killUntil kills a program until it has ended. The error is of one that has not in all that time.
func killUntil(ended <-chan struct{}, kill func() error) error {
	for deadline := time.Now().Add(killTime); ; {
		err := kill()
		again := time.NewTimer(killAgain)
		select {
		case <-ended:
			again.Stop()
			return nil
		case <-again.C:
		}
		if time.Now().After(deadline) {
			return errors.Join(errors.New("it could not be killed"), err)
		}
	}
}

// Wait implements cluster.Execution.
func (x *execution) Wait() (cluster.Exit, error) {
	<-x.done
	return x.exit, x.err
}

// Signal implements cluster.Execution.
func (x *execution) Signal(sig string) error {
	s, err := supervise.ParseSignal(sig)
	if err != nil {
		return err
	}
	got, err := x.signal(s)
	if err != nil {
		return fmt.Errorf("signal a program in node %s: %w", x.place.node.Info.Name, err)
	}
	if got.Count == 0 {
		return fmt.Errorf("signal a program in node %s: %w", x.place.node.Info.Name, os.ErrProcessDone)
	}
	return nil
}

// signalTime bounds the signalling of a program whose caller does not wait any more.
const signalTime = 10 * time.Second

func (x *execution) signal(sig syscall.Signal) (supervise.Signalled, error) {
	ctx, cancel := context.WithTimeout(context.Background(), signalTime)
	defer cancel()
	got, _, err := x.place.signal(ctx, sig, "-env", execVariable+"="+x.mark) // the first process was not started by it
	return got, err
}
