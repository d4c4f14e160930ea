package supervise

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// Absolute makes the directories of options absolute, and names one for volumes where none is given.
func Absolute(opt cluster.Options) (cluster.Options, error) {
	var err error
	if opt.Dir, err = filepath.Abs(opt.Dir); err != nil {
		return opt, fmt.Errorf("find the run's directory: %w", err)
	}
	if opt.Volumes == "" {
		opt.Volumes = filepath.Join(opt.Dir, "volumes")
	}
	if opt.Volumes, err = filepath.Abs(opt.Volumes); err != nil {
		return opt, fmt.Errorf("find the directory of volumes: %w", err)
	}
	return opt, nil
}

// Up makes the nodes on a carrier whose plane runs, starts their programs in the order of depends_on and returns when
// all are ready. On error nothing is left, the plane included; what could not be removed is a *cluster.LeftError.
func Up(ctx context.Context, carrier Carrier, cfg Config) (*Topology, error) {
	t := &Topology{
		cfg: cfg, carrier: carrier,
		services: map[string]*cluster.Service{},
		events:   newEvents(cfg.Options.Observe),
		scaling:  make(semaphore, 1),
		nodes:    map[string]*Node{},
		turn:     map[string]int{},
		rules:    map[cluster.RuleID][]cluster.Link{},
		died:     make(chan struct{}),
	}
	t.life, t.end = context.WithCancel(context.Background())
	for i := range cfg.Spec.Services {
		t.services[cfg.Spec.Services[i].Name] = &cfg.Spec.Services[i]
	}
	t.background.Go(t.watchPlane)
	if err := t.up(ctx); err != nil {
		t.hurry()
		left, downErr := t.Down(context.WithoutCancel(ctx))
		if len(left) > 0 {
			downErr = errors.Join(downErr, &cluster.LeftError{Left: left})
		}
		return nil, errors.Join(err, downErr)
	}
	return t, nil
}

func (t *Topology) up(ctx context.Context) error {
	if err := t.makeNodes(ctx); err != nil {
		return err
	}
	if err := t.enlist(ctx); err != nil {
		return err
	}
	if len(t.cfg.Options.Observed) > 0 && t.cfg.Options.Calls != nil {
		t.calls = newCalls(t.carrier, t.cfg.Options.Calls)
		t.background.Go(func() { t.calls.run(t.life) })
	}
	return t.startAll(ctx)
}

// makeNodes makes every node, without its program, and the client.
func (t *Topology) makeNodes(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	if t.cfg.Makers > 0 {
		g.SetLimit(t.cfg.Makers)
	}
	make := func(s *cluster.Service, name string, ordinal int) {
		n, err := t.reserve(s, name, ordinal)
		g.Go(func() error {
			if err != nil {
				return err
			}
			return n.make(ctx)
		})
	}
	make(nil, cluster.Client, 1)
	for i := range t.cfg.Spec.Services {
		s := &t.cfg.Spec.Services[i]
		for k, name := range names(s, 1, replicaCount(s)) {
			make(s, name, k+1)
		}
	}
	return g.Wait()
}

// reserve enters a node into the books: its name resolves from now on.
func (t *Topology) reserve(s *cluster.Service, name string, ordinal int) (*Node, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next++
	addr, err := t.carrier.Addr(t.next)
	if err != nil {
		return nil, err
	}
	n := &Node{
		t: t, Service: s, Index: t.next,
		Info:    cluster.NodeInfo{Name: name, Ordinal: ordinal, Addr: addr, Log: t.logPath(name)},
		op:      make(semaphore, 1),
		changed: make(chan struct{}),
		state:   cluster.StateCreated,
	}
	if s != nil {
		n.Info.Service, n.Info.Group, n.Info.Zone, n.Info.Scaled = s.Name, s.Group, s.Zone, s.Scaled
		n.policy.policy = s.Restart
	}
	t.nodes[name], t.order = n, append(t.order, n)
	return n, nil
}

// make makes the node's log and its place.
func (n *Node) make(ctx context.Context) (err error) {
	if n.log, err = openLog(n.Info.Log); err != nil {
		return err
	}
	p, err := n.t.carrier.Make(ctx, n)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.place = p // of one that is half made what there is, to be removed
	return err
}

// where is the node's place, nil while it is being made.
func (n *Node) where() Place {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.place
}

