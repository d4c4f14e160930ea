package sandbox

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/plane"
	"github.com/hasvc/gauntlet/harness/cluster/sandbox/nodeinit"
)

// makers is how many nodes are made at a time: more only wait for the kernel's lock on network namespaces.
const makers = 2

// Up implements cluster.Driver.
func (Driver) Up(ctx context.Context, spec *cluster.Spec, opt cluster.Options) (cluster.Cluster, error) {
	ids, err := machineIDs()
	if err != nil {
		return nil, err
	}
	if err := check(spec, ids); err != nil {
		return nil, err
	}
	if opt.Dir, err = filepath.Abs(opt.Dir); err != nil {
		return nil, fmt.Errorf("find the run's directory: %w", err)
	}
	if opt.Volumes == "" {
		opt.Volumes = filepath.Join(opt.Dir, "volumes")
	}
	if opt.Volumes, err = filepath.Abs(opt.Volumes); err != nil {
		return nil, fmt.Errorf("find the directory of volumes: %w", err)
	}
	c := newSandbox(spec, opt, ids)
	if err := c.up(ctx); err != nil {
		// Nothing is left; what could not be removed is part of the error.
		c.hurry()
		left, downErr := c.Down(context.WithoutCancel(ctx))
		if len(left) > 0 {
			downErr = errors.Join(downErr, &cluster.LeftError{Left: left})
		}
		return nil, errors.Join(advised(err), downErr)
	}
	return c, nil
}

// advised adds what to do to an error that has the mark of a stage: something that this machine forbids.
func advised(err error) error {
	s := stageOf(err)
	if !slices.ContainsFunc(stages, func(known Stage) bool { return known.Name == s }) {
		return err
	}
	return fmt.Errorf("%w\n%s; \"gauntlet doctor\" tries each stage of the start", err, remedy(s, err))
}

func newSandbox(spec *cluster.Spec, opt cluster.Options, ids idSpace) *sandbox {
	c := &sandbox{
		spec: spec, options: opt, ids: ids,
		services: map[string]*cluster.Service{},
		events:   newEvents(opt.Observe),
		scaling:  make(semaphore, 1),
		nodes:    map[string]*node{},
		turn:     map[string]int{},
		pools:    map[string]*socketPool{},
		rules:    map[cluster.RuleID][]cluster.Link{},
		died:     make(chan struct{}),
	}
	c.copies.dir = filepath.Join(opt.Dir, "programs")
	c.life, c.end = context.WithCancel(context.Background())
	for i := range spec.Services {
		c.services[spec.Services[i].Name] = &spec.Services[i]
	}
	return c
}

func (c *sandbox) up(ctx context.Context) error {
	var err error
	if c.tree, err = readHostTree(); err != nil {
		return fmt.Errorf("read what nodes show of this machine: %w", err)
	}
	if c.plane, err = startPlane(ctx, c.options.Dir, c.ids); err != nil {
		return err
	}
	c.router = plane.RemoteRouter{Client: c.plane.Client}
	c.background.Go(c.watchPlane)
	c.prepareLimits()
	if err := c.makeNodes(ctx); err != nil {
		return err
	}
	if len(c.options.Toxic) > 0 {
		links, err := c.addresses(c.options.Toxic)
		if err == nil {
			err = c.router.Intercept(ctx, links)
		}
		if err != nil {
			return fmt.Errorf("lead links through the link core: %w", err)
		}
	}
	return c.startAll(ctx)
}

// prepareLimits makes the topology's cgroup when a service has limits. Where none can be made limits are not
// honoured: they make a run more like production, but their absence makes no verdict wrong.
func (c *sandbox) prepareLimits() {
	var need []string
	for i := range c.spec.Services {
		need = append(need, controllersOf(c.spec.Services[i].Limits)...)
	}
	if len(need) > 0 {
		c.cgroup, c.noLimits = newRunCgroup(need)
	}
}

// makeNodes makes every node, without its program, and the client.
func (c *sandbox) makeNodes(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(makers)
	make := func(s *cluster.Service, name string, ordinal int) {
		n, err := c.reserve(s, name, ordinal)
		g.Go(func() error {
			if err != nil {
				return err
			}
			return n.make(ctx)
		})
	}
	make(nil, cluster.Client, 1)
	for i := range c.spec.Services {
		s := &c.spec.Services[i]
		for k, name := range names(s, 1, replicaCount(s)) {
			make(s, name, k+1)
		}
	}
	return g.Wait()
}

// reserve enters a node into the books: its name resolves from now on.
func (c *sandbox) reserve(s *cluster.Service, name string, ordinal int) (*node, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	addr, err := nodeAddr(c.next)
	if err != nil {
		return nil, err
	}
	n := &node{
		c: c, service: s, index: c.next,
		info:    cluster.NodeInfo{Name: name, Ordinal: ordinal, Addr: addr, Log: c.logPath(name)},
		op:      make(semaphore, 1),
		changed: make(chan struct{}),
		state:   cluster.StateCreated,
	}
	user := ""
	if s != nil {
		n.info.Service, n.info.Group, n.info.Zone, n.info.Scaled = s.Name, s.Group, s.Zone, s.Scaled
		n.policy.policy = s.Restart
		user = s.User
	}
	if n.user, err = c.ids.identify(user); err != nil {
		return nil, err
	}
	c.nodes[name], c.order = n, append(c.order, n)
	return n, nil
}

