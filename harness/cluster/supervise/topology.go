// Package supervise is the half of a driver that is the same whatever carries the nodes: it keeps the books of a topology, starts
// and stops its programs in the order of their dependencies, watches over their readiness, carries out restart
// policies, scales, and tells the observer. What differs (how a node, a program, a connection or a rule comes to be)
// is behind the interfaces Carrier and Place, which each driver implements.
package supervise

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"sort"
	"sync"
	"syscall"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/plane"
)

// Carrier carries the nodes of one topology.
type Carrier interface {
	// Addr is the address of the node with an index, from 1.
	Addr(index int) (netip.Addr, error)
	// Make makes a node without its program: its network, its name, its files. What it made when it failed is removed by the place that
	// comes with the error, if one does, or else by End.
	Make(ctx context.Context, n *Node) (Place, error)
	// Dial connects from a node, or, with nil, from the plane itself past the rules. network is tcp or udp.
	Dial(ctx context.Context, from *Node, network string, to netip.AddrPort) (net.Conn, error)
	Router
	// Gone is closed when the plane has ended, by itself or by End; Err then says why.
	Gone() <-chan struct{}
	Err() error
	// Abandon ends what is left after the plane has ended by itself. No node runs when it returns.
	Abandon()
	// End ends the plane and every node and names what stays in spite of it. After it no callback comes.
	End() (left []string, err error)
}

// Router sets rules on links by their addresses; the methods are those of plane.Router.
type Router interface {
	Apply(ctx context.Context, links []plane.AddrLink, r cluster.Rule) (cluster.RuleID, error)
	Remove(ctx context.Context, id cluster.RuleID) error
	Counters(ctx context.Context, id cluster.RuleID) ([]plane.AddrCounter, error)
	Reset(ctx context.Context, links []plane.AddrLink) (int, error)
	Intercept(ctx context.Context, links []plane.AddrLink) error
	Observe(ctx context.Context, links []plane.AddrLink, replied bool) error
	Probe(ctx context.Context, at netip.AddrPort, listens bool) error
	Calls(ctx context.Context) (plane.Calls, error)
	CallsEnd(ctx context.Context) ([]plane.Observed, error)
}

// Place is a node as its carrier has it: where programs run. Only one of its methods that change the program is called at a
// time, Exec and Pids apart.
type Place interface {
	// Start starts the node's program and returns when that was. On error nothing runs.
	Start(ctx context.Context, l Launch) (time.Time, error)
	// Kill sends SIGKILL to every process of the node. Their end comes by Launch.Exited.
	Kill(ctx context.Context) error
	// Terminate sends a signal to the program alone, as docker stop does, and wakes it when it is paused.
	Terminate(ctx context.Context, sig syscall.Signal, paused bool) error
	// Pause returns when every process of the node is stopped; Resume is its inverse.
	Pause(ctx context.Context) error
	Resume(ctx context.Context) error
	// Signal sends a signal to every process of the node's program and what it started, or to those of them whose command line
	// contains match, and says who got it.
	Signal(ctx context.Context, sig syscall.Signal, match string) (Signalled, error)
	// Exec is cluster.Runner's, with what Node.Extra returns in the program's environment.
	Exec(ctx context.Context, p cluster.Process) (cluster.Execution, error)
	// Listen is cluster.Prober's.
	Listen(ctx context.Context) (net.Listener, error)
	// Pids are the processes of the node's programs, as this machine numbers them; none where it cannot know.
	Pids() []int
	// Remove takes the node away, from under its program if it must.
	Remove(ctx context.Context) error
}

// Signalled is who got a signal.
type Signalled struct {
	Count   int  // processes
	Program bool // the node's program is one of them
}

// Launch is one start of a node's program.
type Launch struct {
	// Log takes what the program writes: Log.CopyLines for each stream.
	Log *Log
	// Written is to be called once, when all that the program wrote is in the log.
	Written func()
	// Exited is to be called once, when the program has ended and, with it, every process of the node. It may come
	// before Start has returned. detail says what the exit status does not, such as that memory ran out.
	Exited func(x cluster.Exit, detail string)
}

// Config of a Topology.
type Config struct {
	Spec    *cluster.Spec
	Options cluster.Options
	// Settle is how long Up waits for the end of a program that has no ready condition or healthcheck and ends at once;
	// 0: no longer than such a program may live. A carrier that hears of an end late must allow for it.
	Settle time.Duration
	// AtOnce is how long a program may have lived and still have ended at once; 0: settleTime. Where a start takes long, so does reading
	// one's flags.
	AtOnce time.Duration
	// Makers is how many nodes are made at a time; 0: all.
	Makers int
	// StopSignal, when not nil, is the stop signal of a service that names none; empty: SIGTERM.
	StopSignal func(*cluster.Service) string
	// StartDetail, when not nil, is a remark on the start of a node's programs, such as a limit that is not honoured.
	StartDetail func(*cluster.Service) string
}

