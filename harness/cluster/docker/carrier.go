package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/docker/agent"
	"github.com/hasvc/gauntlet/harness/cluster/docker/engine"
	"github.com/hasvc/gauntlet/harness/cluster/docker/images"
	"github.com/hasvc/gauntlet/harness/cluster/plane"
	"github.com/hasvc/gauntlet/harness/cluster/procs"
	"github.com/hasvc/gauntlet/harness/cluster/supervise"
)

// Roles of containers.
const (
	rolePlane   = "plane"
	rolePod     = "pod"
	roleProgram = "program"
)

// endTime bounds what is removed when the topology ends.
const endTime = 60 * time.Second

// drainTime is for what the engine still has of the programs' output when their containers are gone. Who reads it waits no longer: a
// container that could not be ended has streams that do not end.
const drainTime = 2 * time.Second

// errEnded is why a topology is gone that was taken down.
var errEnded = errors.New("the topology is down")

// carrier carries a topology's nodes in the containers of one run.
type carrier struct {
	options  cluster.Options
	engine   *engine.Engine
	run      *engine.Run
	store    *images.Store
	progress progress
	volumes  func() (string, error) // the key of their directory, which is made when there is the first
	self     string                 // image of the running executable
	network  engine.Network
	plane    *peer
	plain    plane.RemoteRouter // the plane's own part of its Router
	daemons  *engineTime        // nil where foreign says why
	foreign  error              // why the engine is taken for another machine's, with processes and a clock of its own; nil: it is this one's

	life     context.Context // ends when all containers are gone
	end      context.CancelFunc
	streams  context.Context // ends drainTime after it
	cut      context.CancelFunc
	watching sync.WaitGroup

	mu      sync.Mutex
	images  map[string]*imageOf      // by service
	places  map[netip.Addr]*place    // by the node's address
	removed map[string]cluster.Usage // the processor time of the nodes that were removed, and what they waited for it; under cluster.Plane their pods
	logs    *os.File                 // what the plane and the pods say

	gone   chan struct{}
	goneMu sync.Once
	reason error // why; set before gone is closed
}

// peer is a container with an agent.
type peer struct {
	container *engine.Container
	used      *counter
	*agent.Session
	stream    *engine.Stream
	dismissed atomic.Bool // its end is wanted
}

