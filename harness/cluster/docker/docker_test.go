package docker_test

import (
	"testing"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/clustertest"
	"github.com/hasvc/gauntlet/harness/cluster/docker"
)

// needEngine skips a test where there is no engine, with doctor's reason.
func needEngine(t *testing.T) {
	t.Helper()
	if err := docker.New().Capabilities().Missing(cluster.PacketRules); err != nil {
		t.Skipf("no container engine: %v", err)
	}
}

func TestDriver(t *testing.T) {
	needEngine(t)
	clustertest.Run(t, docker.New())
}
