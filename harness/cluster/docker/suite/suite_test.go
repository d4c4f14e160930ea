// Package suite has the one test of the driver that every driver must pass. It is a package of its own because go test bounds the
// time of a package, and containers take theirs.
package suite

import (
	"testing"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/clustertest"
	"github.com/hasvc/gauntlet/harness/cluster/docker"
)

func TestDriver(t *testing.T) {
	d := docker.New()
	if err := d.Capabilities().Missing(cluster.PacketRules); err != nil {
		t.Skipf("no container engine: %v", err)
	}
	clustertest.Run(t, d)
}
