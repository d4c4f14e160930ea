package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// handsRun runs the hands as a container's program is.
func handsRun(args ...string) (stdout, stderr string, err error) {
	var out, errs bytes.Buffer
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: append([]string{HandsArgv0}, args...), Stdout: &out, Stderr: &errs}
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// sleeper starts a process that sleeps, and returns a channel of the signal that ended it.
func sleeper(t *testing.T, env string, argv ...string) (*exec.Cmd, <-chan syscall.Signal) {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env)
	require.NoError(t, cmd.Start())
	ended := make(chan syscall.Signal, 1)
	go func() {
		_ = cmd.Wait()
		ended <- cmd.ProcessState.Sys().(syscall.WaitStatus).Signal()
	}()
	return cmd, ended
}

func TestHands(t *testing.T) {
	inside(t, func() { // as process 1, which is skipped or must survive
		none, ended1 := sleeper(t, "A=1", "sleep", "1000")
		_, ended2 := sleeper(t, "ROLE=worker", "sleep", "2000")

		out, _, err := handsRun("signal", "10", "-cmdline", "sleep 3000")
		require.NoError(t, err)
		require.Equal(t, "0 false false\n", out, "none is no error")
		out, _, err = handsRun("signal", "10", "-cmdline", "sleep 1000")
		require.NoError(t, err)
		require.Equal(t, "1 false false\n", out)
		require.Equal(t, unix.SIGUSR1, <-ended1)
		require.NotNil(t, none.ProcessState)

		// A shell with the setting, and a child that has taken it off: both, and nobody else.
		_, ended3 := sleeper(t, "TASK=7", "sh", "-c", `env -u TASK sleep "$0" & wait`, "4000")
		until(t, "the child runs", func() bool { return running(t, "sleep 4000") == 1 && running(t, "TASK sleep 4000") == 0 })
		out, _, err = handsRun("signal", "15", "-env", "TASK=7")
		require.NoError(t, err)
		require.Equal(t, "2 false false\n", out)
		require.Equal(t, unix.SIGTERM, <-ended3)
		until(t, "the child is gone", func() bool { return running(t, "sleep 4000") == 0 })
		out, _, err = handsRun("signal", "15", "-env", "ROLE=work")
		require.NoError(t, err)
		require.Equal(t, "0 false false\n", out, "a part of a value is not it")

		// All: the sleeper, and this process unless it is skipped.
		out, _, err = handsRun("signal", "28", "-skip-init") // SIGWINCH, which nobody minds
		require.NoError(t, err)
		require.Equal(t, "1 true false\n", out, "with an init the program is its child")
		out, _, err = handsRun("signal", "28")
		require.NoError(t, err)
		require.Equal(t, "2 true false\n", out)
		out, _, err = handsRun("signal", "9")
		require.NoError(t, err)
		require.Equal(t, "1 false false\n", out)
		require.Equal(t, unix.SIGKILL, <-ended2)

		// Process 1, which the kernel keeps from these two when they come from inside.
		for _, number := range []string{"9", "19"} {
			out, _, err = handsRun("signal", number, "-cmdline", os.Args[len(os.Args)-1])
			require.NoError(t, err)
			require.Equal(t, "0 false true\n", out, "somebody else has to")
			out, _, err = handsRun("signal", number, "-cmdline", os.Args[len(os.Args)-1], "-skip-init")
			require.NoError(t, err)
			require.Equal(t, "0 false false\n", out)
		}

		// With it all end, so that nobody else is killed before, whom it would start again.
		me := os.Args[len(os.Args)-1]
		child, ended4 := sleeper(t, "A=1", "sh", "-c", "sleep 5000; :", me)
		until(t, "the child runs", func() bool { return running(t, "sleep 5000 ") == 1 })
		out, _, err = handsRun("signal", "9", "-cmdline", me)
		require.NoError(t, err)
		require.Equal(t, "1 false true\n", out)
		require.NoError(t, child.Process.Signal(unix.SIGTERM), "it lives")
		require.Equal(t, unix.SIGTERM, <-ended4)

		for _, args := range [][]string{{"wave"}, {"signal"}, {"signal", "65"}, {"signal", "HUP"}, {"signal", "1", "-x"}, {"signal", "1", "-env", "A=1", "-cmdline", "b"}} {
			out, stderr, err := handsRun(args...)
			require.Error(t, err, "%q", args)
			require.Empty(t, out)
			require.Contains(t, stderr, HandsArgv0)
		}
	})
}

