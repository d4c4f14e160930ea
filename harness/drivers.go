package harness

import (
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/docker"
	"github.com/hasvc/gauntlet/harness/cluster/sandbox"
)

// Drivers lists what can carry a topology; the first is the default.
var Drivers = []DriverRow{
	{Name: "sandbox", Doc: "processes in Linux namespaces; needs user namespaces, or root", New: func() cluster.Driver { return sandbox.New() }},
	{Name: "docker", Doc: "containers of Docker, rootless Docker or Podman; needs its socket, and no registry", New: func() cluster.Driver { return docker.New() }},
}
