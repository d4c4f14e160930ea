package supervise

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// Down implements cluster.Cluster.
func (t *Topology) Down(ctx context.Context) (left []string, err error) {
	t.down.Do(func() {
		t.mu.Lock()
		t.end() // no restart, no probe, no new connection from now on
		t.mu.Unlock()
		t.stopAll(ctx)
		if t.calls != nil {
			t.calls.end(ctx)
		}
		t.left, t.downErr = t.clear()
	})
	return t.left, t.downErr
}

// hurry makes Down kill instead of stopping: a start that failed has nothing to finish.
func (t *Topology) hurry() {
	for _, n := range t.all() {
		n.discard()
	}
	t.mu.Lock()
	t.hurried = true
	t.mu.Unlock()
}

// discard gives a node's program up: that it ends from now on is the harness's doing.
func (n *Node) discard() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wanted = false
	if n.run != nil {
		n.run.announced = true
	}
}

// stopAll stops every program as Compose does: a service when all that depend on it have stopped, replicas side by
// side. What fails is killed with the plane.
func (t *Topology) stopAll(ctx context.Context) {
	if t.hurried {
		return
	}
	stopped := map[string]chan struct{}{}
	dependents := map[string][]string{}
	for name, s := range t.services {
		stopped[name] = make(chan struct{})
		for _, d := range s.DependsOn {
			dependents[d.Service] = append(dependents[d.Service], name)
		}
	}
	var stopping sync.WaitGroup
	for name := range t.services {
		stopping.Go(func() {
			defer close(stopped[name])
			for _, d := range dependents[name] {
				<-stopped[d]
			}
			var replicas sync.WaitGroup
			for _, n := range t.replicas(name) {
				replicas.Go(func() { t.stopForDown(ctx, n) })
			}
			replicas.Wait()
		})
	}
	stopping.Wait()
}

func (t *Topology) stopForDown(ctx context.Context, n *Node) {
	if n.op.lock(ctx) != nil {
		n.discard() // it ends with the plane
		return
	}
	defer n.op.unlock()
	n.mu.Lock()
	n.wanted = false
	n.mu.Unlock()
	if n.alive() {
		_, _ = n.stop(ctx) // its end shows in the audit
	}
}

// clear ends the plane, and with it whatever is left.
func (t *Topology) clear() (left []string, err error) {
	left, err = t.carrier.End()
	t.background.Wait()
	errs := []error{err}
	for _, n := range t.all() {
		errs = append(errs, n.letGo())
		if n.Service != nil && n.where() != nil {
			n.emit(cluster.NodeRemoved, time.Now(), "")
		}
	}
	t.events.close()
	return left, errors.Join(errs...)
}
