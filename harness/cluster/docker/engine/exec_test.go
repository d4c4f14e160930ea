package engine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// result is what a program run in a container left.
type result struct {
	stdout, stderr string
	code           int
}

// runIn runs a program in a container and waits for it.
func runIn(t *testing.T, c *Container, s ExecSpec) result {
	t.Helper()
	var o, e bytes.Buffer
	s.Stdout, s.Stderr = &o, &e
	x, err := c.Exec(within(t, 30*time.Second), s)
	require.NoError(t, err)
	code, err := x.Wait()
	require.NoError(t, err)
	return result{o.String(), e.String(), code}
}

func TestExec(t *testing.T) {
	c := started(t, newRun(t, connected(t)), Spec{Env: map[string]string{"COLOUR": "red"}, Hostname: "h"})
	const n = 64 << 10
	for name, test := range map[string]struct {
		spec ExecSpec
		want result
	}{
		"status":            {ExecSpec{Argv: []string{patient, "exit", "3"}}, result{code: 3}},
		"status 126":        {ExecSpec{Argv: []string{patient, "exit", "126"}}, result{code: 126}},
		"status 127":        {ExecSpec{Argv: []string{patient, "exit", "127"}}, result{code: 127}},
		"signal":            {ExecSpec{Argv: []string{patient, "die", "9"}}, result{code: 137}},
		"output":            {ExecSpec{Argv: []string{patient, "write", "65536", "1"}}, result{strings.Repeat("o", n), strings.Repeat("e", n), 1}},
		"its":               {ExecSpec{Argv: []string{patient, "who"}, Env: map[string]string{"COLOUR": "blue"}, Dir: "/tmp", User: "12"}, result{stdout: "12 /tmp h blue 0\n"}},
		"the container's":   {ExecSpec{Argv: []string{patient, "who"}}, result{stdout: "0 / h red 0\n"}},
		"input":             {ExecSpec{Argv: []string{patient, "echo"}, Stdin: strings.NewReader("hi")}, result{stdout: "hi", stderr: "2\n"}},
		"silent and late":   {ExecSpec{Argv: []string{patient, "silent"}}, result{code: 3}},
		"silent with input": {ExecSpec{Argv: []string{patient, "silent"}, Stdin: strings.NewReader("")}, result{code: 3}},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, test.want, runIn(t, c, test.spec)) })
	}
}

func TestExecManyTimes(t *testing.T) {
	c := started(t, newRun(t, connected(t)), Spec{})
	for range 10 {
		got := runIn(t, c, ExecSpec{Argv: []string{patient, "write", "3", "1"}, Stdin: strings.NewReader("")})
		require.Equal(t, result{"ooo", "eee", 1}, got)
	}
}

func TestExecOfNothing(t *testing.T) {
	r := newRun(t, connected(t))
	c := started(t, r, Spec{})
	for argv0, said := range map[string]string{
		"/not/there": "no such file or directory", "notthere": "executable file not found", "/tmp": "permission denied",
	} {
		_, err := c.Exec(t.Context(), ExecSpec{Argv: []string{argv0}})
		require.ErrorIs(t, err, ErrNoProgram)
		assert.ErrorContains(t, err, said)
	}
	_, err := c.Exec(t.Context(), ExecSpec{})
	require.Error(t, err)

	require.NoError(t, c.Kill(t.Context(), "SIGKILL"))
	_, err = c.Exec(t.Context(), ExecSpec{Argv: []string{patient, "exit", "0"}})
	assert.ErrorIs(t, err, ErrNotRunning)
	require.NoError(t, c.Remove(t.Context()))
	_, err = c.Exec(t.Context(), ExecSpec{Argv: []string{patient, "exit", "0"}})
	assert.ErrorIs(t, err, ErrNoContainer)
}

// An input that never ends is a pipe that nobody closes.
func TestExecInputThatNeverEnds(t *testing.T) {
	c := started(t, newRun(t, connected(t)), Spec{})
	in, hold := io.Pipe()
	defer hold.Close()
	assert.Equal(t, result{code: 4}, runIn(t, c, ExecSpec{Argv: []string{patient, "exit", "4"}, Stdin: in}))
}

// A program in hand when its container is killed has ended, and its harness must not wait for it.
func TestExecInAKilledContainer(t *testing.T) {
	c := started(t, newRun(t, connected(t)), Spec{})
	x, err := c.Exec(within(t, 30*time.Second), ExecSpec{Argv: []string{patient, "idle"}})
	require.NoError(t, err)
	assert.NotZero(t, x.Pid())
	require.NoError(t, c.Kill(t.Context(), "SIGKILL"))
	code, err := x.Wait()
	require.NoError(t, err)
	assert.Equal(t, 137, code)
}

func TestExecIsLetGo(t *testing.T) {
	c := started(t, newRun(t, connected(t)), Spec{})
	ctx, cancel := context.WithCancel(t.Context())
	x, err := c.Exec(ctx, ExecSpec{Argv: []string{patient, "idle"}})
	require.NoError(t, err)
	cancel()
	_, err = x.Wait()
	assert.ErrorIs(t, err, context.Canceled)
}

// full is a writer that takes nothing.
type full struct{}

var errFull = errors.New("full")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestExecWhoseOutputCannotBeWritten(t *testing.T) {
	c := started(t, newRun(t, connected(t)), Spec{})
	var e bytes.Buffer
	x, err := c.Exec(within(t, 30*time.Second), ExecSpec{Argv: []string{patient, "write", "1000000", "0"}, Stdout: full{}, Stderr: &e})
	require.NoError(t, err)
	_, err = x.Wait()
	assert.ErrorIs(t, err, errFull)
	assert.Equal(t, 1000000, e.Len(), "it was not held up, and the other stream is whole")
}

func TestBeside(t *testing.T) {
	r := newRun(t, connected(t))
	c := started(t, r, Spec{User: "1234"})
	x, err := c.Exec(within(t, 30*time.Second), ExecSpec{Argv: []string{patient, "stubborn"}})
	require.NoError(t, err)

	out, err := r.Beside(t.Context(), c.ID(), image(t), []string{patient, "signal", "9", "stubborn"})
	require.NoError(t, err)
	assert.Equal(t, Output{Stdout: "1\n", Stderr: "done\n"}, out, "one process has such a command line, of another user")
	code, err := x.Wait()
	require.NoError(t, err)
	assert.Equal(t, 137, code)
	s, err := c.Inspect(t.Context())
	require.NoError(t, err)
	assert.True(t, s.Running)

	out, err = r.Beside(t.Context(), c.ID(), image(t), []string{patient, "exit", "9"})
	require.NoError(t, err)
	assert.Equal(t, 9, out.Code)

	_, err = r.Beside(t.Context(), c.ID(), image(t), []string{"/not/there"})
	require.ErrorIs(t, err, ErrNoProgram)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = r.Beside(ctx, c.ID(), image(t), []string{patient, "idle"})
	require.ErrorIs(t, err, context.DeadlineExceeded)

	cs, _, err := r.e.list(t.Context(), r.filter())
	require.NoError(t, err)
	assert.Len(t, cs, 1, "nothing of what ran beside is left")
}
