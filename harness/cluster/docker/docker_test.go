package docker_test

import (
	"testing"

	"github.com/hasvc/gauntlet/harness/cluster/clustertest"
	"github.com/hasvc/gauntlet/harness/cluster/docker"
)

func TestDriver(t *testing.T) {
	needEngine(t)
	clustertest.Run(t, docker.New())
}