// made is its place, or an error while it is being made.
func (n *Node) made() (Place, error) {
	if p := n.where(); p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("node %s is still being made", n.Info.Name)
}

// startAll starts every service when what it depends on allows it, and returns when all are ready.
func (t *Topology) startAll(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	started := map[string]chan struct{}{}
	for name := range t.services {
		started[name] = make(chan struct{})
	}
	for i := range t.cfg.Spec.Services {
		s := &t.cfg.Spec.Services[i]
		g.Go(func() error {
			for _, d := range s.DependsOn {
				if err := t.awaitDependency(ctx, d, started[d.Service]); err != nil {
					return fmt.Errorf("service %s waits for %s: %w", s.Name, d.Service, err)
				}
			}
			return t.startService(ctx, s, started[s.Name])
		})
	}
	return g.Wait()
}

func (t *Topology) startService(ctx context.Context, s *cluster.Service, started chan struct{}) error {
	g, ctx := errgroup.WithContext(ctx)
	var starting sync.WaitGroup
	for _, n := range t.replicas(s.Name) {
		starting.Add(1)
		g.Go(func() error {
			err := t.changing(ctx, n.Info.Name, func(n *Node) error { return n.start(ctx) })
			starting.Done()
			if err != nil {
				return err
			}
			return t.awaitStart(ctx, n)
		})
	}
	starting.Wait()
	if ctx.Err() == nil {
		close(started)
	}
	return g.Wait()
}

// awaitStart waits until a node that was started can be counted on.
func (t *Topology) awaitStart(ctx context.Context, n *Node) error {
	defer t.events.flush(ctx)
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if t.runsOnce(n.Service) {
		return n.await(ctx, "done", n.completed)
	}
	if n.Service.Ready == nil && n.Service.Health == nil {
		return n.settle(ctx)
	}
	return n.await(ctx, "ready", func() (bool, error) {
		if n.Service.Ready == nil && n.run != nil && n.run.health == "unhealthy" {
			return false, errors.New("is unhealthy")
		}
		return n.ready, nil
	})
}

// runsOnce reports whether another service waits for the completion of this one.
func (t *Topology) runsOnce(s *cluster.Service) bool {
	for i := range t.cfg.Spec.Services {
		for _, d := range t.cfg.Spec.Services[i].DependsOn {
			if d.Service == s.Name && d.Condition == "service_completed_successfully" {
				return true
			}
		}
	}
	return false
}

// settle waits for Config.Settle and fails when the program had ended at once (Config.AtOnce), but for a success.
func (n *Node) settle(ctx context.Context) error {
	wait := cmp.Or(n.t.cfg.Settle, settleTime)
	n.mu.Lock()
	r := n.run
	n.mu.Unlock()
	t := time.NewTimer(time.Until(r.started.Add(wait)))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-r.ended:
	}
	x := *r.exit
	n.mu.Lock()
	again := n.willRestart()
	n.mu.Unlock()
	if x.Code == 0 || again || x.At.Sub(r.started) > cmp.Or(n.t.cfg.AtOnce, settleTime) {
		return nil
	}
	return fmt.Errorf("node %s %s as soon as it was started%s", n.Info.Name, describeExit(x), n.lastWords())
}

// completed is asked under mu.
func (n *Node) completed() (bool, error) {
	if n.state != cluster.StateExited || n.run.exit == nil {
		return false, nil
	}
	return n.run.exit.Code == 0, nil
}

// awaitDependency waits for one entry of depends_on.
func (t *Topology) awaitDependency(ctx context.Context, d cluster.Dependency, started <-chan struct{}) error {
	select {
	case <-started:
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, n := range t.replicas(d.Service) {
		var err error
		switch d.Condition {
		case "", "service_started":
		case "service_healthy":
			err = n.await(ctx, "healthy", func() (bool, error) {
				if n.run != nil && n.run.health == "unhealthy" && n.Service.Ready == nil {
					return false, errors.New("is unhealthy")
				}
				// x-gauntlet.ready wins over the healthcheck.
				return n.ready, nil
			})
		case "service_completed_successfully":
			err = n.await(ctx, "done", n.completed)
		default:
			err = fmt.Errorf("condition %q; one of service_started, service_healthy, service_completed_successfully", d.Condition)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
