package docker

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/docker/engine"
	"github.com/hasvc/gauntlet/harness/cluster/procs"
)

// counter counts what one container uses. The engine's own figures take a second each and go through its process; on
// this machine the kernel's can be read: by the container's control group and by /proc.
type counter struct {
	mu     sync.Mutex
	id     string
	pid    int // of the container's first process; 0: it does not run
	cgroup *procs.Cgroup
	before time.Duration // processor time of earlier runs, each with a control group of its own, as seen last
	seen   time.Duration // of the present run

	waited  time.Duration         // of all runs, for a processor
	threads map[int]time.Duration // what each thread had waited when it was seen last
}

// began notes a run of the container. A zero pid is one that ended at once.
func (c *counter) began(container *engine.Container, pid int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.before += c.seen
	c.id, c.pid, c.cgroup, c.seen = container.ID(), pid, nil, 0
}

// usage are the present figures. What was used after the last call before an end is not known.
func (c *counter) usage() (u cluster.Usage, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u.CPU, u.Waited = c.before+c.seen, c.waited
	if c.pid == 0 {
		return u, nil
	}
	if c.cgroup == nil {
		g, err := procs.FindCgroup(c.pid, c.id)
		if err != nil {
			return c.ended(u, err)
		}
		c.cgroup = &g
	}
	cpu, err := c.cgroup.CPU()
	if err != nil {
		return c.ended(u, err)
	}
	c.seen = max(c.seen, cpu)
	u.CPU = c.before + c.seen
	pids, err := c.cgroup.Processes()
	if err != nil {
		return c.ended(u, err)
	}
	// Noted when all was read: what a reading that fails has added would be added again by the next.
	waited, threads := c.waited, make(map[int]time.Duration, len(c.threads))
	for _, pid := range pids {
		for tid, d := range procs.Waits(pid) {
			waited += max(0, d-c.threads[tid])
			threads[tid] = d
		}
		p, ok := procs.Read(pid)
		if !ok {
			continue
		}
		fds, err := procs.Descriptors(pid)
		if err != nil {
			return u, err
		}
		u.RSS += p.RSS
		u.Threads += p.Threads
		u.FDs += fds
	}
	c.threads, c.waited, u.Waited = threads, waited, waited
	return u, nil
}

// first is the id of the container's first process, 0 when it does not run.
func (c *counter) first() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pid
}

// ended tells a container that has ended, whose control group went with it, from one that cannot be read.
func (c *counter) ended(u cluster.Usage, err error) (cluster.Usage, error) {
	if _, ok := procs.Read(c.pid); ok {
		return u, err
	}
	c.pid = 0
	return cluster.Usage{CPU: u.CPU, Waited: u.Waited}, nil
}

// count begins to count a container that was just started and stays.
func count(ctx context.Context, container *engine.Container) (*counter, error) {
	st, err := container.Inspect(ctx)
	if err != nil {
		return nil, err
	}
	c := &counter{}
	c.began(container, st.Pid)
	return c, nil
}

// Usage implements supervise.Meter, where the engine's processes are this machine's.
func (c *carrier) Usage(ctx context.Context) (map[string]cluster.Usage, error) {
	if c.foreign != nil {
		return nil, fmt.Errorf("the engine cannot be seen to be on this machine, and its own figures are a second old: %w", c.foreign)
	}
	c.mu.Lock()
	places := make([]*place, 0, len(c.places))
	for _, p := range c.places {
		places = append(places, p)
	}
	all := make(map[string]cluster.Usage, len(places)+len(c.removed)+1)
	maps.Copy(all, c.removed)
	c.mu.Unlock()
	own, err := c.plane.used.usage()
	if err != nil {
		return nil, fmt.Errorf("the plane: %w", err)
	}
	if own.Sockets, err = procs.Sockets(c.plane.used.first()); err != nil {
		return nil, err
	}
	for _, p := range places {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		u, err := p.used.usage()
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", p.node.Info.Name, err)
		}
		pod, err := p.pod.used.usage()
		if err != nil {
			return nil, fmt.Errorf("the pod of node %s: %w", p.node.Info.Name, err)
		}
		if u.Sockets, err = procs.Sockets(p.pod.used.first()); err != nil { // the pod's network is the node's
			return nil, err
		}
		own.CPU += pod.CPU
		own.RSS += pod.RSS
		own.Threads += pod.Threads
		own.FDs += pod.FDs
		u.CPU += all[p.node.Info.Name].CPU
		u.Waited += all[p.node.Info.Name].Waited
		all[p.node.Info.Name] = u
	}
	own.CPU += all[cluster.Plane].CPU // of the pods of removed nodes
	all[cluster.Plane] = own
	first := []int{c.plane.used.first()}
	for _, p := range places {
		first = append(first, p.used.first(), p.pod.used.first())
	}
	all[cluster.Engine] = cluster.Usage{CPU: c.daemons.used(first)}
	return all, nil
}

// retire takes a node that is about to be removed out of those that are read, and remembers what it has used. What cannot be read any
// more is what was seen last.
func (c *carrier) retire(p *place) {
	u, _ := p.used.usage()
	pod, _ := p.pod.used.usage()
	c.mu.Lock()
	defer c.mu.Unlock()
	name := p.node.Info.Name
	c.removed[name] = cluster.Usage{CPU: c.removed[name].CPU + u.CPU, Waited: c.removed[name].Waited + u.Waited}
	c.removed[cluster.Plane] = cluster.Usage{CPU: c.removed[cluster.Plane].CPU + pod.CPU}
	delete(c.places, p.node.Info.Addr)
}
