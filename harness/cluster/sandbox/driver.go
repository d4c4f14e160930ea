package sandbox

import (
	"sync"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// Driver starts topologies in sandboxes. The zero value is ready.
type Driver struct{}

// New returns the driver.
func New() Driver { return Driver{} }

// Name implements cluster.Driver.
func (Driver) Name() string { return "sandbox" }

// Capabilities implements cluster.Driver. The answer is found once in the life of the process.
func (Driver) Capabilities() cluster.Capabilities { return capabilities() }

var capabilities = sync.OnceValue(findCapabilities)
