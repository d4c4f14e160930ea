// Package sandbox is the default driver: it runs a topology with nothing but the kernel's namespaces, as root or as an
// ordinary user.
//
// Importing it makes the executable, a test binary too, its own plane and its own nodes' init: see hook.go.
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
