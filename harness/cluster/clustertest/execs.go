package clustertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// execs checks programs that run beside the one of a node.
func execs(t *testing.T, top *topology) {
	for _, node := range []string{"a", cluster.Client} {
		check(t, "streams in "+node, 10*time.Second, func(t *testing.T, ctx context.Context) {
			var out buffer
			text := strings.Repeat("all of it, in order\n", 50_000)
			e, err := top.Exec(ctx, node, cluster.Process{Argv: []string{probeName, "cat"}, Stdin: strings.NewReader(text), Stdout: &out})
			require.NoError(t, err)
			exit, err := e.Wait()
			require.NoError(t, err)
			require.Equal(t, "0", show(exit.Signal+fmt.Sprint(exit.Code)))
			require.True(t, out.String() == text, "%d of %d bytes", len(out.String()), len(text))
		})
	}
	check(t, "stdout and stderr", 10*time.Second, func(t *testing.T, ctx context.Context) {
		var out, errs buffer
		const n = 4 << 20
		e, err := top.Exec(ctx, "a", cluster.Process{Argv: []string{probeName, "spew", fmt.Sprint(n)}, Stdout: &out, Stderr: &errs})
		require.NoError(t, err)
		_, err = e.Wait()
		require.NoError(t, err)
		require.Equal(t, show(n, n), show(len(out.String()), len(errs.String())), "all of the output is there when Wait has returned")
	})
	check(t, "exit status", 10*time.Second, func(t *testing.T, ctx context.Context) {
		for args, want := range map[string]string{
			"-code 0": "0", "-code 42": "42", "-signal SIGKILL": "SIGKILL-1", "-signal SIGSEGV": "SIGSEGV-1", "-signal SIGTERM": "SIGTERM-1",
		} {
			_, exit := top.exec(t, ctx, "a", append([]string{"job"}, strings.Fields(args)...)...)
			require.Equal(t, want, exit.Signal+fmt.Sprint(exit.Code), args)
			require.False(t, exit.At.IsZero())
		}
	})
	check(t, "environment", 10*time.Second, func(t *testing.T, ctx context.Context) {
		var out buffer
		e, err := top.Exec(ctx, "a", cluster.Process{Argv: []string{probeName, "env"}, Env: map[string]string{"EXTRA": "a=b c"}, Stdout: &out})
		require.NoError(t, err)
		_, err = e.Wait()
		require.NoError(t, err)
		require.Contains(t, out.String(), `"EXTRA":"a=b c"`)
	})
	check(t, "no such program", 10*time.Second, func(t *testing.T, ctx context.Context) {
		for _, argv := range [][]string{{"no-such-program"}, {"/no/such/program"}, {"/etc/passwd"}, {}} {
			e, err := top.Exec(ctx, "a", cluster.Process{Argv: argv})
			if err == nil {
				_, err = e.Wait()
			}
			require.Error(t, err, "%q", argv)
		}
	})
	check(t, "stdin that never ends", 10*time.Second, func(t *testing.T, ctx context.Context) {
		r, w := io.Pipe()
		defer w.Close()
		e, err := top.Exec(ctx, "a", cluster.Process{Argv: []string{probeName, "job", "-code", "3"}, Stdin: r})
		require.NoError(t, err)
		begin := time.Now()
		exit, err := e.Wait()
		require.NoError(t, err)
		require.Equal(t, 3, exit.Code)
		require.Less(t, time.Since(begin), patience, "the program's end is the end, whatever its input does")
	})
	check(t, "conversation", 10*time.Second, func(t *testing.T, ctx context.Context) {
		r, w := io.Pipe()
		var out buffer
		e, err := top.Exec(ctx, cluster.Client, cluster.Process{Argv: []string{probeName, "cat"}, Stdin: r, Stdout: &out})
		require.NoError(t, err)
		said := ""
		for i := range 5 { // output comes while the input is still open
			line := fmt.Sprintf("line %d\n", i)
			_, err := io.WriteString(w, line)
			require.NoError(t, err)
			said += line
			poll(t, ctx, patience, "echo of "+line, func() error {
				if out.String() != said {
					return errors.New(out.String())
				}
				return nil
			})
		}
		require.NoError(t, w.Close())
		exit, err := e.Wait()
		require.NoError(t, err)
		require.Zero(t, exit.Code)
	})
	check(t, "cancel kills all that it started", 15*time.Second, func(t *testing.T, ctx context.Context) {
		own, cancel := context.WithCancel(ctx)
		defer cancel()
		var out buffer
		e, err := top.Exec(own, "a", cluster.Process{Argv: []string{probeName, "sleep", "-mark", "doomed", "-kids", "3"}, Stdout: &out})
		require.NoError(t, err)
		poll(t, ctx, patience, "four processes", func() error {
			if n := strings.Count(out.String(), "there"); n != 4 {
				return fmt.Errorf("%d", n)
			}
			return nil
		})
		require.True(t, running(t, ctx, top, "a", "-mark doomed"))
		cancel()
		begin := time.Now()
		exit, err := e.Wait()
		require.NoError(t, err)
		require.Equal(t, "SIGKILL", exit.Signal)
		require.Less(t, time.Since(begin), patience)
		poll(t, ctx, patience, "all four end, those with a session of their own too", func() error {
			if running(t, ctx, top, "a", "-mark doomed") {
				return errors.New("there are some")
			}
			return nil
		})
		require.Equal(t, cluster.StateRunning, top.state(t, ctx, "a", cluster.StateRunning).State, "the node's own program goes on")
	})
	check(t, "signal", 10*time.Second, func(t *testing.T, ctx context.Context) {
		var out buffer
		e, err := top.Exec(ctx, "a", cluster.Process{Argv: []string{probeName, "sleep"}, Stdout: &out})
		require.NoError(t, err)
		poll(t, ctx, patience, "it runs", func() error {
			if out.String() == "" {
				return errors.New("nothing printed")
			}
			return nil
		})
		require.NoError(t, e.Signal("TERM"))
		exit, err := e.Wait()
		require.NoError(t, err)
		require.Equal(t, "SIGTERM", exit.Signal)
		require.Error(t, e.Signal("TERM"), "it has ended")
	})
	check(t, "many at once", 20*time.Second, func(t *testing.T, ctx context.Context) {
		const n = 16
		errs := make(chan error, n)
		for i := range n {
			go func() {
				var out buffer
				e, err := top.Exec(ctx, []string{"a", "b", cluster.Client}[i%3], cluster.Process{
					Argv: []string{probeName, "cat"}, Stdin: strings.NewReader(fmt.Sprint(i)), Stdout: &out})
				if err == nil {
					_, err = e.Wait()
				}
				if err == nil && out.String() != fmt.Sprint(i) {
					err = fmt.Errorf("%d got %q", i, out.String())
				}
				errs <- err
			}()
		}
		var all error
		for range n {
			all = errors.Join(all, <-errs)
		}
		require.NoError(t, all)
	})
}
