package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// Do is an action: it runs a program in a node, or sends a signal. It has no undo; its exit status is its proof.
type Do struct {
	Exec       []string   `json:"exec,omitempty"`
	In         string     `json:"in,omitempty"`         // the node of exec; default client
	Background bool       `json:"background,omitempty"` // do not wait for its end; it is ended with the fault phase
	Loop       bool       `json:"loop,omitempty"`       // with background: again and again until the fault phase ends
	Exit       ExitStatus `json:"exit,omitzero"`        // what it must exit with; default 0. With any, having started is the proof

	Signal      string `json:"signal,omitempty"`  // HUP, SIGHUP or 1
	Process     string `json:"process,omitempty"` // of signal: a part of the command line; default every process of the node
	plan.Target        // of signal
}

// ExitStatus is a number, or "any".
type ExitStatus string

// UnmarshalJSON reads a number or a word.
func (e *ExitStatus) UnmarshalJSON(b []byte) error {
	var n int
	if json.Unmarshal(b, &n) == nil {
		*e = ExitStatus(strconv.Itoa(n))
		return nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("exit is a number or any: %w", err)
	}
	*e = ExitStatus(s)
	return nil
}

func (e ExitStatus) holds(x cluster.Exit) bool {
	switch e {
	case "any":
		return true
	case "":
		return x.Signal == "" && x.Code == 0
	}
	n, err := strconv.Atoi(string(e))
	return err == nil && x.Signal == "" && x.Code == n
}

// Validate returns every error.
func (d *Do) Validate() error {
	var errs []error
	if (len(d.Exec) > 0) == (d.Signal != "") {
		errs = append(errs, errors.New("one of exec and signal"))
	}
	if d.Signal != "" {
		errs = append(errs, ValidateTarget(d.Target))
		if d.In != "" || d.Background || d.Loop || d.Exit != "" {
			errs = append(errs, errors.New("in, background, loop and exit belong to exec"))
		}
	} else {
		if d.Target != (plan.Target{}) || d.Process != "" {
			errs = append(errs, errors.New("node, service, group, zone, pick and process belong to signal; exec runs in one node: in"))
		}
		if d.Loop && !d.Background {
			errs = append(errs, errors.New("loop needs background"))
		}
		if d.Exit != "" && d.Exit != "any" {
			if n, err := strconv.Atoi(string(d.Exit)); err != nil || n < 0 || n > 255 {
				errs = append(errs, fmt.Errorf("exit %q: 0 to 255, or any", d.Exit))
			}
		}
	}
	return errors.Join(errs...)
}

// Targets are the nodes of a signal, or the one of exec.
func (d *Do) Targets() []plan.Target {
	if d.Signal != "" {
		return []plan.Target{d.Target}
	}
	return []plan.Target{{Any: d.in()}}
}

func (d *Do) in() string {
	if d.In == "" {
		return cluster.Client
	}
	return d.In
}

// Inject acts.
func (d *Do) Inject(ctx context.Context, env *Env) (*Effect, error) {
	switch {
	case d.Signal != "":
		return d.signal(ctx, env)
	case d.Background:
		return d.background(ctx, env)
	}
	out := &tail{}
	x, err := env.Cluster.Exec(ctx, d.in(), cluster.Process{Argv: d.Exec, Stdout: out, Stderr: out})
	if err != nil {
		return nil, fmt.Errorf("run %s in %s: %w", d.Exec[0], d.in(), err)
	}
	exit, err := x.Wait()
	if err != nil {
		return nil, fmt.Errorf("run %s in %s: %w", d.Exec[0], d.in(), err)
	}
	if !d.Exit.holds(exit) {
		return nil, fmt.Errorf("%s in %s ended %s; its last words: %s", d.Exec[0], d.in(), ended(exit), out)
	}
	return &Effect{Targets: []string{d.in()}, Prove: func(context.Context) (string, error) {
		return fmt.Sprintf("%s in %s ended %s", d.Exec[0], d.in(), ended(exit)), nil
	}}, nil
}

func (d *Do) signal(ctx context.Context, env *Env) (*Effect, error) {
	nodes, err := env.Resolve(ctx, d.Target)
	if err != nil {
		return nil, err
	}
	said, err := each(nodes, func(n string) (string, error) {
		got, err := env.Cluster.Signal(ctx, n, d.Signal, d.Process)
		return fmt.Sprintf("%d of %s", got, n), err
	})
	if err != nil {
		return nil, err
	}
	return &Effect{Targets: nodes, Prove: func(context.Context) (string, error) {
		return fmt.Sprintf("%s was delivered to processes: %s", d.Signal, strings.Join(said, ", ")), nil
	}}, nil
}

// startAgain is the pause after a program of a loop could not be started.
const startAgain = 50 * time.Millisecond

// background starts the program, again and again with Loop, and ends it with the fault.
func (d *Do) background(ctx context.Context, env *Env) (*Effect, error) {
	// The program outlives this call; its end is the undo below, which is registered before it starts.
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	var (
		mu     sync.Mutex
		starts int
		bad    error
		done   = make(chan struct{})
		first  = make(chan error, 1)
	)
	env.Undo("end "+d.Exec[0], func(ctx context.Context) error {
		stop()
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	go func() {
		defer close(done)
		for run.Err() == nil {
			out := &tail{}
			x, err := env.Cluster.Exec(run, d.in(), cluster.Process{Argv: d.Exec, Stdout: out, Stderr: out})
			if starts == 0 {
				first <- err
				if err != nil {
					return
				}
			}
			switch {
			case err != nil && run.Err() == nil && d.Exit == "any":
				// The node is down for a while: whatever comes of the program is meant to be all right.
				_ = wait(run, startAgain)
				continue
			case err != nil && run.Err() == nil:
				mu.Lock()
				bad = fmt.Errorf("start %s in %s again: %w", d.Exec[0], d.in(), err)
				mu.Unlock()
				return
			case err != nil:
				return
			}
			mu.Lock()
			starts++
			mu.Unlock()
			exit, err := x.Wait()
			if run.Err() != nil {
				return
			}
			if err != nil || !d.Exit.holds(exit) {
				mu.Lock()
				bad = fmt.Errorf("%s in %s ended %s; its last words: %s", d.Exec[0], d.in(), ended(exit), out)
				mu.Unlock()
				return
			}
			if !d.Loop {
				return
			}
		}
	}()
	select {
	case err := <-first:
		if err != nil {
			return nil, fmt.Errorf("start %s in %s: %w", d.Exec[0], d.in(), err)
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return &Effect{
		Targets: []string{d.in()},
		Lasts:   true,
		Prove: func(context.Context) (string, error) {
			return fmt.Sprintf("%s was started in %s", d.Exec[0], d.in()), nil
		},
		Bitten: func(context.Context) (string, error) {
			mu.Lock()
			defer mu.Unlock()
			if bad != nil {
				return "", bad
			}
			return fmt.Sprintf("%s was started %d times", d.Exec[0], starts), nil
		},
	}, nil
}

// tail keeps the last bytes that a program printed.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 2048

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if n := len(t.buf) - tailSize; n > 0 {
		t.buf = t.buf[n:]
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(bytes.TrimSpace(t.buf)) == 0 {
		return "(none)"
	}
	return string(bytes.TrimSpace(t.buf))
}
