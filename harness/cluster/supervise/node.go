package supervise

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// Node is a replica of a service, or the client. Its place lives as long as it does; programs come and go.
type Node struct {
	Info    cluster.NodeInfo
	Service *cluster.Service // nil: the client
	Index   int              // from 1, never given twice

	t   *Topology
	log *Log

	op semaphore // one change of the program at a time

	mu       sync.Mutex
	place    Place         // nil until it was made
	changed  chan struct{} // closed and replaced when anything below changes
	run      *run          // the present or last program; nil before the first
	state    cluster.State
	ready    bool
	restarts int
	env      map[string]string // added by Restart
	wanted   bool              // it is to run: started, and not stopped by the harness
	holds    int
	policy   restarts
	removed  bool
	lastExit *cluster.Exit
}

// ErrGone is wrapped by the error of a Place that is no more: nothing can be started there again.
var ErrGone = errors.New("the node is gone")

// run is one program of a node, from its start to its death.
type run struct {
	node    *Node
	started time.Time
	logFrom int64         // offset of its first line in the log
	ended   chan struct{} // closed when it was reaped
	written chan struct{} // closed when its output is in the log

	// Guarded by node.mu.
	alive     bool
	exit      *cluster.Exit
	detail    string  // of the exit
	announced bool    // the harness asked for its death
	signals   []asked // that the harness sent to it
	sending   int     // signals of which it is not known yet whether it got them
	health    string  // "", healthy or unhealthy
}

// semaphore is a lock that can be waited for with a context.
type semaphore chan struct{}

func (s semaphore) lock(ctx context.Context) error {
	select {
	case s <- struct{}{}: // also when ctx is over: what is free need not be waited for
		return nil
	default:
	}
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s semaphore) unlock() { <-s }

// touch tells those who wait that something changed. mu is held.
func (n *Node) touch() {
	close(n.changed)
	n.changed = make(chan struct{})
}

func (n *Node) emit(kind cluster.EventKind, at time.Time, detail string) {
	n.t.events.emit(cluster.Event{At: at, Kind: kind, Node: n.Info.Name, Detail: detail})
}

// Names are the further names that the node answers to: its service's, when that is another one.
func (n *Node) Names() []string {
	if n.Service == nil || n.Service.Name == n.Info.Name {
		return nil
	}
	return []string{n.Service.Name}
}

// Hostname is what the node calls itself.
func (n *Node) Hostname() string {
	if n.Service != nil && n.Service.Hostname != "" {
		return n.Service.Hostname
	}
	return n.Info.Name
}

// Extra is what restarts have added to the environment of the node's programs.
func (n *Node) Extra() map[string]string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.env)
}

// Topology is what the node is part of.
func (n *Node) Topology() *Topology { return n.t }

// start starts the program. The caller holds op.
func (n *Node) start(ctx context.Context) error {
	if n.Service == nil {
		return fmt.Errorf("node %s has no program of its own", n.Info.Name)
	}
	n.mu.Lock()
	if n.removed {
		n.mu.Unlock()
		return &cluster.UnknownNodeError{Name: n.Info.Name}
	}
	if n.run != nil && n.run.alive {
		n.mu.Unlock()
		return fmt.Errorf("node %s is running already", n.Info.Name)
	}
	first, place := n.run == nil, n.place
	n.mu.Unlock()

	r := &run{node: n, logFrom: n.log.size(), ended: make(chan struct{}), written: make(chan struct{})}
	at, err := place.Start(ctx, Launch{
		Log:     n.log,
		Written: func() { close(r.written) },
		Exited:  r.exited,
	})
	if err != nil {
		return fmt.Errorf("start node %s: %w", n.Info.Name, err)
	}
	n.begin(r, at, first)
	return nil
}

// begin notes that a program runs, and, when it was quicker than its start's answer, that it has ended.
func (n *Node) begin(r *run, at time.Time, first bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r.started = at
	n.run, n.state, n.ready, n.wanted = r, cluster.StateRunning, false, true
	if !first {
		n.restarts++
	}
	r.alive = true
	detail := ""
	if n.t.cfg.StartDetail != nil {
		detail = n.t.cfg.StartDetail(n.Service)
	}
	n.emit(cluster.NodeStarted, at, detail)
	n.touch()
	if r.exit != nil {
		n.finish(r)
		return
	}
	n.t.background.Go(func() { n.attend(r) })
}

