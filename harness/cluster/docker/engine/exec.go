package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/moby/moby/client"
)

// ExecSpec is a program to run in a container that runs.
type ExecSpec struct {
	Argv []string
	Env  map[string]string // added to the container's
	Dir  string            // empty: the container's
	User string            // empty: the container's

	Stdin          io.Reader // nil: none. Its end is passed on
	Stdout, Stderr io.Writer // nil: discarded
}

// Exec is a program started by Container.Exec.
type Exec struct {
	pid  int
	done chan struct{} // closed when code and err are there
	code int
	err  error
}

// Exec starts a program in the container, and returns when it was started: ErrNoProgram when it could not be, ErrNotRunning
// when the container does not run.
//
// When ctx ends the harness lets go of the program: Wait returns its cause. The engine has no way to kill such a program; who
// wants it dead signals it from Beside.
func (c *Container) Exec(ctx context.Context, s ExecSpec) (*Exec, error) {
	if len(s.Argv) == 0 {
		return nil, fmt.Errorf("run a program in the container %s: no program was given", c.name)
	}
	did := func(err error) error {
		return fmt.Errorf("run %s in the container %s: %w", s.Argv[0], c.name, Plain(err))
	}
	env := make([]string, 0, len(s.Env))
	for name, value := range s.Env {
		env = append(env, name+"="+value)
	}
	starting, cancel := context.WithTimeout(ctx, createTime)
	defer cancel()
	made, err := c.e.api.ExecCreate(starting, c.id, client.ExecCreateOptions{
		User: s.User, WorkingDir: s.Dir, Env: env, Cmd: s.Argv,
		AttachStdin: s.Stdin != nil, AttachStdout: true, AttachStderr: true,
	})
	if err != nil {
		return nil, did(err)
	}
	res, err := hijack(starting, func() (client.HijackedResponse, error) {
		res, err := c.e.api.ExecAttach(starting, made.ID, client.ExecAttachOptions{})
		return res.HijackedResponse, err
	})
	if err != nil {
		return nil, did(err)
	}
	x := &Exec{done: make(chan struct{})}
	stream := newStream(res, s.Stdin != nil)
	cut := context.AfterFunc(starting, func() { stream.Close() })
	if x.pid, err = c.e.awaitExec(starting, made.ID, stream); err == nil && !cut() {
		err = starting.Err()
	}
	if err != nil {
		return nil, errors.Join(did(err), stream.Close())
	}
	go x.follow(ctx, c, made.ID, stream, s)
	return x, nil
}

// Pid returns the program's process id as the engine's machine numbers it.
func (x *Exec) Pid() int { return x.pid }

// Wait returns the program's exit status, 128 + n after signal n, when it has ended and all of its output was copied. It may
// be called several times. A Stdin that never ends does not hold it up.
func (x *Exec) Wait() (code int, err error) {
	<-x.done
	return x.code, x.err
}

// Statuses by which the engine says that a program could not be started, as shells do. They are also a program's own.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
)

// awaitExec waits until a program was started, and returns its process id.
//
// A program that is not there is no error of the engine's calls: its text comes as the program's standard output and its status
// is 126 or 127. Only the process id, which stays 0, tells it from a program that ended so.
func (e *Engine) awaitExec(ctx context.Context, id string, stream *Stream) (int, error) {
	pid, seen := 0, false
	err := poll(ctx, func() (bool, error) {
		in, err := e.api.ExecInspect(ctx, id, client.ExecInspectOptions{})
		if err != nil {
			return false, err
		}
		if pid = in.PID; pid != 0 {
			return true, nil
		}
		failed := !in.Running && (in.ExitCode == exitNotExecutable || in.ExitCode == exitNotFound)
		if failed && seen { // twice: the status of a program that ended at once may be there before its process id
			return false, startFailure(stream)
		}
		seen = failed
		return false, nil
	})
	return pid, err
}

// startFailure reads why a program could not be started.
func startFailure(stream *Stream) error {
	var text bytes.Buffer
	if err := stream.Copy(&text, &text); err != nil {
		return fmt.Errorf("read why it could not be started: %w", err)
	}
	err := plainStart(errors.New(strings.TrimSpace(text.String())))
	if !errors.Is(err, ErrNoProgram) {
		err = &plainError{is: ErrNoProgram, err: err}
	}
	return err
}

// follow copies the program's streams, learns its status and closes done.
func (x *Exec) follow(ctx context.Context, c *Container, id string, stream *Stream, s ExecSpec) {
	defer close(x.done)
	cut := context.AfterFunc(ctx, func() { stream.Close() })
	defer cut()
	if s.Stdin != nil {
		// It ends with the input, or at the first write after the program has ended.
		go func() {
			_, _ = io.Copy(stream.Stdin, s.Stdin) // a program need not read all of its input
			_ = stream.Stdin.Close()
		}()
	}
	copyErr := stream.Copy(s.Stdout, s.Stderr)
	// The status may come later than the end of the output.
	err := poll(ctx, func() (bool, error) {
		in, err := c.e.api.ExecInspect(ctx, id, client.ExecInspectOptions{})
		x.code = in.ExitCode
		return err == nil && !in.Running, err
	})
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case err == nil:
		err = copyErr
	}
	if err != nil {
		x.err = fmt.Errorf("follow %s in the container %s: %w", s.Argv[0], c.name, Plain(err))
	}
	_ = stream.Close() // it has ended already, or err says why not
}
