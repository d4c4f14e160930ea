package docker

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster/procs"
)

// worker is a shell under another name that works when it is told to.
type worker struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startWorker starts one with a child, whose process id it says.
func startWorker(t *testing.T, name string) (w worker, child int) {
	t.Helper()
	sh, err := os.ReadFile("/bin/sh")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, sh, 0o755))
	// What the subshell uses is the shell's to be waited for, as a container's process is.
	w.Cmd = exec.Command(path, "-c", `work() { i=0; while [ $i -lt $1 ]; do i=$((i+1)); done; }
		sleep 1000 & echo $!; while read n; do (work $n); work $n; echo done; done; kill $!`)
	w.in, err = w.StdinPipe()
	require.NoError(t, err)
	out, err := w.StdoutPipe()
	require.NoError(t, err)
	w.out = bufio.NewReader(out)
	require.NoError(t, w.Start())
	t.Cleanup(func() {
		_ = w.in.Close()
		_ = w.Wait() // ended by the test, where it has not failed
	})
	_, err = fmt.Fscan(w.out, &child)
	require.NoError(t, err)
	return w, child
}

// works has it use a processor, and returns what it has used since its start: itself, and what it has waited for.
func (w worker) works(t *testing.T) (own, reaped time.Duration) {
	t.Helper()
	_, err := fmt.Fprintln(w.in, 1_000_000)
	require.NoError(t, err)
	var done string
	_, err = fmt.Fscan(w.out, &done)
	require.NoError(t, err)
	p, ok := procs.Read(w.Process.Pid)
	require.True(t, ok)
	require.Greater(t, p.CPU, 100*time.Millisecond)
	require.Greater(t, p.Reaped, 100*time.Millisecond)
	return p.CPU, p.Reaped
}

func TestEngineTime(t *testing.T) {
	daemon, _ := startWorker(t, "gauntlet-tested") // no other has this name
	own, reaped := daemon.works(t)
	before := own + reaped
	engine, err := newEngineTime("none", "gauntlet-tested")
	require.NoError(t, err)
	const ticks = 0.03 // what is between two readings may pass a tick or two
	require.InDelta(t, 0, engine.used(nil).Seconds(), ticks, "what it used before is not counted")

	own, reaped = daemon.works(t)
	after := own + reaped
	shim, first := startWorker(t, "shim")
	engine.used([]int{first, 0})
	above, _ := shim.works(t)
	stranger, _ := startWorker(t, "stranger")
	stranger.works(t)
	sum := engine.used([]int{first})
	require.InDelta(t, (after - before + above).Seconds(), sum.Seconds(), ticks, "nothing of the stranger, and of what the shim has waited for")

	require.NoError(t, shim.in.Close())
	require.NoError(t, shim.Wait())
	require.GreaterOrEqual(t, engine.used(nil), sum, "it does not fall when a container ends")
}
