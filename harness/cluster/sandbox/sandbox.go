// Package sandbox is the default driver: it runs a topology with nothing but the kernel's namespaces, as root or as an
// ordinary user.
//
// Importing it makes the executable, a test binary too, its own plane and its own nodes' init: see hook.go.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/plane"
)

// sandbox is a running topology.
type sandbox struct {
	spec     *cluster.Spec
	options  cluster.Options
	services map[string]*cluster.Service
	ids      idSpace
	tree     *hostTree
	copies   copies
	events   *events
	plane    *planeProcess
	router   plane.RemoteRouter
	cgroup   *runCgroup // nil: nothing is limited
	noLimits error      // why limits are not honoured

	life       context.Context // ends when the topology begins to end
	end        context.CancelFunc
	background sync.WaitGroup
	scaling    semaphore

	mu    sync.Mutex
	nodes map[string]*node
	order []*node // as they were made
	next  int     // index of the next node
	turn  map[string]int
	pools map[string]*socketPool
	rules map[cluster.RuleID][]cluster.Link

	died   chan struct{} // closed when it ended without Down
	reason error         // why; guarded by mu

	hurried bool // Down kills instead of stopping
	down    sync.Once
	left    []string
	downErr error
}

// node finds a node by its name.
func (c *sandbox) node(name string) (*node, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.nodes[name]; n != nil {
		return n, nil
	}
	return nil, &cluster.UnknownNodeError{Name: name}
}

// living finds a node of a topology that is up.
func (c *sandbox) living(name string) (*node, error) {
	if c.life.Err() != nil {
		return nil, c.ending()
	}
	return c.node(name)
}

// replicas returns the nodes of a service by their ordinals.
func (c *sandbox) replicas(service string) []*node {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []*node
	for _, n := range c.order {
		if n.service != nil && n.info.Service == service {
			list = append(list, n)
		}
	}
	return list
}

// Nodes implements cluster.Cluster.
func (c *sandbox) Nodes() []cluster.NodeInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]cluster.NodeInfo, 0, len(c.order))
	for _, n := range c.order {
		if n.service != nil {
			list = append(list, n.info)
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list
}

// Spec implements cluster.Cluster.
func (c *sandbox) Spec() *cluster.Spec { return c.spec }

// Status implements cluster.Cluster.
func (c *sandbox) Status(name string) (cluster.Status, error) {
	n, err := c.node(name)
	if err != nil {
		return cluster.Status{}, err
	}
	n.mu.Lock()
	s := cluster.Status{State: n.state, Ready: n.ready, Restarts: n.restarts}
	if r := n.run; r != nil {
		s.Started = r.started
	}
	s.Exit = n.lastExit
	running := n.service == nil || n.run != nil && n.run.alive
	n.mu.Unlock()
	if running {
		s.Pids = n.pids()
	}
	return s, nil
}

// Done implements cluster.Cluster.
func (c *sandbox) Done() <-chan struct{} { return c.died }

// Err implements cluster.Cluster.
func (c *sandbox) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason
}

// ending says why nothing more can be done.
func (c *sandbox) ending() error {
	if err := c.Err(); err != nil {
		return err
	}
	return errDown
}

var errDown = errors.New("the topology is down")

// watchPlane ends the topology when its plane ends by itself.
func (c *sandbox) watchPlane() {
	<-c.plane.Done()
	if c.life.Err() != nil {
		return // Down did it
	}
	c.plane.stop() // the nodes are dead when this is back
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life.Err() != nil {
		return // Down did it
	}
	c.reason = fmt.Errorf("%w: %w%s", errPlaneDied, c.plane.Err(), c.plane.lastWords())
	c.end()
	close(c.died)
}

// logPath is where a node's output goes.
func (c *sandbox) logPath(name string) string {
	return filepath.Join(c.options.Dir, "logs", name+".log")
}

// names returns the names of a service's replicas from one ordinal to another.
func names(s *cluster.Service, from, to int) (list []string) {
	if !s.Scaled {
		return []string{s.Name}
	}
	for i := from; i <= to; i++ {
		list = append(list, fmt.Sprintf("%s-%d", s.Name, i))
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

// check says everything that is wrong with a spec, before anything starts.
func check(spec *cluster.Spec, ids idSpace) error {
	var errs []error
	seen := map[string]string{cluster.Client: "the node of load and workloads"}
	services := map[string]*cluster.Service{}
	for i := range spec.Services {
		s := &spec.Services[i]
		services[s.Name] = s
		fail := func(format string, a ...any) {
			errs = append(errs, fmt.Errorf("service %s: %w", s.Name, fmt.Errorf(format, a...)))
		}
		if s.Name == "" || strings.ContainsAny(s.Name, "/\x00") {
			fail("not a name")
		}
		for _, name := range names(s, 1, replicaCount(s)) {
			if by := seen[name]; by != "" {
				fail("node %s is also %s", name, by)
			}
			seen[name] = "a node of service " + s.Name
		}
		if !filepath.IsAbs(s.Argv0) {
			fail("its program %q is not an absolute path; it was not built", s.Argv0)
		}
		if _, err := ids.identify(s.User); err != nil {
			fail("%w", err)
		}
		if err := checkCondition(s.Ready); err != nil {
			fail("%w", err)
		}
		if s.StopSignal != "" {
			if _, err := parseSignal(s.StopSignal); err != nil {
				fail("stop_signal: %w", err)
			}
		}
		switch s.Restart.Policy {
		case "", "no", "on-failure", "always", "unless-stopped":
		default:
			fail("restart %q; one of no, on-failure, always, unless-stopped", s.Restart.Policy)
		}
	}
	if _, err := levels(spec.Services); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// levels sorts services so that each comes after those it depends on, or says why that cannot be.
func levels(services []cluster.Service) ([]string, error) {
	waits := map[string][]string{}
	for _, s := range services {
		waits[s.Name] = nil
		for _, d := range s.DependsOn {
			waits[s.Name] = append(waits[s.Name], d.Service)
		}
	}
	var sorted []string
	state := map[string]int{} // 1: being visited, 2: done
	var visit func(name string, path []string) error
	visit = func(name string, path []string) error {
		deps, known := waits[name]
		path = append(path, name)
		switch {
		case !known:
			return fmt.Errorf("service %s depends on %s, which is no service", path[len(path)-2], name)
		case state[name] == 1:
			return fmt.Errorf("services depend on each other: %s", strings.Join(path[slices.Index(path, name):], " -> "))
		case state[name] == 2:
			return nil
		}
		state[name] = 1
		for _, d := range deps {
			if err := visit(d, path); err != nil {
				return err
			}
		}
		state[name] = 2
		sorted = append(sorted, name)
		return nil
	}
	for _, s := range services {
		if err := visit(s.Name, nil); err != nil {
			return nil, err
		}
	}
	return sorted, nil
}
