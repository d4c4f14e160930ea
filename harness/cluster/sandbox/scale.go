package sandbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// Scale implements cluster.Cluster.
func (c *sandbox) Scale(ctx context.Context, service string, count int) error {
	s := c.services[service]
	switch {
	case s == nil:
		return &cluster.UnknownNodeError{Name: service}
	case !s.Scaled:
		return fmt.Errorf("service %s cannot be scaled: it has no deploy.replicas", service)
	case count < 0:
		return fmt.Errorf("scale service %s to %d: at least 0", service, count)
	}
	if err := c.scaling.lock(ctx); err != nil {
		return fmt.Errorf("scale service %s: %w", service, err)
	}
	defer c.scaling.unlock()
	defer c.events.flush(ctx)
	have := c.replicas(service)
	if count < len(have) {
		return c.shrink(ctx, have[count:])
	}
	return c.grow(ctx, s, len(have), count)
}

// grow adds replicas and waits until they are ready. What does not get ready is removed again.
func (c *sandbox) grow(ctx context.Context, s *cluster.Service, from, to int) error {
	g, gctx := errgroup.WithContext(ctx)
	var added []*node
	for k, name := range names(s, from+1, to) {
		n, err := c.reserve(s, name, from+k+1)
		if err != nil {
			return fmt.Errorf("scale service %s: %w", s.Name, errors.Join(err, c.shrink(ctx, added)))
		}
		added = append(added, n)
		g.Go(func() error {
			if err := n.make(gctx); err != nil {
				return err
			}
			if err := c.changing(gctx, name, func(n *node) error { return n.start(gctx) }); err != nil {
				return err
			}
			return c.awaitStart(gctx, n)
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("scale service %s to %d: %w", s.Name, to, errors.Join(err, c.shrink(context.WithoutCancel(ctx), added)))
	}
	return nil
}

// shrink stops replicas, side by side, and removes them.
func (c *sandbox) shrink(ctx context.Context, nodes []*node) error {
	var mu sync.Mutex
	var errs []error
	var stopping sync.WaitGroup
	for _, n := range nodes {
		stopping.Go(func() {
			if err := c.dismiss(ctx, n); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	stopping.Wait()
	return errors.Join(errs...)
}

// dismiss stops a node and takes it out of the topology.
func (c *sandbox) dismiss(ctx context.Context, n *node) error {
	if err := n.op.lock(ctx); err != nil {
		return err
	}
	defer n.op.unlock()
	var errs []error
	if n.alive() {
		_, err := n.stop(ctx)
		errs = append(errs, err)
	}
	n.mu.Lock()
	n.removed = true
	n.touch()
	n.mu.Unlock()

	c.mu.Lock()
	delete(c.nodes, n.info.Name)
	c.order = slices.DeleteFunc(c.order, func(x *node) bool { return x == n })
	var pools []*socketPool
	for _, network := range []string{"tcp", "udp"} {
		if p := c.pools[n.info.Name+"/"+network]; p != nil {
			pools = append(pools, p)
			delete(c.pools, n.info.Name+"/"+network)
		}
	}
	c.mu.Unlock()
	for _, p := range pools {
		p.close()
	}
	if n.control != nil {
		_, err := c.plane.Call(context.WithoutCancel(ctx), methodRemove, nameBody{n.info.Name}, nil)
		n.control.close()
		errs = append(errs, err)
	}
	errs = append(errs, n.letGo())
	n.emit(cluster.NodeRemoved, time.Now(), "")
	return errors.Join(errs...)
}

func (n *node) alive() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.run != nil && n.run.alive
}

// letGo closes a node's log, when all of its last program's output is in it, and removes its cgroup.
func (n *node) letGo() error {
	n.mu.Lock()
	r := n.run
	n.mu.Unlock()
	if r != nil {
		r.awaitWritten()
	}
	var errs []error
	if n.log != nil {
		errs = append(errs, n.log.err, n.log.close())
	}
	return errors.Join(append(errs, n.cgroup.remove())...)
}