// make makes a node's network, init and root.
func (n *node) make(ctx context.Context) (err error) {
	c := n.c
	if n.log, err = openLog(n.info.Log); err != nil {
		return err
	}
	root := rootPlan{tree: c.tree, ids: c.ids, user: n.user, service: n.service, bin: c.options.Bin, volumes: c.options.Volumes,
		host: n.hostname(), addr: n.info.Addr, copies: &c.copies}
	if err := root.make(); err != nil {
		return err
	}
	add := addBody{Name: n.info.Name, Index: n.index, Addr: n.info.Addr, IDs: n.user.maps, Trees: root.trees}
	if n.service != nil && n.service.Name != n.info.Name {
		add.Names = []string{n.service.Name}
	}
	var reply addReply
	files, err := c.plane.Call(ctx, methodAdd, add, &reply)
	if err != nil {
		return err
	}
	if len(files) != 1 {
		closeFiles(files)
		return fmt.Errorf("make node %s: the plane sent %d descriptors, want 1", n.info.Name, len(files))
	}
	n.initPid = reply.Pid
	if n.control, err = newControl(files[0]); err != nil {
		return err
	}
	return n.furnish(ctx, &root.setup)
}

// furnish gives the node its root and its limits.
func (n *node) furnish(ctx context.Context, setup *nodeinit.Setup) (err error) {
	c := n.c
	if c.cgroup != nil && n.service != nil && n.service.Limits != (cluster.Limits{}) {
		if n.cgroup, err = c.cgroup.node(n.info.Name, n.service.Limits); err != nil {
			return err
		}
	}
	version, files, err := n.cgroup.open()
	if err != nil {
		return err
	}
	defer closeFiles(files)
	setup.Cgroups = version
	if _, err := n.control.call(ctx, nodeinit.Request{Op: nodeinit.OpSetup, Setup: setup}, files...); err != nil {
		return fmt.Errorf("give node %s its root: %w", n.info.Name, err)
	}
	return nil
}

// startAll starts every service when what it depends on allows it, and returns when all are ready.
func (c *sandbox) startAll(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	started := map[string]chan struct{}{}
	for name := range c.services {
		started[name] = make(chan struct{})
	}
	for i := range c.spec.Services {
		s := &c.spec.Services[i]
		g.Go(func() error {
			for _, d := range s.DependsOn {
				if err := c.awaitDependency(ctx, d, started[d.Service]); err != nil {
					return fmt.Errorf("service %s waits for %s: %w", s.Name, d.Service, err)
				}
			}
			return c.startService(ctx, s, started[s.Name])
		})
	}
	return g.Wait()
}

func (c *sandbox) startService(ctx context.Context, s *cluster.Service, started chan struct{}) error {
	g, ctx := errgroup.WithContext(ctx)
	var starting sync.WaitGroup
	for _, n := range c.replicas(s.Name) {
		starting.Add(1)
		g.Go(func() error {
			err := c.changing(ctx, n.info.Name, func(n *node) error { return n.start(ctx) })
			starting.Done()
			if err != nil {
				return err
			}
			return c.awaitStart(ctx, n)
		})
	}
	starting.Wait()
	if ctx.Err() == nil {
		close(started)
	}
	return g.Wait()
}

// awaitStart waits until a node that was started can be counted on.
func (c *sandbox) awaitStart(ctx context.Context, n *node) error {
	defer c.events.flush(ctx)
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if c.runsOnce(n.service) {
		return n.await(ctx, "done", n.completed)
	}
	if n.service.Ready == nil && n.service.Health == nil {
		return n.settle(ctx)
	}
	return n.await(ctx, "ready", func() (bool, error) {
		if n.service.Ready == nil && n.run != nil && n.run.health == "unhealthy" {
			return false, errors.New("is unhealthy")
		}
		return n.ready, nil
	})
}

// runsOnce reports whether another service waits for the completion of this one.
func (c *sandbox) runsOnce(s *cluster.Service) bool {
	for i := range c.spec.Services {
		for _, d := range c.spec.Services[i].DependsOn {
			if d.Service == s.Name && d.Condition == "service_completed_successfully" {
				return true
			}
		}
	}
	return false
}

// settle fails when the program ends within settleTime, but for a success.
func (n *node) settle(ctx context.Context) error {
	n.mu.Lock()
	r := n.run
	n.mu.Unlock()
	t := time.NewTimer(time.Until(r.started.Add(settleTime)))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-r.ended:
	}
	x := exitOf(*r.exit)
	n.mu.Lock()
	again := n.willRestart()
	n.mu.Unlock()
	if x.Code == 0 || again || x.At.Sub(r.started) > settleTime {
		return nil
	}
	return fmt.Errorf("node %s %s as soon as it was started%s", n.info.Name, describeExit(x), n.lastWords())
}

// completed is asked under mu.
func (n *node) completed() (bool, error) {
	if n.state != cluster.StateExited || n.run.exit == nil {
		return false, nil
	}
	return n.run.exit.Code == 0, nil
}

// awaitDependency waits for one entry of depends_on.
func (c *sandbox) awaitDependency(ctx context.Context, d cluster.Dependency, started <-chan struct{}) error {
	select {
	case <-started:
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, n := range c.replicas(d.Service) {
		var err error
		switch d.Condition {
		case "", "service_started":
		case "service_healthy":
			err = n.await(ctx, "healthy", func() (bool, error) {
				if n.run != nil && n.run.health == "unhealthy" && n.service.Ready == nil {
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
