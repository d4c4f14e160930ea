package docker_test

import (
	"testing"

	"github.com/hasvc/gauntlet/harness/cluster/clustertest"
	"github.com/hasvc/gauntlet/harness/cluster/docker"
)

func TestDriver(t *testing.T) {
	skipWithoutEngine(t) // each part takes a turn of its own
	clustertest.Run(t, docker.New())
}