// Topology is a running topology. It implements cluster.Cluster.
type Topology struct {
	cfg      Config
	carrier  Carrier
	services map[string]*cluster.Service
	events   *events

	life       context.Context // ends when the topology begins to end
	end        context.CancelFunc
	background sync.WaitGroup
	scaling    semaphore

	mu    sync.Mutex
	nodes map[string]*Node
	order []*Node // as they were made
	next  int     // index of the next node
	turn  map[string]int
	rules map[cluster.RuleID][]cluster.Link

	calls *calls // nil when no link is observed

	died   chan struct{} // closed when it ended without Down
	reason error         // why; guarded by mu

	hurried bool // Down kills instead of stopping
	down    sync.Once
	left    []string
	downErr error
}

// Options are what the topology was started with, its directories absolute.
func (t *Topology) Options() cluster.Options { return t.cfg.Options }

// Life ends when the topology begins to end.
func (t *Topology) Life() context.Context { return t.life }

// Go runs f in a goroutine that Down waits for.
func (t *Topology) Go(f func()) { t.background.Go(f) }

// node finds a node by its name.
func (t *Topology) node(name string) (*Node, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.nodes[name]; n != nil {
		return n, nil
	}
	return nil, &cluster.UnknownNodeError{Name: name}
}

// living finds a node of a topology that is up.
func (t *Topology) living(name string) (*Node, error) {
	if t.life.Err() != nil {
		return nil, t.ending()
	}
	return t.node(name)
}

// replicas returns the nodes of a service by their ordinals.
func (t *Topology) replicas(service string) []*Node {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []*Node
	for _, n := range t.order {
		if n.Service != nil && n.Info.Service == service {
			list = append(list, n)
		}
	}
	return list
}

func (t *Topology) all() []*Node {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]*Node(nil), t.order...)
}

// Nodes implements cluster.Cluster.
func (t *Topology) Nodes() []cluster.NodeInfo {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]cluster.NodeInfo, 0, len(t.order))
	for _, n := range t.order {
		if n.Service != nil {
			list = append(list, n.Info)
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list
}

// Spec implements cluster.Cluster.
func (t *Topology) Spec() *cluster.Spec { return t.cfg.Spec }

// Status implements cluster.Cluster.
func (t *Topology) Status(name string) (cluster.Status, error) {
	n, err := t.node(name)
	if err != nil {
		return cluster.Status{}, err
	}
	n.mu.Lock()
	s := cluster.Status{State: n.state, Ready: n.ready, Restarts: n.restarts}
	if r := n.run; r != nil {
		s.Started = r.started
	}
	s.Exit = n.lastExit
	running := n.Service == nil || n.run != nil && n.run.alive
	n.mu.Unlock()
	if p := n.where(); running && p != nil {
		s.Pids = p.Pids()
	}
	return s, nil
}

// Done implements cluster.Cluster.
func (t *Topology) Done() <-chan struct{} { return t.died }

// Err implements cluster.Cluster.
func (t *Topology) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reason
}

// ending says why nothing more can be done.
func (t *Topology) ending() error {
	if err := t.Err(); err != nil {
		return err
	}
	return errDown
}

var errDown = errors.New("the topology is down")

// watchPlane ends the topology when its plane ends by itself.
func (t *Topology) watchPlane() {
	<-t.carrier.Gone()
	if t.life.Err() != nil {
		return // Down did it
	}
	t.carrier.Abandon()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.life.Err() != nil {
		return // Down did it
	}
	t.reason = t.carrier.Err()
	t.end()
	close(t.died)
}

// logPath is where a node's output goes.
func (t *Topology) logPath(name string) string {
	return filepath.Join(t.cfg.Options.Dir, "logs", name+".log")
}

// names returns the names of a service's nodes from one ordinal to another.
func names(s *cluster.Service, from, to int) (list []string) {
	for i := from; i <= to; i++ {
		list = append(list, cluster.NodeName(s, i))
	}
	return list
}

// replicaCount is how many nodes a service starts with.
func replicaCount(s *cluster.Service) int {
	if s.Scaled {
		return s.Replicas
	}
	return 1
}