// TestHandsKillWhatForks: what forks all the time, each child going on where its parent was, does not escape.
func TestHandsKillWhatForks(t *testing.T) {
	for name, args := range map[string][]string{"by its command line": {"-cmdline", "runaway"}, "by its environment": {"-env", "RUN=away"}, "all": nil} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			inside(t, func() {
				script := t.TempDir() + "/runaway.sh"
				require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\nsleep 0.02\n\"$0\" &\n"), 0o755))
				const runaways = 3
				for range runaways {
					cmd := exec.Command(script)
					cmd.Env = append(os.Environ(), "RUN=away")
					require.NoError(t, cmd.Run()) // its child goes on
				}
				out, stderr, err := handsRun(append([]string{"signal", "9"}, args...)...)
				require.NoError(t, err, stderr)
				var n int
				var program, first bool
				_, err = fmt.Sscan(out, &n, &program, &first)
				require.NoError(t, err)
				if len(args) > 0 {
					require.GreaterOrEqual(t, n, runaways)
				} else { // all get one signal, and are counted by a list from just before it: one may have gone on to its child between
					require.Positive(t, n)
				}
				require.Zero(t, running(t, "runaway"))
			})
		})
	}
}

// running counts the processes whose command line contains text.
func running(t *testing.T, text string) (n int) {
	t.Helper()
	all, err := processes()
	require.NoError(t, err)
	for _, p := range all {
		is, err := p.commandContains(text)
		require.NoError(t, err)
		if is && p.pid != 1 {
			n++
		}
	}
	return n
}

func TestParseStat(t *testing.T) {
	line := func(name, state string) []byte {
		return []byte("42 (" + name + ") " + state + " 7 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0\n")
	}
	p, ok := parseStat(42, line("a) Z 1 (b", "S"))
	require.True(t, ok)
	require.Equal(t, process{pid: 42, parent: 7, started: "12345"}, p)
	_, ok = parseStat(42, line("x", "Z"))
	require.False(t, ok)
	_, ok = parseStat(42, []byte("42 (x) S 7"))
	require.False(t, ok)
	_, ok = parseStat(42, nil)
	require.False(t, ok)

	require.False(t, ending(line("x", "S")))
	require.True(t, ending(bytes.ReplaceAll(line("x", "R"), []byte("4194560"), []byte("4194564"))))
	require.True(t, ending(nil), "what has ended while it was read")
}

// TestIdle: process 1 of a container in which others run programs. What they leave behind does not stay as zombies.
func TestIdle(t *testing.T) {
	inside(t, func() {
		idle := &exec.Cmd{Path: "/proc/self/exe", Args: []string{IdleArgv0}, SysProcAttr: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}}
		require.NoError(t, idle.Start())
		ended := make(chan error, 1)
		go func() { ended <- idle.Wait() }()
		until(t, "it has begun", func() bool { return caught(t, idle.Process.Pid, unix.SIGTERM) })

		// As docker exec does: a program of another parent, in its namespace, that leaves a child behind.
		left := make(chan error)
		go func() {
			runtime.LockOSThread() // not unlocked: its children would go there
			ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", idle.Process.Pid))
			if err == nil {
				err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWPID)
				ns.Close()
			}
			if err == nil {
				err = exec.Command("sh", "-c", "sleep 0.1 & sleep 0.1 &").Run()
			}
			left <- err
		}()
		require.NoError(t, <-left)
		until(t, "they are its children", func() bool { return len(childrenOf(t, idle.Process.Pid)) > 0 })
		until(t, "and reaped", func() bool { return len(childrenOf(t, idle.Process.Pid)) == 0 })
		require.NoError(t, idle.Process.Signal(unix.SIGTERM))
		require.NoError(t, <-ended, "it ends in order")
	})
}

// childrenOf lists them, zombies too.
func childrenOf(t *testing.T, pid int) []string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("this kernel does not list children (CONFIG_PROC_CHILDREN)")
	}
	require.NoError(t, err)
	return strings.Fields(string(b))
}

// caught reports whether a process has a handler for a signal.
func caught(t *testing.T, pid int, sig syscall.Signal) bool {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	_, mask, ok := strings.Cut(string(b), "SigCgt:")
	require.True(t, ok)
	var set uint64
	_, err = fmt.Sscanf(strings.TrimSpace(mask), "%x", &set)
	require.NoError(t, err)
	return set&(1<<(sig-1)) != 0
}