// newCarrier starts a plane.
func newCarrier(ctx context.Context, spec *cluster.Spec, opt cluster.Options) (c *carrier, err error) {
	e, err := engine.Connect(ctx)
	if err != nil {
		return nil, err
	}
	c = &carrier{
		options: opt, engine: e, run: e.NewRun(spec.Name), store: images.New(e.API()),
		volumes: sync.OnceValues(func() (string, error) { return makeVolumesKey(opt.Volumes) }),
		images:  map[string]*imageOf{}, places: map[netip.Addr]*place{}, removed: map[string]cluster.Usage{}, gone: make(chan struct{}),
	}
	c.progress.say, c.progress.nodes, c.progress.last = opt.Progress, len(cluster.Planned(spec))+1, time.Now() // and the client
	c.life, c.end = context.WithCancel(context.Background())
	c.streams, c.cut = context.WithCancel(context.Background())
	defer func() {
		if err == nil {
			return
		}
		left, endErr := c.End()
		if len(left) > 0 {
			endErr = errors.Join(endErr, &cluster.LeftError{Left: left})
		}
		c, err = nil, errors.Join(err, endErr)
	}()
	if err := os.MkdirAll(opt.Dir, 0o755); err != nil {
		return c, fmt.Errorf("make the run's directory: %w", err)
	}
	if c.logs, err = os.OpenFile(filepath.Join(opt.Dir, "plane.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
		return c, fmt.Errorf("open the plane's log: %w", err)
	}
	if c.network, err = c.run.Network(ctx); err != nil { // before the images: what stands of the run keeps Clean from them
		return c, err
	}
	g, within := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		c.self, err = c.store.Self(within, agent.PlaneArgv0, agent.PodArgv0, agent.IdleArgv0, agent.HandsArgv0)
		return err
	})
	for i := range spec.Services {
		g.Go(func() error {
			_, _, err := c.image(within, &spec.Services[i])
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return c, err
	}
	return c, c.startPlane(ctx)
}

func (c *carrier) startPlane(ctx context.Context) (err error) {
	c.plane, err = c.start(ctx, engine.Spec{
		Name: rolePlane, Role: rolePlane, Image: c.self, Entrypoint: []string{agent.PlaneArgv0},
		Network: &c.network, Addr: c.network.Plane,
		CapDrop: []string{"ALL"}, CapAdd: agent.PlaneCapabilities, Sysctls: agent.PlaneSysctls, Stdin: true,
	})
	if err != nil {
		return fmt.Errorf("start the plane: %w", err)
	}
	c.plain = c.plane.Router()
	// Not the kind of its socket: that may be forwarded, or lead out of a container or into a virtual machine.
	if _, c.foreign = procs.FindCgroup(c.plane.used.pid, c.plane.used.id); c.foreign == nil {
		if c.daemons, err = newEngineTime(daemons...); err != nil {
			return err
		}
	}
	if err := c.plane.SetUpPlane(ctx, agent.PlaneSetup{Addr: c.network.Plane}); err != nil {
		return c.explain(err)
	}
	c.watchPeer("the plane", c.plane)
	return nil
}

// start creates and starts a container with an agent, and begins to speak with it. Nothing is left of one that failed.
func (c *carrier) start(ctx context.Context, s engine.Spec) (_ *peer, err error) {
	p := &peer{}
	if p.container, err = c.run.Create(ctx, s); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.container.Discard(ctx))
		}
	}()
	if p.stream, err = p.container.Attach(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.stream.Close()
		}
	}()
	if err := p.container.Start(ctx); err != nil {
		return nil, err
	}
	if p.used, err = count(ctx, p.container); err != nil {
		return nil, err
	}
	if p.Session, err = agent.NewSession(p.stream.Stdin, readCloser{p.stream.Output(c.logs), p.stream}); err != nil {
		return nil, err
	}
	return p, nil
}

// readCloser ends a read by closing the stream below it.
type readCloser struct {
	io.Reader
	io.Closer
}

// close ends the agent; its container is removed with the run or the node.
func (p *peer) close() {
	_ = p.Session.Close()
	_ = p.stream.Close()
}

// lose notes why the topology cannot go on.
func (c *carrier) lose(err error) {
	c.goneMu.Do(func() {
		c.reason = err
		close(c.gone)
	})
}

// lost reports whether the topology ended by itself, and not by End.
func (c *carrier) lost() bool {
	select {
	case <-c.gone:
		return !errors.Is(c.reason, errEnded)
	default:
		return false
	}
}

// watchPeer ends the topology with an agent: without the plane or a pod nothing that is measured means anything.
func (c *carrier) watchPeer(what string, p *peer) {
	c.watching.Go(func() {
		select {
		case <-p.Done():
			if p.dismissed.Load() {
				return
			}
			c.lose(c.whyEnded(what, p))
		case <-c.gone:
		}
	})
}

// whyEnded tells an agent that ended from an engine that did: its streams end with it.
func (c *carrier) whyEnded(what string, p *peer) error {
	ctx, cancel := context.WithTimeout(c.life, connectTime)
	defer cancel()
	if _, err := p.container.Inspect(ctx); errors.Is(err, engine.ErrEngineGone) {
		return err
	}
	return c.explain(fmt.Errorf("%s ended by itself: %w", what, p.Err()))
}

// explain adds what the plane and the pods said last.
func (c *carrier) explain(err error) error {
	words, readErr := supervise.LastLines(c.logs.Name(), 0, 5)
	if readErr != nil || words == "" {
		return err
	}
	return fmt.Errorf("%w\nlast lines of %s:\n%s", err, c.logs.Name(), words)
}

