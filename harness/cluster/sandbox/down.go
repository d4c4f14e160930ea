package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// auditTime is how long the kernel may take to clear what is no longer used.
const auditTime = 5 * time.Second

// Down implements cluster.Cluster.
func (c *sandbox) Down(ctx context.Context) (left []string, err error) {
	c.down.Do(func() {
		c.mu.Lock()
		c.end() // no restart, no probe, no new connection from now on
		c.mu.Unlock()
		c.stopAll(ctx)
		c.left, c.downErr = c.clear()
	})
	return c.left, c.downErr
}

// hurry makes Down kill instead of stopping: a start that failed has nothing to finish.
func (c *sandbox) hurry() {
	if c.plane == nil {
		return
	}
	for _, n := range c.all() {
		n.mu.Lock()
		n.wanted = false
		if n.run != nil {
			n.run.announced = true
		}
		n.mu.Unlock()
	}
	c.mu.Lock()
	c.hurried = true
	c.mu.Unlock()
}

func (c *sandbox) all() []*node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*node(nil), c.order...)
}

// stopAll stops every program as Compose does: a service when all that depend on it have stopped, replicas side by
// side. What fails is killed with the plane.
func (c *sandbox) stopAll(ctx context.Context) {
	if c.hurried {
		return
	}
	stopped := map[string]chan struct{}{}
	dependents := map[string][]string{}
	for name, s := range c.services {
		stopped[name] = make(chan struct{})
		for _, d := range s.DependsOn {
			dependents[d.Service] = append(dependents[d.Service], name)
		}
	}
	var stopping sync.WaitGroup
	for name := range c.services {
		stopping.Go(func() {
			defer close(stopped[name])
			for _, d := range dependents[name] {
				<-stopped[d]
			}
			var replicas sync.WaitGroup
			for _, n := range c.replicas(name) {
				replicas.Go(func() { c.stopForDown(ctx, n) })
			}
			replicas.Wait()
		})
	}
	stopping.Wait()
}

func (c *sandbox) stopForDown(ctx context.Context, n *node) {
	if n.op.lock(ctx) != nil {
		return
	}
	defer n.op.unlock()
	n.mu.Lock()
	n.wanted = false
	n.mu.Unlock()
	if n.alive() && n.control != nil {
		_, _ = n.stop(ctx) // its end shows in the audit
	}
}

// clear ends the plane, and with it whatever is left, and looks for what should be gone.
func (c *sandbox) clear() (left []string, err error) {
	var errs []error
	var processes []process
	if c.plane != nil {
		processes = snapshot(c.plane.pid)
	}
	c.mu.Lock()
	pools := c.pools
	c.pools = map[string]*socketPool{}
	c.mu.Unlock()
	for _, p := range pools {
		p.close()
	}
	if c.plane != nil {
		c.plane.stop()
	}
	for _, n := range c.all() {
		if n.control != nil {
			n.control.close()
		}
	}
	c.background.Wait()
	for _, n := range c.all() {
		errs = append(errs, n.letGo())
		if n.service != nil && n.control != nil {
			n.emit(cluster.NodeRemoved, time.Now(), "")
		}
	}
	errs = append(errs, c.cgroup.remove(), os.RemoveAll(c.copies.dir))
	c.events.close()
	if c.plane != nil {
		left = append(left, awaitGone(processes)...)
	}
	if c.cgroup != nil {
		for _, dir := range c.cgroup.dirs {
			if _, err := os.Stat(dir); err == nil {
				left = append(left, "cgroup "+dir)
			}
		}
	}
	return left, errors.Join(errs...)
}

// process names a process of this machine for ever.
type process struct {
	pid   int
	start uint64
}

// snapshot lists a process and its descendants.
func snapshot(root int) (list []process) {
	for _, pid := range processTree(root) {
		if start, err := startTime(pid); err == nil {
			list = append(list, process{pid, start})
		}
	}
	return list
}

// awaitGone waits until the processes are gone and names those that are not.
func awaitGone(list []process) (left []string) {
	deadline := time.Now().Add(auditTime)
	for {
		left = left[:0]
		for _, p := range list {
			if start, err := startTime(p.pid); err == nil && start == p.start {
				left = append(left, fmt.Sprintf("process %d", p.pid))
			}
		}
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		time.Sleep(2 * time.Millisecond) // these are not children of ours: the kernel tells nobody
	}
}
