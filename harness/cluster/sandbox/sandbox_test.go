package sandbox_test

import (
	"testing"

	"github.com/hasvc/gauntlet/harness/cluster/clustertest"
	"github.com/hasvc/gauntlet/harness/cluster/sandbox"
)

func TestDriver(t *testing.T) { clustertest.Run(t, sandbox.New()) }
