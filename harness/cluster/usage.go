package cluster

import (
	"context"
	"time"
)

// Plane names, in the answer of a Usager, what the driver itself runs: the plane and what stands beside the nodes'
// programs. No node can have this name, for a host name has no parentheses.
const Plane = "(plane)"

// Engine names, in the answer of a Usager, what carries the nodes where that is a program of its own, as a container engine is: its CPU
// alone, whoever it was for.
const Engine = "(engine)"

// Usage is what a node uses of the machine, seen from outside.
type Usage struct {
	// CPU is the user and system time of all processes of the node since the topology started, those that ended
	// included as far as known. It never falls.
	CPU time.Duration `json:"cpu"`
	// Waited is how long the threads of the node were ready to run and had no processor, all of them added up, since the topology started;
	// what ended between two readings is missed. 0 where it is not known.
	Waited time.Duration `json:"waited,omitempty"`
	// RSS is the resident memory of all processes of the node, in bytes; what they share is counted for each.
	RSS     uint64 `json:"rss"`
	Threads uint64 `json:"threads"`
	FDs     uint64 `json:"fds"` // open descriptors of all processes
	// Sockets in use in the node's network, whoever holds them; those in TIME_WAIT are not among them.
	Sockets  uint64 `json:"sockets"`
	Restarts int    `json:"restarts"` // starts after the first, whoever asked
}

// Usager is a Cluster that knows what its nodes use.
type Usager interface {
	// Usage returns the present figures of every node, of Client, of Plane and, where there is one, of Engine. A node that was
	// removed stays, with the processor time that it had used and no more. An error says why there are no figures; then there
	// are none.
	Usage(ctx context.Context) (map[string]Usage, error)
}
