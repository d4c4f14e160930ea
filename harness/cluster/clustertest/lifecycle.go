package clustertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// lifecycle checks what can be done to a running node. Each subtest leaves life running and ready.
func lifecycle(t *testing.T, top *topology) {
	check(t, "log", 10*time.Second, func(t *testing.T, ctx context.Context) {
		top.logged(t, ctx, "life", "life begins", 1)
		top.logged(t, ctx, "life", "life complains", 1)
		top.logged(t, ctx, "life", "kid-2 is there", 1)
	})
	check(t, "kill", 20*time.Second, func(t *testing.T, ctx context.Context) {
		k := top.dial(t, ctx, "a", "life:7000")
		k.alive(t, patience)
		at, pids := top.addr(t, "life"), top.pids(t, "life")
		exit, err := top.Kill(ctx, "life")
		require.NoError(t, err)
		require.Equal(t, "SIGKILL -1", show(exit.Signal, exit.Code))
		st := top.state(t, ctx, "life", cluster.StateExited)
		require.NotNil(t, st.Exit)
		require.Equal(t, "SIGKILL", st.Exit.Signal)
		require.False(t, st.Ready)
		require.Empty(t, st.Pids)
		requireDead(t, pids)
		begin := time.Now()
		require.ErrorIs(t, top.refuses(t, ctx, patience, "a", "life:7000"), syscall.ECONNREFUSED, "refused, as on a real host")
		require.Less(t, time.Since(begin), time.Second)
		d := inside[dialed](t, ctx, top, "a", "dial", "tcp", "life:7000", "hello")
		require.Equal(t, syscall.ECONNREFUSED.Error(), d.Errno, "from inside: %+v", d)
		require.NoError(t, k.SetDeadline(time.Now().Add(patience)))
		_, err = k.r.ReadByte()
		require.True(t, errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET), "the live connection: %v", err)
		exits := top.observed.of("life", cluster.NodeExited)
		require.Len(t, exits, 1)
		require.True(t, exits[0].Announced, "the harness asked for this death")
		require.Equal(t, "SIGKILL", exits[0].Exit.Signal)
		_, err = top.Kill(ctx, "life")
		require.Error(t, err, "what is not running cannot be killed")
		for _, sig := range []string{"KILL", "STOP", "HUP"} {
			_, err = top.Signal(ctx, "life", sig, "")
			require.ErrorContains(t, err, "has no process to signal", "%s to what is not running", sig)
		}
		require.NoError(t, top.Start(ctx, "life"))
		require.Error(t, top.Start(ctx, "life"), "what is running cannot be started")
		require.NoError(t, top.AwaitReady(ctx, "life"))
		st, err = top.Status("life")
		require.NoError(t, err)
		require.Equal(t, "running true 1", show(st.State, st.Ready, st.Restarts))
		require.Equal(t, at, top.addr(t, "life"), "the address stays")
		top.dial(t, ctx, "a", "life:7000").alive(t, patience)
		top.logged(t, ctx, "life", "life begins", 2)
	})
	check(t, "pause", 20*time.Second, func(t *testing.T, ctx context.Context) {
		k := top.dial(t, ctx, "a", "life:7000")
		k.alive(t, patience)
		require.NoError(t, top.Pause(ctx, "life"))
		st, err := top.Status("life")
		require.NoError(t, err)
		require.Equal(t, cluster.StatePaused, st.State)
		for _, p := range top.pids(t, "life") {
			require.Equal(t, "T", procState(p), "process %d", p)
		}
		k.silent(t, "echo late", mute)
		top.dial(t, ctx, "a", "life:7000").silent(t, "echo later", mute) // the kernel accepts, nobody answers
		require.NoError(t, top.Resume(ctx, "life"))
		k.hears(t, "late", patience)
		top.state(t, ctx, "life", cluster.StateRunning)
		require.Len(t, top.observed.of("life", cluster.NodePaused), 1)
		require.Len(t, top.observed.of("life", cluster.NodeResumed), 1)
		require.NoError(t, top.AwaitReady(ctx, "life"))
	})
	check(t, "kill while paused", 20*time.Second, func(t *testing.T, ctx context.Context) {
		require.NoError(t, top.Pause(ctx, "life"))
		exit, err := top.Kill(ctx, "life")
		require.NoError(t, err)
		require.Equal(t, "SIGKILL", exit.Signal)
		require.NoError(t, top.Start(ctx, "life"))
		require.NoError(t, top.AwaitReady(ctx, "life"))
		top.dial(t, ctx, "a", "life:7000").alive(t, patience)
	})
	check(t, "signal", 20*time.Second, func(t *testing.T, ctx context.Context) {
		count := func(text string) int { return strings.Count(top.log(t, "life"), text) }
		before := count("main got hangup")
		require.NoError(t, top.Restart(ctx, "life", map[string]string{"NOTE": "to be signalled"}))
		top.logged(t, ctx, "life", "kid-1 is there to be signalled", 1) // before that a signal would end it
		top.logged(t, ctx, "life", "kid-2 is there to be signalled", 1)
		require.NoError(t, top.AwaitReady(ctx, "life"))
		n, err := top.Signal(ctx, "life", "HUP", "kid-2")
		require.NoError(t, err)
		require.Equal(t, 1, n, "the one whose command line says so")
		top.logged(t, ctx, "life", "kid-2 got hangup", 1)
		n, err = top.Signal(ctx, "life", "SIGHUP", "")
		require.NoError(t, err)
		require.Equal(t, 3, n, "main and its two kids")
		top.logged(t, ctx, "life", "kid-2 got hangup", 2)
		top.logged(t, ctx, "life", "kid-1 got hangup", 1)
		top.logged(t, ctx, "life", "main got hangup", before+1)
		_, err = top.Signal(ctx, "life", "1", "serve")
		require.NoError(t, err)
		top.logged(t, ctx, "life", "main got hangup", before+2)
		require.Equal(t, 1, count("kid-1 got hangup"), "a signal by name reaches no other")
		_, err = top.Signal(ctx, "life", "HUP", "no such process")
		require.Error(t, err, "nobody got it")
		_, err = top.Signal(ctx, "life", "SIGNONSENSE", "")
		require.Error(t, err)
	})
	check(t, "a signal spares what runs beside", 20*time.Second, func(t *testing.T, ctx context.Context) {
		r, w := io.Pipe()
		defer w.Close()
		var out buffer
		e, err := top.Exec(ctx, "life", cluster.Process{Argv: []string{probeName, "cat"}, Stdin: r, Stdout: &out})
		require.NoError(t, err)
		_, err = fmt.Fprintln(w, "there")
		require.NoError(t, err)
		poll(t, ctx, patience, "it runs", func() error {
			if out.String() == "" {
				return errors.New("not yet")
			}
			return nil
		})
		_, err = top.Signal(ctx, "life", "HUP", probeName+" cat")
		require.ErrorContains(t, err, "no process", "what is no process of the service proves nothing")
		n, err := top.Signal(ctx, "life", "HUP", "")
		require.NoError(t, err)
		require.Equal(t, 3, n, "main and its two kids")
		require.NoError(t, e.Signal("TERM"), "it goes on, and can be asked for")
		exit, err := e.Wait()
		require.NoError(t, err)
		require.Equal(t, "SIGTERM", exit.Signal)
	})
	check(t, "a signal to another process explains no death", 20*time.Second, func(t *testing.T, ctx context.Context) {
		signalled, before := len(top.observed.of("life", cluster.NodeSignalled)), len(top.observed.of("life", cluster.NodeExited))
		n, err := top.Signal(ctx, "life", "TERM", "kid-2")
		require.NoError(t, err)
		require.Equal(t, 1, n)
		_, err = fmt.Fprintln(top.dial(t, ctx, "a", "life:7000"), "end")
		require.NoError(t, err)
		top.state(t, ctx, "life", cluster.StateExited)
		var exits []cluster.Event
		poll(t, ctx, patience, "the end is told", func() error {
			if exits = top.observed.of("life", cluster.NodeExited); len(exits) == before {
				return errors.New("not yet")
			}
			return nil
		})
		require.False(t, exits[before].Announced, "it ended by itself")
		require.Len(t, top.observed.of("life", cluster.NodeSignalled), signalled, "the program was not signalled")
		require.NotEmpty(t, top.observed.of("life", cluster.ProcessSignalled))
		require.Equal(t, "9", show(exits[before].Exit.Signal+fmt.Sprint(exits[before].Exit.Code)))
		require.NoError(t, top.Start(ctx, "life"))
		require.NoError(t, top.AwaitReady(ctx, "life"))
	})
	check(t, "stop", 20*time.Second, func(t *testing.T, ctx context.Context) {
		pids := top.pids(t, "life")
		begin := time.Now()
		exit, err := top.Stop(ctx, "life")
		require.NoError(t, err)
		require.Less(t, time.Since(begin), time.Second, "the end of the program is that of the node: its kids get no grace")
		require.Equal(t, "7", show(exit.Signal+fmt.Sprint(exit.Code)), "the program's own status after SIGTERM")
		requireDead(t, pids) // also the kids, which ignore SIGTERM
		require.ErrorIs(t, top.refuses(t, ctx, patience, "a", "life:7000"), syscall.ECONNREFUSED)
		require.NoError(t, top.Start(ctx, "life"))
		require.NoError(t, top.AwaitReady(ctx, "life"))
	})
	check(t, "restart with another environment", 20*time.Second, func(t *testing.T, ctx context.Context) {
		st, err := top.Status("life")
		require.NoError(t, err)
		require.NoError(t, top.Restart(ctx, "life", map[string]string{"COLOUR": "green"}))
		require.NoError(t, top.AwaitReady(ctx, "life"))
		require.Equal(t, "green", decode[selfInfo](t, ctx, top, "life", "/env").Env["COLOUR"])
		require.NoError(t, top.Restart(ctx, "life", nil))
		require.NoError(t, top.AwaitReady(ctx, "life"))
		require.Equal(t, "green", decode[selfInfo](t, ctx, top, "life", "/env").Env["COLOUR"], "from now on")
		now, err := top.Status("life")
		require.NoError(t, err)
		require.Equal(t, st.Restarts+2, now.Restarts)
	})
	check(t, "rules outlive a restart", 20*time.Second, func(t *testing.T, ctx context.Context) {
		undo := top.rule(t, ctx, cluster.Rule{Drop: true}, cluster.Link{From: "a", To: "life"})
		require.NoError(t, top.Restart(ctx, "life", nil))
		require.NoError(t, top.AwaitReady(ctx, "life"), "readiness is asked past the rules")
		require.True(t, timedOut(top.refuses(t, ctx, mute, "a", "life:7000")))
		undo()
		top.dial(t, ctx, "a", "life:7000").alive(t, patience)
	})
	check(t, "nothing lost at kill", 20*time.Second, func(t *testing.T, ctx context.Context) {
		const n = 3000 // several pipes full
		top.mustGet(t, ctx, "life", fmt.Sprintf("/print?n=%d&tag=loss", n))
		_, err := top.Kill(ctx, "life")
		require.NoError(t, err)
		seen := map[string]int{}
		for line := range strings.Lines(top.log(t, "life")) { // complete when Kill has returned
			seen[line]++
		}
		for i := range n {
			for _, stream := range []string{"out", "err"} {
				line := fmt.Sprintf("loss %s %d %s.\n", stream, i, strings.Repeat("x", 40))
				require.Equal(t, 1, seen[line], "%q", line)
			}
		}
		require.NoError(t, top.Start(ctx, "life"))
		require.NoError(t, top.AwaitReady(ctx, "life"))
	})
	check(t, "nothing written after kill", 20*time.Second, func(t *testing.T, ctx context.Context) {
		// Killed in the middle of its output: what it wrote is there when Kill has returned, in its order, to the last whole line.
		top.mustGet(t, ctx, "life", "/flood?tag=flood")
		top.logged(t, ctx, "life", "flood 1000 ", 1)
		_, err := top.Kill(ctx, "life")
		require.NoError(t, err)
		log := top.log(t, "life")
		never(t, ctx, 100*time.Millisecond, func() error {
			if now := top.log(t, "life"); len(now) != len(log) {
				return fmt.Errorf("%d bytes came after Kill had returned", len(now)-len(log))
			}
			return nil
		})
		next := 0
		for line := range strings.Lines(log) {
			if strings.HasPrefix(line, fmt.Sprintf("flood %d ", next)) {
				next++
			} else if strings.HasPrefix(line, "flood ") && strings.HasSuffix(line, ".\n") {
				require.FailNow(t, "a line is missing", "after %d comes %q", next-1, line)
			}
		}
		require.Greater(t, next, 1000)
		require.NoError(t, top.Start(ctx, "life"))
		require.NoError(t, top.AwaitReady(ctx, "life"))
	})
	check(t, "unknown node", 5*time.Second, func(t *testing.T, ctx context.Context) {
		var unknown *cluster.UnknownNodeError
		_, err := top.Kill(ctx, "nobody")
		require.ErrorAs(t, err, &unknown)
		require.ErrorAs(t, top.Pause(ctx, "nobody"), &unknown)
		require.ErrorAs(t, top.Restart(ctx, "nobody", nil), &unknown)
		require.ErrorAs(t, top.AwaitReady(ctx, "nobody"), &unknown)
		_, err = top.Exec(ctx, "nobody", cluster.Process{Argv: []string{probeName, "env"}})
		require.ErrorAs(t, err, &unknown)
	})
	check(t, "crash loop", 30*time.Second, func(t *testing.T, ctx context.Context) {
		for range 10 {
			_, err := top.Kill(ctx, "life")
			require.NoError(t, err)
			require.NoError(t, top.Start(ctx, "life"))
		}
		require.NoError(t, top.AwaitReady(ctx, "life"))
		top.dial(t, ctx, "a", "life:7000").alive(t, patience)
	})
}

// pids are those of a node, or none where the driver cannot know.
func (top *topology) pids(t *testing.T, node string) []int {
	t.Helper()
	st, err := top.Status(node)
	require.NoError(t, err)
	return st.Pids
}

// requireDead says that no process with one of these numbers runs. It is true when a Kill or Stop has returned.
func requireDead(t *testing.T, pids []int) {
	t.Helper()
	for _, p := range pids {
		require.Empty(t, procState(p), "process %d is still there", p)
	}
}
