package sandbox_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/sandbox"
	"github.com/hasvc/gauntlet/harness/turn"
)

// harnessEnv makes the test binary a harness that starts and stops topologies until it is killed.
const harnessEnv = "GAUNTLET_TEST_HARNESS"

func TestMain(m *testing.M) {
	if dir := os.Getenv(harnessEnv); dir != "" {
		if err := startAndStop(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(turn.Main(m.Run))
}

func startAndStop(dir string) error {
	// Ignores the stop signal, leaves children behind and detaches one: nothing of it ends by itself.
	script := `trap "" TERM HUP; sleep 1000 & setsid sleep 1001 & echo started; while :; do sleep 1; done`
	spec := &cluster.Spec{Name: "orphan"}
	for i := range 4 {
		spec.Services = append(spec.Services, shell("s"+strconv.Itoa(i), script))
	}
	for {
		c, err := sandbox.New().Up(context.Background(), spec, cluster.Options{Dir: dir})
		if err != nil {
			return err
		}
		for i := range 4 {
			if err := c.Restart(context.Background(), "s"+strconv.Itoa(i), nil); err != nil {
				return err
			}
		}
		if left, err := c.Down(context.Background()); err != nil || len(left) > 0 {
			return fmt.Errorf("down: %v, left %v", err, left)
		}
	}
}

// TestHarnessKilled kills a harness at random moments of its work. Orphans become children of this process, so that
// none can hide.
func TestHarnessKilled(t *testing.T) {
	require.NoError(t, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	rounds := 30
	if testing.Short() {
		rounds = 8
	}
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	const much = 10 // processes
	var full time.Duration
	for round := range rounds {
		wait := time.Duration(0)
		if round > 0 { // before, around and after the moment at which there was much in the first one
			wait = time.Duration(random.Int64N(int64(2*full + 100*time.Millisecond)))
		}
		harness := exec.Command("/proc/self/exe")
		harness.Env = append(os.Environ(), harnessEnv+"="+t.TempDir())
		var said bytes.Buffer
		harness.Stderr = &said
		require.NoError(t, harness.Start())
		begun := time.Now()
		for round == 0 && len(below(os.Getpid())) <= much {
			require.Less(t, time.Since(begun), 30*time.Second, "there is not much to leave behind: %s", &said)
			time.Sleep(2 * time.Millisecond) // nobody tells
			full = time.Since(begun)
		}
		time.Sleep(wait) // the moment itself is what is tried
		require.NoError(t, harness.Process.Kill())
		require.ErrorContains(t, harness.Wait(), "killed", "seed %d: it ended by itself: %s", seed, &said)
		deadline := time.Now().Add(5 * time.Second)
		for {
			left := below(os.Getpid())
			if len(left) == 0 {
				break
			}
			require.True(t, time.Now().Before(deadline), "seed %d, killed after %v: still there: %v", seed, wait, left)
			time.Sleep(2 * time.Millisecond) // orphans tell nobody of their end
		}
	}
}

// below lists the descendants of a process and reaps its dead children.
func below(root int) (list []string) {
	parents := map[int]int{}
	entries, _ := os.ReadDir("/proc")
	lines := map[int]string{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		parent, _ := strconv.Atoi(f[1])
		// Not every Z is a zombie: other threads of the process may still be ending.
		if f[0] == "Z" && parent == root {
			if got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); err == nil && got == pid {
				continue
			}
		}
		parents[pid] = parent
		cmd, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		lines[pid] = fmt.Sprintf("%d %s %s", pid, f[0], strings.ReplaceAll(string(cmd), "\x00", " "))
	}
	for pid := range parents {
		for p, ok := pid, true; ok && p != 0; p, ok = parents[p] {
			if parents[p] == root {
				list = append(list, lines[pid])
				break
			}
		}
	}
	return list
}
