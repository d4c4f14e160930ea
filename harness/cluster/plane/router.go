// Package plane is what stands between the nodes of a topology: the routes, the packet rules and their counters, the
// queue that holds packets back, the link core with toxiproxy's toxics, and the name server. It also holds the
// protocol by which the harness talks to the process that has all this, wherever that process is.
//
// A Router works in the network namespace of its process, on addresses; it knows nothing of programs.
package plane

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// Config of a Router.
type Config struct {
	// Addr is the plane's own address, the nodes' gateway and name server. New puts it on the loopback interface, so
	// that it is there before the first node.
	Addr netip.Addr
	// DialTimeout bounds how long the link core waits for a server that does not answer; 0 is 30 s.
	DialTimeout time.Duration
}

// Node is what a Router knows of a node.
type Node struct {
	Name  string
	Addr  netip.Addr
	Names []string // further names it answers to, such as its service's
	// NetNS is the node's network namespace, for listing its sockets. The Router takes a copy. Without it Reset
	// cannot work on the node.
	NetNS *os.File
}

// AddrLink is a link by its addresses.
type AddrLink struct {
	From, To netip.Addr
}

func (l AddrLink) String() string { return l.From.String() + " -> " + l.To.String() }

// AddrCounter says what a rule acted on.
type AddrCounter struct {
	Link    AddrLink
	Packets uint64 // matched packets; of toxics, chunks
	Bytes   uint64
}

// Router is the network half of the plane. Its methods may be called from several goroutines.
type Router struct{}

// New sets up an empty plane in the network namespace of the process: forwarding, the packet filter, the queue, the
// link core and the name server. /proc must be that of the namespace.
func New(ctx context.Context, cfg Config) (*Router, error) { return nil, errors.ErrUnsupported }

// AddNode makes a node known: its packets are forwarded and its names answered. The route to it is the caller's.
func (r *Router) AddNode(n Node) error { return errors.ErrUnsupported }

// RemoveNode forgets a node and ends the core's connections with it. Rules on its links stay until they are removed.
func (r *Router) RemoveNode(name string) error { return errors.ErrUnsupported }

// Intercept registers links whose new TCP connections go through the link core from now on, so that toxics can be set
// on them. Connections that exist stay with the kernel.
func (r *Router) Intercept(links []AddrLink) error { return errors.ErrUnsupported }

// Apply puts a rule on links, all at once.
func (r *Router) Apply(links []AddrLink, rule cluster.Rule) (cluster.RuleID, error) {
	return 0, errors.ErrUnsupported
}

// Remove takes a rule away.
func (r *Router) Remove(id cluster.RuleID) error { return errors.ErrUnsupported }

// Counters returns what a rule acted on, link by link, in the order of Apply.
func (r *Router) Counters(id cluster.RuleID) ([]AddrCounter, error) {
	return nil, errors.ErrUnsupported
}

// Reset ends the live TCP connections between the two nodes of each link, idle ones too, so that both ends see a
// reset. It returns how many connections it found, when all are gone.
func (r *Router) Reset(ctx context.Context, links []AddrLink) (int, error) {
	return 0, errors.ErrUnsupported
}

// Audit names what is left of rules: an empty answer means that every link is as it was at the start.
func (r *Router) Audit() ([]string, error) { return nil, errors.ErrUnsupported }

// Close takes everything down.
func (r *Router) Close() error { return errors.ErrUnsupported }
