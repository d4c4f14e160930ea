package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/plane"
	"github.com/hasvc/gauntlet/harness/cluster/supervise"
)

// carrier carries a topology's nodes in namespaces below one plane.
type carrier struct {
	plane.RemoteRouter
	options  cluster.Options
	ids      idSpace
	tree     *hostTree
	copies   copies
	plane    *planeProcess
	cgroup   *runCgroup // nil: nothing is limited
	noLimits error      // why limits are not honoured

	life context.Context // ends when End begins
	end  context.CancelFunc
	dead context.Context // ends when no program is to run any more
	bury context.CancelFunc

	mu     sync.Mutex
	places []*place
	pools  map[string]*socketPool
}

// newCarrier starts a plane.
func newCarrier(ctx context.Context, spec *cluster.Spec, opt cluster.Options, ids idSpace) (*carrier, error) {
	c := &carrier{options: opt, ids: ids, pools: map[string]*socketPool{}}
	c.life, c.end = context.WithCancel(context.Background())
	c.dead, c.bury = context.WithCancel(context.Background())
	c.copies.dir = filepath.Join(opt.Dir, "programs")
	var err error
	if c.tree, err = readHostTree(); err != nil {
		return nil, fmt.Errorf("read what nodes show of this machine: %w", err)
	}
	if c.plane, err = startPlane(ctx, opt.Dir, ids); err != nil {
		return nil, err
	}
	c.RemoteRouter = plane.RemoteRouter{Client: c.plane.Client}
	c.prepareLimits(spec)
	return c, nil
}

// prepareLimits makes the topology's cgroup when a service has limits. Where none can be made limits are not
// honoured: they make a run more like production, but their absence makes no verdict wrong.
func (c *carrier) prepareLimits(spec *cluster.Spec) {
	var need []string
	for i := range spec.Services {
		need = append(need, controllersOf(spec.Services[i].Limits)...)
	}
	if len(need) > 0 {
		slices.Sort(need)
		c.cgroup, c.noLimits = newRunCgroup(slices.Compact(need))
	}
}

// startDetail remarks on a start whose limits are not honoured.
func (c *carrier) startDetail(s *cluster.Service) string {
	if c.noLimits == nil || s.Limits == (cluster.Limits{}) {
		return ""
	}
	return "its resource limits are not honoured: " + c.noLimits.Error()
}

// Addr implements supervise.Carrier.
func (c *carrier) Addr(index int) (netip.Addr, error) { return nodeAddr(index) }

// Gone implements supervise.Carrier.
func (c *carrier) Gone() <-chan struct{} { return c.plane.Done() }

// Err implements supervise.Carrier.
func (c *carrier) Err() error {
	return fmt.Errorf("%w: %w%s", errPlaneDied, c.plane.Err(), c.plane.lastWords())
}

// planeEnds is how long after the end of an init that of the plane, which caused it, is heard of at the latest.
const planeEnds = time.Second

// planeDied reports, when an init is gone, whether it ended with the plane and not by itself. The kernel ends a plane's nodes with it, and
// which end is heard of first is chance.
func (c *carrier) planeDied() bool {
	wait := time.NewTimer(planeEnds)
	defer wait.Stop()
	select {
	case <-c.plane.Done():
		return c.life.Err() == nil // else End stopped it
	case <-c.life.Done():
	case <-wait.C:
	}
	return false
}

// Abandon implements supervise.Carrier: the nodes die with the plane.
func (c *carrier) Abandon() { c.plane.stop() }

// Dial implements supervise.Carrier.
func (c *carrier) Dial(ctx context.Context, from *supervise.Node, network string, to netip.AddrPort) (net.Conn, error) {
	name := ""
	if from != nil {
		name = from.Info.Name
	}
	pool, err := c.pool(name, network)
	if err != nil {
		return nil, err
	}
	f, err := pool.get(ctx)
	if err != nil {
		return nil, fmt.Errorf("dial %v from node %s: %w", to, name, err)
	}
	conn, err := connect(ctx, f, to)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: addrOf(network, to), Err: err}
	}
	return conn, nil
}

// pool returns the sockets of a node, the plane's for "".
func (c *carrier) pool(from, network string) (*socketPool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life.Err() != nil {
		return nil, fmt.Errorf("dial: %w", net.ErrClosed)
	}
	key := from + "/" + network
	p := c.pools[key]
	if p == nil {
		p = newSocketPool(c.life, from, network, c.sockets)
		c.pools[key] = p
	}
	return p, nil
}

func (c *carrier) sockets(ctx context.Context, node, network string, n int) ([]*os.File, error) {
	return c.plane.Call(ctx, methodSockets, socketsBody{Node: node, Network: network, Count: n}, nil)
}

// closePools closes those of a node, which keep its namespace alive.
func (c *carrier) closePools(node string) {
	var pools []*socketPool
	c.mu.Lock()
	for _, network := range []string{"tcp", "udp"} {
		if p := c.pools[node+"/"+network]; p != nil {
			pools = append(pools, p)
			delete(c.pools, node+"/"+network)
		}
	}
	c.mu.Unlock()
	for _, p := range pools {
		p.close()
	}
}

// End implements supervise.Carrier.
func (c *carrier) End() (left []string, err error) {
	processes := snapshot(c.plane.pid)
	c.mu.Lock()
	c.end()
	pools, places := c.pools, c.places
	c.pools = nil
	c.mu.Unlock()
	for _, p := range pools {
		p.close()
	}
	c.plane.stop()
	c.bury()
	var errs []error
	for _, p := range places {
		p.control.close()
		errs = append(errs, p.cgroup.remove())
	}
	errs = append(errs, c.cgroup.remove(), os.RemoveAll(c.copies.dir))
	left = awaitGone(processes)
	if c.cgroup != nil {
		for _, dir := range c.cgroup.dirs {
			if _, err := os.Stat(dir); err == nil {
				left = append(left, "cgroup "+dir)
			}
		}
	}
	return left, errors.Join(errs...)
}
