package serf

import (
	"testing"

	"github.com/hasvc/gauntlet/harness"
)

func TestPartition(t *testing.T) { harness.Test(t, "partition.yaml") }
