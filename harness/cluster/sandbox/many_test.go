package sandbox_test

import (
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