// exited is called by the carrier when the program has ended.
func (r *run) exited(x cluster.Exit, detail string) {
	n := r.node
	n.mu.Lock()
	defer n.mu.Unlock()
	r.exit, r.detail = &x, detail
	switch {
	case !r.alive:
		close(r.ended) // before begin; finish is left to it
	case r.sending > 0: // whether this death was asked for is about to be known: finish is left to who sent the signal
	default:
		n.finish(r)
	}
}

// finish notes a death. mu is held.
func (n *Node) finish(r *run) {
	select {
	case <-r.ended:
	default:
		close(r.ended)
	}
	r.alive = false
	x := *r.exit
	grace := n.Service.StopGrace
	if grace == 0 {
		grace = unsaidGrace
	}
	for _, a := range r.signals {
		r.announced = r.announced || a.explains(x, grace)
	}
	n.state, n.ready, n.lastExit = cluster.StateExited, false, &x
	n.t.events.emit(cluster.Event{At: x.At, Kind: cluster.NodeExited, Node: n.Info.Name, Exit: &x,
		Announced: r.announced, Detail: r.detail})
	n.touch()
	if n.willRestart() {
		n.t.background.Go(func() { n.restartLater(r) })
	}
}

// willRestart reports whether the restart policy will start the node again. mu is held.
func (n *Node) willRestart() bool {
	return n.Service != nil && n.wanted && n.holds == 0 && !n.removed && n.t.life.Err() == nil &&
		n.run != nil && !n.run.alive && n.run.exit != nil && n.policy.wants(*n.run.exit)
}

// restartLater carries out the restart policy after the death of r.
func (n *Node) restartLater(r *run) {
	n.mu.Lock()
	wait := n.policy.next(r.exit.At.Sub(r.started))
	n.mu.Unlock()
	for {
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-n.t.life.Done():
			t.Stop()
			return
		}
		err := n.restartNow(r)
		if err == nil {
			return
		}
		n.mu.Lock()
		wait = n.policy.next(0)
		n.mu.Unlock()
	}
}

// restartNow starts the node again unless somebody else did, or it is not to be.
func (n *Node) restartNow(r *run) error {
	ctx := n.t.life
	if n.op.lock(ctx) != nil {
		return nil
	}
	defer n.op.unlock()
	n.mu.Lock()
	if n.run != r || !n.willRestart() {
		n.mu.Unlock()
		return nil
	}
	n.policy.count++
	n.mu.Unlock()
	err := n.start(ctx)
	if errors.Is(err, ErrGone) || ctx.Err() != nil {
		return nil // never to be started again
	}
	return err
}

// hold suspends the restart policy.
func (n *Node) hold() (release func()) {
	n.mu.Lock()
	n.holds++
	n.mu.Unlock()
	return sync.OnceFunc(func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.holds--
		n.touch()
		if r := n.run; n.willRestart() {
			n.t.background.Go(func() { n.restartLater(r) })
		}
	})
}

// lastWords quotes the end of the present or last program's log.
func (n *Node) lastWords() string {
	n.mu.Lock()
	r := n.run
	n.mu.Unlock()
	from := int64(0)
	if r != nil {
		from = r.logFrom
		select {
		case <-r.ended:
			r.awaitWritten()
		default:
		}
	}
	lines, err := LastLines(n.log.path, from, 20)
	if err != nil {
		return "\n(" + err.Error() + ")"
	}
	if lines == "" {
		return "\n(it wrote nothing)"
	}
	return "\nlast lines of " + n.log.path + ":\n" + lines
}

// awaitWritten waits until what a dead program wrote is in the log. Nobody else holds its pipes: the rest of the node
// died with it.
func (r *run) awaitWritten() {
	t := time.NewTimer(2 * time.Second)
	defer t.Stop()
	select {
	case <-r.written:
	case <-t.C:
	}
}