// Addr implements supervise.Carrier.
func (c *carrier) Addr(index int) (netip.Addr, error) { return c.network.NodeAddr(index - 1) }

// Gone implements supervise.Carrier.
func (c *carrier) Gone() <-chan struct{} { return c.gone }

// Err implements supervise.Carrier.
func (c *carrier) Err() error {
	<-c.gone
	return c.reason
}

// Abandon implements supervise.Carrier.
func (c *carrier) Abandon() {
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	_, _ = c.run.Remove(ctx) // what is left shows in End
}

// End implements supervise.Carrier.
func (c *carrier) End() (left []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	c.lose(errEnded)
	left, err = c.run.Remove(ctx)
	if errors.Is(err, engine.ErrEngineGone) || len(left) == 0 && errors.Is(err, context.DeadlineExceeded) { // it cannot be asked what of it
		left = append(left, fmt.Sprintf("what the engine has of run %s (when it is back: gauntlet clean)", c.run.ID()))
	}
	c.mu.Lock()
	places := c.places
	c.places = nil
	c.mu.Unlock()
	for _, p := range places {
		p.pod.close()
	}
	if c.plane != nil {
		c.plane.close()
	}
	c.end()
	time.AfterFunc(drainTime, c.cut)
	c.watching.Wait()
	errs := []error{err, c.engine.Close()}
	if c.logs != nil {
		errs = append(errs, c.logs.Close())
	}
	return left, errors.Join(errs...)
}

// Dial implements supervise.Carrier.
func (c *carrier) Dial(ctx context.Context, from *supervise.Node, network string, to netip.AddrPort) (net.Conn, error) {
	p := c.plane
	if from != nil {
		at, err := c.at(from.Info.Addr)
		if err != nil {
			return nil, err
		}
		p = at.pod
	}
	return p.Dial(ctx, network, to)
}

// at finds a node by its address.
func (c *carrier) at(addr netip.Addr) (*place, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.places[addr]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("no node has the address %v", addr)
}

// Apply implements supervise.Router.
func (c *carrier) Apply(ctx context.Context, links []plane.AddrLink, r cluster.Rule) (cluster.RuleID, error) {
	return c.plain.Apply(ctx, links, r)
}

// Remove implements supervise.Router.
func (c *carrier) Remove(ctx context.Context, id cluster.RuleID) error {
	return c.plain.Remove(ctx, id)
}

// Counters implements supervise.Router.
func (c *carrier) Counters(ctx context.Context, id cluster.RuleID) ([]plane.AddrCounter, error) {
	return c.plain.Counters(ctx, id)
}

// Observe implements supervise.Router.
func (c *carrier) Observe(ctx context.Context, links []plane.AddrLink, replied bool) error {
	return c.plain.Observe(ctx, links, replied)
}

// Probe implements supervise.Router.
func (c *carrier) Probe(ctx context.Context, at netip.AddrPort, listens bool) error {
	return c.plain.Probe(ctx, at, listens)
}

// Calls implements supervise.Router.
func (c *carrier) Calls(ctx context.Context) (plane.Calls, error) { return c.plain.Calls(ctx) }

// CallsEnd implements supervise.Router.
func (c *carrier) CallsEnd(ctx context.Context) ([]plane.Observed, error) {
	return c.plain.CallsEnd(ctx)
}

// Intercept implements supervise.Router.
func (c *carrier) Intercept(ctx context.Context, links []plane.AddrLink) error {
	return c.plain.Intercept(ctx, links)
}

// Reset implements supervise.Router. The plane does not hold the nodes' namespaces, so the pods list their sockets.
func (c *carrier) Reset(ctx context.Context, links []plane.AddrLink) (int, error) {
	return c.plane.Reset(ctx, links, func(addr netip.Addr) (*agent.Session, error) {
		p, err := c.at(addr)
		if err != nil {
			return nil, err
		}
		return p.pod.Session, nil
	})
}
