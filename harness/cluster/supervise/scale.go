package supervise

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
func (t *Topology) Scale(ctx context.Context, service string, count int) error {
	s := t.services[service]
	switch {
	case s == nil:
		return &cluster.UnknownNodeError{Name: service}
	case !s.Scaled:
		return fmt.Errorf("service %s cannot be scaled: it has no deploy.replicas", service)
	case count < 0:
		return fmt.Errorf("scale service %s to %d: at least 0", service, count)
	}
	if err := t.scaling.lock(ctx); err != nil {
		return fmt.Errorf("scale service %s: %w", service, err)
	}
	defer t.scaling.unlock()
	defer t.events.flush(ctx)
	have := t.replicas(service)
	if count < len(have) {
		return t.shrink(ctx, have[count:])
	}
	return t.grow(ctx, s, len(have), count)
}

// grow adds replicas and waits until they are ready. What does not get ready is removed again.
func (t *Topology) grow(ctx context.Context, s *cluster.Service, from, to int) error {
	g, gctx := errgroup.WithContext(ctx)
	var added []*Node
	for k, name := range names(s, from+1, to) {
		n, err := t.reserve(s, name, from+k+1)
		if err != nil {
			return fmt.Errorf("scale service %s: %w", s.Name, errors.Join(err, t.shrink(ctx, added)))
		}
		added = append(added, n)
		g.Go(func() error {
			if err := errors.Join(n.make(gctx), t.enlist(gctx)); err != nil {
				return err
			}
			if err := t.changing(gctx, name, func(n *Node) error { return n.start(gctx) }); err != nil {
				return err
			}
			return t.awaitStart(gctx, n)
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("scale service %s to %d: %w", s.Name, to, errors.Join(err, t.shrink(context.WithoutCancel(ctx), added)))
	}
	return nil
}

// shrink stops replicas, side by side, and removes them.
func (t *Topology) shrink(ctx context.Context, nodes []*Node) error {
	var mu sync.Mutex
	var errs []error
	var stopping sync.WaitGroup
	for _, n := range nodes {
		stopping.Go(func() {
			if err := t.dismiss(ctx, n); err != nil {
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
func (t *Topology) dismiss(ctx context.Context, n *Node) error {
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

	t.mu.Lock()
	delete(t.nodes, n.Info.Name)
	t.order = slices.DeleteFunc(t.order, func(x *Node) bool { return x == n })
	t.mu.Unlock()
	if p := n.where(); p != nil {
		errs = append(errs, p.Remove(context.WithoutCancel(ctx)))
	}
	errs = append(errs, n.letGo())
	n.emit(cluster.NodeRemoved, time.Now(), "")
	return errors.Join(errs...)
}

func (n *Node) alive() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.run != nil && n.run.alive
}

// letGo closes a node's log, when all of its last program's output is in it.
func (n *Node) letGo() error {
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
	return errors.Join(errs...)
}
