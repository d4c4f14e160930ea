package sandbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/sandbox/nodeinit"
)

// node is a replica of a service, or the client. Its network, its root and its init live as long as it does; programs
// come and go.
type node struct {
	c       *sandbox
	info    cluster.NodeInfo
	service *cluster.Service // nil: the client
	index   int
	user    identity
	control *control
	initPid int // as the plane numbers it

	hostInit int // as this machine does, 0 until it was asked; guarded by c.mu
	cgroup   *nodeCgroup
	log      *logFile

	op semaphore // one change of the program at a time

	mu       sync.Mutex
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

// run is one program of a node, from its start to its death.
type run struct {
	node    *node
	started time.Time
	logFrom int64         // offset of its first line in the log
	ended   chan struct{} // closed when it was reaped
	written chan struct{} // closed when its output is in the log

	// Guarded by node.mu.
	alive     bool
	exit      *nodeinit.Exit
	announced bool    // the harness asked for its death
	signals   []asked // that the harness sent
	health    string  // "", healthy or unhealthy
}

// semaphore is a lock that can be waited for with a context.
type semaphore chan struct{}

func (s semaphore) lock(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s semaphore) unlock() { <-s }

// touch tells those who wait that something changed. mu is held.
func (n *node) touch() {
	close(n.changed)
	n.changed = make(chan struct{})
}

func (n *node) emit(kind cluster.EventKind, at time.Time, detail string) {
	n.c.events.emit(cluster.Event{At: at, Kind: kind, Node: n.info.Name, Detail: detail})
}

// environment is that of the node's programs: the service's own and the least that programs expect, nothing of the
// harness's.
func (n *node) environment(more map[string]string) []string {
	env := map[string]string{
		"PATH":     binDir + ":" + systemPath,
		"HOME":     n.user.home,
		"HOSTNAME": n.hostname(),
	}
	if n.service != nil {
		maps.Copy(env, n.service.Env)
		if p, ok := n.service.Env["PATH"]; ok {
			env["PATH"] = binDir + ":" + p
		}
	}
	n.mu.Lock()
	maps.Copy(env, n.env)
	n.mu.Unlock()
	maps.Copy(env, more)
	var list []string
	for _, k := range slices.Sorted(maps.Keys(env)) {
		list = append(list, k+"="+env[k])
	}
	return list
}

func (n *node) hostname() string {
	if n.service != nil && n.service.Hostname != "" {
		return n.service.Hostname
	}
	return n.info.Name
}

func (n *node) dir() string {
	if n.service != nil && n.service.Dir != "" {
		return n.service.Dir
	}
	return workDir
}

// start starts the program. The caller holds op.
func (n *node) start(ctx context.Context) error {
	if n.service == nil {
		return fmt.Errorf("node %s has no program of its own", n.info.Name)
	}
	n.mu.Lock()
	if n.removed {
		n.mu.Unlock()
		return &cluster.UnknownNodeError{Name: n.info.Name}
	}
	if n.run != nil && n.run.alive {
		n.mu.Unlock()
		return fmt.Errorf("node %s is running already", n.info.Name)
	}
	first := n.run == nil
	n.mu.Unlock()

	r := &run{node: n, logFrom: n.log.size(), ended: make(chan struct{}), written: make(chan struct{})}
	outputs, err := n.outputs(r)
	if err != nil {
		return fmt.Errorf("start node %s: %w", n.info.Name, err)
	}
	proc := n.control.watch(r.exited)
	argv := append([]string{program(n.service.Argv0)}, n.service.Command...)
	rep, err := n.control.call(ctx, nodeinit.Request{Op: nodeinit.OpStart, Start: &nodeinit.Start{
		Proc: proc, Main: true, Argv: argv, Env: n.environment(nil), Dir: n.dir(), User: n.user.User,
	}}, outputs...)
	for _, f := range outputs {
		f.Close()
	}
	if err != nil {
		n.control.unwatch(proc)
		if ctx.Err() != nil {
			// It may have started all the same.
			_, _ = n.control.call(context.WithoutCancel(ctx), nodeinit.Request{Op: nodeinit.OpKill})
		}
		return fmt.Errorf("start node %s: %w", n.info.Name, err)
	}
	n.begin(r, momentOf(rep.At), first)
	return nil
}

// outputs makes the pipes of a program's output and the goroutines that write it to the log.
func (n *node) outputs(r *run) ([]*os.File, error) {
	var writers, readers []*os.File
	for range 2 {
		read, write, err := n.pipe()
		if err != nil {
			for _, f := range append(writers, readers...) {
				f.Close()
			}
			return nil, err
		}
		writers, readers = append(writers, write), append(readers, read)
	}
	var copying sync.WaitGroup
	for _, read := range readers {
		copying.Go(func() {
			n.log.copyLines(read)
			read.Close()
		})
	}
	n.c.background.Go(func() {
		copying.Wait()
		close(r.written)
	})
	return writers, nil
}

// pipe makes a pipe whose write end is for a program: blocking, and the program's own, so that it can open
// /dev/stdout.
func (n *node) pipe() (read, write *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("make a pipe: %w", err)
	}
	if !n.c.ids.one {
		if err := unix.Fchown(fds[1], n.c.ids.outside(n.user.UID), n.c.ids.outside(n.user.GID)); err != nil {
			unix.Close(fds[0])
			unix.Close(fds[1])
			return nil, nil, fmt.Errorf("give a pipe to the program: %w", err)
		}
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		unix.Close(fds[1])
		return nil, nil, fmt.Errorf("make a pipe: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "output"), os.NewFile(uintptr(fds[1]), "output"), nil
}

// begin notes that a program runs, and, when it was quicker than its start's answer, that it has ended.
func (n *node) begin(r *run, at time.Time, first bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r.started = at
	n.run, n.state, n.ready, n.wanted = r, cluster.StateRunning, false, true
	if !first {
		n.restarts++
	}
	r.alive = true
	detail := ""
	if n.c.noLimits != nil && n.service.Limits != (cluster.Limits{}) {
		detail = "its resource limits are not honoured: " + n.c.noLimits.Error()
	}
	n.emit(cluster.NodeStarted, at, detail)
	n.touch()
	if r.exit != nil {
		n.finish(r)
		return
	}
	n.c.background.Go(func() { n.attend(r) })
}

// exited is called by the control's reader when the program was reaped.
func (r *run) exited(e nodeinit.Exit) {
	n := r.node
	n.mu.Lock()
	defer n.mu.Unlock()
	r.exit = &e
	if r.alive {
		n.finish(r)
	} else {
		close(r.ended) // before begin; finish is left to it
	}
}

// finish notes a death. mu is held.
func (n *node) finish(r *run) {
	select {
	case <-r.ended:
	default:
		close(r.ended)
	}
	r.alive = false
	x := exitOf(*r.exit)
	grace := n.service.StopGrace
	if grace == 0 {
		grace = defaultGrace
	}
	for _, a := range r.signals {
		r.announced = r.announced || a.explains(*r.exit, x.At, grace)
	}
	n.state, n.ready, n.lastExit = cluster.StateExited, false, &x
	n.c.events.emit(cluster.Event{At: x.At, Kind: cluster.NodeExited, Node: n.info.Name, Exit: &x,
		Announced: r.announced, Detail: n.cgroup.explain(x)})
	n.touch()
	if n.willRestart() {
		n.c.background.Go(func() { n.restartLater(r) })
	}
}

// willRestart reports whether the restart policy will start the node again. mu is held.
func (n *node) willRestart() bool {
	return n.service != nil && n.wanted && n.holds == 0 && !n.removed && n.c.life.Err() == nil &&
		n.run != nil && !n.run.alive && n.run.exit != nil && n.policy.wants(exitOf(*n.run.exit))
}

// restartLater carries out the restart policy after the death of r.
func (n *node) restartLater(r *run) {
	n.mu.Lock()
	wait := n.policy.next(exitOf(*r.exit).At.Sub(r.started))
	n.mu.Unlock()
	for {
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-n.c.life.Done():
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
func (n *node) restartNow(r *run) error {
	ctx := n.c.life
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
	if errors.Is(err, errInitGone) || ctx.Err() != nil {
		return nil // never to be started again
	}
	return err
}

// hold suspends the restart policy.
func (n *node) hold() (release func()) {
	n.mu.Lock()
	n.holds++
	n.mu.Unlock()
	return sync.OnceFunc(func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.holds--
		n.touch()
		if r := n.run; n.willRestart() {
			n.c.background.Go(func() { n.restartLater(r) })
		}
	})
}

// lastWords quotes the end of the present or last program's log.
func (n *node) lastWords() string {
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
	lines, err := lastLines(n.log.path, from, 20)
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
