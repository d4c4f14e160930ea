package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// runError is a go command that failed, with what it printed.
type runError struct {
	what   string
	output string
	err    error
}

func (e *runError) Error() string { return e.what + " failed: " + e.err.Error() }
func (e *runError) Unwrap() error { return e.err }

// maxOutput bounds what is kept of the go command's output: the end of it, where the errors are.
const maxOutput = 32 << 10

// run runs the go command in dir and returns its standard output. When ctx ends, the command and the compilers it started are killed.
func (b *Builder) run(ctx context.Context, dir string, env []string, args ...string) (string, error) {
	name := b.Go
	if name == "" {
		name = "go"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("no go command was found (%w); install Go, or name a built program with exec", err)
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "PWD="+dir), env...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr // apart: exec copies each by a goroutine of its own
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		out := strings.TrimSpace(stderr.String() + stdout.String())
		if len(out) > maxOutput {
			out = "...\n" + out[len(out)-maxOutput:]
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			return "", fmt.Errorf("running %s: %w", path, err)
		}
		return "", &runError{what: "go " + args[0], output: out, err: err}
	}
	return strings.TrimSpace(stdout.String()), nil
}
