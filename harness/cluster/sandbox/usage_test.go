package sandbox_test

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// burn is a program that burns processor time itself, in a child that ends, and in an orphan that ends, and says how much each took:
// the same work takes more or less of it from one moment to the next.
const burn = `loop() { i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done; }
loop
( loop )
times
( ( loop; times; echo done ) & )
exec sleep 1000`

func TestUsage(t *testing.T) {
	idle := shell("idle", "exec sleep 1000")
	other := shell("other", "exec 5</dev/null 6</dev/null; sleep 1000 & exec sleep 1000")
	other.User = "1234:1234"
	c := up(t, cluster.Options{}, shell("burn", burn), idle, other)
	u, ok := c.(cluster.Usager)
	require.True(t, ok)
	said := awaitLine(t, c, "burn", "done")

	usage, err := u.Usage(t.Context())
	require.NoError(t, err)
	require.Len(t, usage, 5)
	want := burnt(t, said, 2)
	require.InEpsilon(t, want.Seconds(), usage["burn"].CPU.Seconds(), 0.10, "burnt %v, seen %v", want, usage["burn"].CPU)
	require.Less(t, usage["idle"].CPU, 100*time.Millisecond)
	require.Equal(t, uint64(1), usage["idle"].Threads)
	require.Equal(t, uint64(2), usage["other"].Threads)
	require.Equal(t, usage["idle"].FDs*2+4, usage["other"].FDs, "descriptors of another user's programs")
	require.Greater(t, usage["idle"].RSS, uint64(100<<10))
	require.Zero(t, usage[cluster.Client].Threads)
	plane := usage[cluster.Plane]
	require.Greater(t, plane.CPU, time.Duration(0))
	require.Greater(t, plane.Threads, uint64(4), "the plane and the inits")
	require.Greater(t, plane.RSS, uint64(4<<20))

	// What ended is not lost, nor what is beside the program.
	before := usage["burn"].CPU
	_, err = c.Kill(t.Context(), "burn")
	require.NoError(t, err)
	var out bytes.Buffer
	e, err := c.Exec(t.Context(), "burn", cluster.Process{Argv: []string{"/bin/sh", "-c", strings.Split(burn, "\n")[0] + "\nloop; times"}, Stdout: &out})
	require.NoError(t, err)
	_, err = e.Wait()
	require.NoError(t, err)
	usage, err = u.Usage(t.Context())
	require.NoError(t, err)
	more := burnt(t, out.String(), 1)
	require.InEpsilon(t, (before + more).Seconds(), usage["burn"].CPU.Seconds(), 0.10, "burnt %v after %v", more, before)
	require.Zero(t, usage["burn"].RSS)
	require.Zero(t, usage["burn"].Restarts)
	require.NoError(t, c.Start(t.Context(), "burn"))
	usage, err = u.Usage(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, usage["burn"].Restarts)
}

// TestUsageOfRemoved: a node that was removed keeps the time that it used and waited, and the next of its name goes on from there.
func TestUsageOfRemoved(t *testing.T) {
	s := shell("s", strings.Split(burn, "\n")[0]+"\nloop; echo done; exec sleep 1000")
	s.Scaled, s.Replicas = true, 1
	c := up(t, cluster.Options{}, s)
	u := c.(cluster.Usager)
	awaitLine(t, c, "s-1", "done")
	usage, err := u.Usage(t.Context())
	require.NoError(t, err)
	used, waited := usage["s-1"].CPU, usage["s-1"].Waited
	require.Greater(t, used, 20*time.Millisecond)
	require.NoError(t, c.Scale(t.Context(), "s", 0))
	usage, err = u.Usage(t.Context())
	require.NoError(t, err)
	require.Equal(t, cluster.Usage{CPU: usage["s-1"].CPU, Waited: usage["s-1"].Waited}, usage["s-1"])
	require.GreaterOrEqual(t, usage["s-1"].CPU, used)
	require.GreaterOrEqual(t, usage["s-1"].Waited, waited)
	require.NoError(t, c.Scale(t.Context(), "s", 1))
	usage, err = u.Usage(t.Context())
	require.NoError(t, err)
	require.GreaterOrEqual(t, usage["s-1"].CPU, used)
	require.GreaterOrEqual(t, usage["s-1"].Waited, waited)
	require.NotZero(t, usage["s-1"].Threads)

	began := time.Now()
	const sweeps = 20
	for range sweeps {
		_, err := u.Usage(t.Context())
		require.NoError(t, err)
	}
	t.Log("one sweep over 2 nodes takes", time.Since(began)/sweeps)
}

// TestUsageBesideAZombie: a child that ended and that nobody waits for hides nobody's figures, of an ordinary user's node neither, whose
// /proc shows the zombie's descriptors to nobody.
func TestUsageBesideAZombie(t *testing.T) {
	// The child ends when its parent has become a program that waits for no child.
	c := up(t, cluster.Options{}, shell("s", `( until read -r is < /proc/$$/comm && [ "$is" = sleep ]; do :; done ) & exec sleep 1000`),
		shell("idle", "exec sleep 1000"))
	deadline := time.Now().Add(20 * time.Second)
	for {
		e, err := c.Exec(t.Context(), "s", cluster.Process{Argv: []string{"/bin/sh", "-c",
			`for f in /proc/[0-9]*/stat; do read -r _ _ state _ < $f && [ "$state" = Z ] && exit 0; done; exit 1`}})
		require.NoError(t, err)
		exit, err := e.Wait()
		require.NoError(t, err)
		if exit.Code == 0 {
			break
		}
		require.True(t, time.Now().Before(deadline), "there is no zombie")
	}
	for {
		usage, err := c.(cluster.Usager).Usage(t.Context())
		require.NoError(t, err)
		if usage["s"].FDs == usage["idle"].FDs { // those of the program itself, once the init has let go of the last exec's
			break
		}
		require.True(t, time.Now().Before(deadline), "%d descriptors, and %d of a node without a zombie", usage["s"].FDs, usage["idle"].FDs)
	}
}

func logOf(t *testing.T, c cluster.Cluster, node string) string {
	for _, n := range c.Nodes() {
		if n.Name == node {
			b, err := os.ReadFile(n.Log)
			require.NoError(t, err)
			return string(b)
		}
	}
	t.Fatalf("no node %s", node)
	return ""
}

func awaitLine(t *testing.T, c cluster.Cluster, node, word string) string {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		text := logOf(t, c, node)
		if strings.Contains(text, word) {
			return text
		}
		require.True(t, time.Now().Before(deadline), "%s does not say %q", node, word)
		time.Sleep(5 * time.Millisecond)
	}
}

// burnt is what n shells said that they and their children took.
func burnt(t *testing.T, said string, n int) (sum time.Duration) {
	t.Helper()
	times := 0
	for _, f := range strings.Fields(said) {
		if d, err := time.ParseDuration(f); err == nil && strings.HasSuffix(f, "s") {
			sum += d
			times++
		}
	}
	require.Equal(t, 4*n, times, "what times said")
	return sum
}
