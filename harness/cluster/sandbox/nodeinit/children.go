package nodeinit

import (
	"fmt"
	"maps"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// children are the processes of the node: those the init started, and those that became its own when their parent
// ended. None is started while all are killed or paused: one request is carried out at a time, and a start waits for the
// end of what the death of the main program kills, which is no request.
type children struct {
	report func(Exit) // called in the order of the deaths

	mu       sync.Mutex
	idle     *sync.Cond     // there may be a change of busy or draining
	procs    map[int]*Start // by pid
	busy     bool           // there are children
	draining *Exit          // the main program has ended and the rest of the node is being killed
	wake     chan struct{}  // tells the reaper that there is a child again
}

func newChildren(report func(Exit)) *children {
	c := &children{report: report, procs: map[int]*Start{}, wake: make(chan struct{}, 1)}
	c.idle = sync.NewCond(&c.mu)
	go c.reap() // for as long as the process lives
	return c
}

// startedLocked registers a child. mu is held since before it was forked, so that its death is never seen before.
func (c *children) startedLocked(pid int, s *Start) {
	c.procs[pid] = s
	c.busy = true
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// reap collects every process of the node for ever. When the main program ends, all others are killed, as happens in a
// container; its death is reported when they are gone, with the time at which it was reaped.
func (c *children) reap() {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil: // ECHILD
			c.empty()
			<-c.wake
			continue
		}
		at := monotonic()
		c.mu.Lock()
		s := c.procs[pid]
		delete(c.procs, pid)
		c.mu.Unlock()
		if s == nil {
			continue // an orphan
		}
		e := Exit{Proc: s.Proc, Code: ws.ExitStatus(), At: at}
		if ws.Signaled() {
			e.Code, e.Signal = -1, ws.Signal()
		}
		if !s.Main {
			c.report(e)
			continue
		}
		c.mu.Lock()
		c.draining = &e
		c.mu.Unlock()
		killEveryone(syscall.SIGKILL)
	}
}

// empty notes that there is no child left, unless one was started meanwhile.
func (c *children) empty() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.procs) > 0 {
		return
	}
	if c.draining != nil {
		c.report(*c.draining)
		c.draining = nil
	}
	c.busy = false
	c.idle.Broadcast()
}

// awaitDrainedLocked waits until all that ran with a main program that has ended is gone. Until mu is let go no other
// can begin to be killed: what is forked by then ends with the rest.
func (c *children) awaitDrainedLocked() {
	for c.draining != nil {
		c.idle.Wait()
	}
}

// awaitIdle waits until no child is left. What forked while it was being killed is killed again: that cannot
// happen within one kill(-1), which no fork can overtake, but a process may have entered the namespace from outside.
func (c *children) awaitIdle() {
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		t := time.NewTicker(20 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-stop:
				return
			case <-t.C:
				killEveryone(syscall.SIGKILL)
			}
		}
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.busy {
		c.idle.Wait()
	}
}

func (c *children) killAll() error {
	if err := killEveryone(syscall.SIGKILL); err != nil {
		return err
	}
	c.awaitIdle()
	return nil
}

// pause stops every process. SIGSTOP to process 1 from outside would stop the init alone.
func (c *children) pause() error {
	if err := killEveryone(syscall.SIGSTOP); err != nil {
		return err
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		running, err := runningProcess()
		if err != nil || running == "" {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s did not stop within 5 s after SIGSTOP", running)
		}
		time.Sleep(200 * time.Microsecond) // a stop has no event of its own for what is not our child
	}
}

func (c *children) resume() error {
	return killEveryone(syscall.SIGCONT)
}

// signal sends a signal to the processes that s names and returns how many got it.
func (c *children) signal(s *Signal) (n int, program bool, err error) {
	if s.Main || s.Proc != 0 {
		n, err = c.signalProgram(s)
		return n, s.Main && n > 0, err
	}
	all, err := processes()
	if err != nil {
		return 0, false, err
	}
	helpers, main := c.beside(all)
	for _, p := range all {
		if helpers[p.pid] || s.Match != "" && !p.matches(s.Match) {
			continue
		}
		if unix.Kill(p.pid, s.Signal) == nil {
			n++
			program = program || p.pid == main
		}
	}
	return n, program, nil
}

// beside returns the processes that the harness runs beside the main program, such as its healthchecks, with what they started, and the
// main program. A command line that names a service is often in that of its healthcheck too.
func (c *children) beside(all []process) (helpers map[int]bool, main int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	helpers = map[int]bool{}
	for pid, p := range c.procs {
		if p.Main {
			main = pid
			continue
		}
		maps.Copy(helpers, tree(pid, all))
	}
	return helpers, main
}

func (c *children) signalProgram(s *Signal) (int, error) {
	// mu keeps the pid from being reaped, and so from being given to another process.
	c.mu.Lock()
	defer c.mu.Unlock()
	for pid, p := range c.procs {
		if s.Main && p.Main {
			if err := unix.Kill(pid, s.Signal); err != nil {
				return 0, fmt.Errorf("send %v to process %d: %w", s.Signal, pid, err)
			}
			return 1, nil
		}
		if s.Proc == p.Proc && s.Proc != 0 {
			return signalTree(pid, s.Signal)
		}
	}
	return 0, nil
}

// signalTree signals a program, its session and its descendants.
func signalTree(root int, sig syscall.Signal) (int, error) {
	if sig == unix.SIGKILL {
		if err := stopTree(root); err != nil {
			return 0, err
		}
	}
	all, err := processes()
	if err != nil {
		return 0, err
	}
	n := 0
	for pid := range tree(root, all) {
		if unix.Kill(pid, sig) == nil {
			n++
		}
	}
	return n, nil
}

// stopTime bounds the stopping of a tree: a process in an uninterruptible state does not stop.
const stopTime = 2 * time.Second

// stopTree stops a tree that is to be killed. What forked while the tree was being killed would survive it, and could not be found any
// more: a process whose parent has ended is tied to no program.
func stopTree(root int) error {
	for deadline := time.Now().Add(stopTime); ; {
		all, err := processes()
		if err != nil {
			return err
		}
		in, running := tree(root, all), false
		for _, p := range all {
			if in[p.pid] && !p.stopped() {
				running = true
				_ = unix.Kill(p.pid, unix.SIGSTOP) // one that has ended meanwhile need not be stopped
			}
		}
		if !running || time.Now().After(deadline) {
			return nil
		}
		time.Sleep(200 * time.Microsecond) // as in pause
	}
}

// tree returns a program, its session and its descendants.
func tree(root int, all []process) map[int]bool {
	in := map[int]bool{root: true}
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if !in[p.pid] && (in[p.parent] || p.session == root) {
				in[p.pid], grown = true, true
			}
		}
	}
	return in
}

// killEveryone sends a signal to every process of the node but the init.
func killEveryone(sig syscall.Signal) error {
	if err := unix.Kill(-1, sig); err != nil && err != unix.ESRCH {
		return fmt.Errorf("send %v to every process of the node: %w", sig, err)
	}
	return nil
}

func monotonic() int64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return ts.Nano()
}
