package sandbox

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/procs"
)

const methodUsage = "sandbox.usage"

// Usage implements supervise.Meter. It is the plane's process that reads: it is the first of the namespace that all
// nodes are in, so one listing of its /proc is all of them, and it may see the descriptors of every user's processes.
func (c *carrier) Usage(ctx context.Context) (map[string]cluster.Usage, error) {
	var reply map[string]cluster.Usage
	_, err := c.plane.Call(ctx, methodUsage, struct{}{}, &reply)
	return reply, err
}

// meter keeps what a sweep over the processes cannot see any more.
type meter struct {
	mu sync.Mutex
	// used is the highest processor time that was seen of each node. A process that ends between the reading of its
	// parent and its own is missed once; a counter that falls would be taken for one that began anew.
	used map[string]time.Duration
	// waited is how long the node's threads waited for a processor; threads has what each had waited when it was seen last.
	waited  map[string]time.Duration
	threads map[string]map[int]time.Duration
	// ended is that of the removed nodes, for the next of the same name goes on from there.
	ended map[string]time.Duration
}

func newMeter() meter {
	return meter{used: map[string]time.Duration{}, waited: map[string]time.Duration{}, threads: map[string]map[int]time.Duration{}, ended: map[string]time.Duration{}}
}

func (p *planeServer) usage(ctx context.Context, _ struct{}) (any, []*os.File, error) {
	p.mu.Lock()
	nodes := make(map[string]int, len(p.nodes))
	for name, n := range p.nodes {
		nodes[name] = n.pid
	}
	p.mu.Unlock()
	p.meter.mu.Lock()
	defer p.meter.mu.Unlock()
	// Who stopped waiting meanwhile is not read for: sweeps that take longer than the time between two calls would queue up.
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	usage, err := p.meter.sweep(nodes)
	return usage, nil, err
}

// sweep reads the figures of nodes, each with the pid of its init. mu is held.
func (m *meter) sweep(nodes map[string]int) (map[string]cluster.Usage, error) {
	all, err := procs.All()
	if err != nil {
		return nil, err
	}
	usage := make(map[string]cluster.Usage, len(nodes)+len(m.ended)+1)
	for name, cpu := range m.ended {
		usage[name] = cluster.Usage{CPU: cpu, Waited: m.waited[name]}
	}
	// What the plane has reaped are inits with all their node used: that is counted as the nodes'.
	var own cluster.Usage
	if err := add(&own, all[os.Getpid()]); err != nil {
		return nil, err
	}
	if own.Sockets, err = procs.Sockets(os.Getpid()); err != nil {
		return nil, err
	}
	for name, pid := range nodes {
		init := all[pid]
		if err := add(&own, init); err != nil {
			return nil, err
		}
		u := cluster.Usage{CPU: m.ended[name] + init.Reaped}
		// Noted when the whole node was read: what a sweep that fails has added would be added again by the next.
		waited, seen := m.waited[name], make(map[int]time.Duration, len(m.threads[name]))
		for _, p := range procs.Tree(all, pid) {
			if err := add(&u, p); err != nil {
				return nil, err
			}
			u.CPU += p.Reaped
			for tid, d := range procs.Waits(p.PID) {
				waited += max(0, d-m.threads[name][tid])
				seen[tid] = d
			}
		}
		m.threads[name], m.waited[name], u.Waited = seen, waited, waited
		if u.Sockets, err = procs.Sockets(pid); err != nil {
			return nil, err
		}
		usage[name] = u
	}
	usage[cluster.Plane] = own
	for name, u := range usage {
		u.CPU = max(u.CPU, m.used[name])
		m.used[name] = u.CPU
		usage[name] = u
	}
	return usage, nil
}

// add adds the figures of a living process; one that ended meanwhile has no more descriptors.
func add(u *cluster.Usage, p procs.Process) error {
	if p.PID == 0 {
		return nil
	}
	u.CPU += p.CPU
	u.RSS += p.RSS
	u.Threads += p.Threads
	fds, err := procs.Descriptors(p.PID)
	u.FDs += fds
	return err
}

// close keeps what a node has used that is about to be removed.
func (m *meter) close(name string, pid int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if usage, err := m.sweep(map[string]int{name: pid}); err == nil { // else what was seen last stands
		m.used[name] = usage[name].CPU
	}
	m.ended[name] = m.used[name]
}
