package sandbox_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// TestManyNodes starts 200 small nodes on one machine.
func TestManyNodes(t *testing.T) {
	if testing.Short() {
		t.Skip("200 nodes, left out by -short")
	}
	var services []cluster.Service
	s := shell("s", "exec sleep 1000")
	s.Scaled, s.Replicas = true, 200
	services = append(services, s)
	began := time.Now()
	c := up(t, cluster.Options{}, services...)
	t.Log("200 nodes up in", time.Since(began))
	require.Len(t, c.Nodes(), 200)
	for _, i := range []int{1, 77, 200} {
		_, err := c.Dial(t.Context(), "s-"+strconv.Itoa(201-i), "tcp", "s-"+strconv.Itoa(i)+":80")
		require.ErrorContains(t, err, "refused")
	}
}

// TestManyTrees gives every node more trees than the plane has descriptors.
func TestManyTrees(t *testing.T) {
	bin := map[string]string{}
	for i := range 100 {
		bin["program"+strconv.Itoa(i)] = "/bin/true"
	}
	c := up(t, cluster.Options{Bin: bin}, shell("a", "exec sleep 1000"), shell("b", "exec sleep 1000"))
	require.Equal(t, "/gauntlet/bin/program99\n", output(t, c, "b", "command -v program99"))
}

// TestManyTreesOfAPrivateExecutable: what only root may execute starts the inits of its nodes from a copy.
func TestManyTreesOfAPrivateExecutable(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("an ordinary user's executable is its nodes' own")
	}
	b, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	private := filepath.Join(t.TempDir(), "private.test")
	require.NoError(t, os.WriteFile(private, b, 0o700))
	said, err := exec.Command(private, "-test.run", "^TestManyTrees$", "-test.v").CombinedOutput()
	require.NoError(t, err, "%s", said)
	require.Contains(t, string(said), "PASS: TestManyTrees")
}
