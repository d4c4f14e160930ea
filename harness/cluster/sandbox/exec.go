package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/sandbox/nodeinit"
	"github.com/hasvc/gauntlet/harness/cluster/supervise"
)

// outputGrace is how long Wait waits for the end of output that a program left open in the hands of others.
const outputGrace = 500 * time.Millisecond

// execution is a program that was started beside a node's own.
type execution struct {
	node  *place
	proc  uint64
	ended chan nodeinit.Exit // one
	done  chan struct{}      // closed when the result is there
	exit  cluster.Exit
	err   error
}

// Exec implements supervise.Place.
func (n *place) Exec(ctx context.Context, p cluster.Process) (cluster.Execution, error) {
	s := streams{node: n}
	defer s.closeTheirs()
	start := &nodeinit.Start{Argv: p.Argv, Env: n.environment(p.Env), Dir: n.dir(), Stdin: p.Stdin != nil, User: n.user.User}
	if err := s.open(p); err != nil {
		s.closeOurs()
		return nil, err
	}
	e := &execution{node: n, ended: make(chan nodeinit.Exit, 1), done: make(chan struct{})}
	e.proc = n.control.watch(func(x nodeinit.Exit) { e.ended <- x })
	start.Proc = e.proc
	if _, err := n.control.call(ctx, nodeinit.Request{Op: nodeinit.OpStart, Start: start}, s.toSend()...); err != nil {
		if ctx.Err() != nil {
			// It may have started all the same.
			killing, done := context.WithTimeout(context.WithoutCancel(ctx), removeTime)
			defer done()
			e.kill(killing)
		}
		n.control.unwatch(e.proc)
		s.closeOurs()
		return nil, err
	}
	s.copy(p)
	n.node.Topology().Go(func() { e.finish(ctx, &s) })
	return e, nil
}

// finish waits for the program and its output.
func (e *execution) finish(ctx context.Context, s *streams) {
	defer close(e.done)
	var x nodeinit.Exit
	select {
	case x = <-e.ended:
	case <-ctx.Done():
		killing, done := context.WithTimeout(context.WithoutCancel(ctx), removeTime)
		defer done()
		e.kill(killing)
		select {
		case x = <-e.ended: // also when the node's init is gone
		case <-killing.Done():
			e.node.control.unwatch(e.proc)
			x = nodeinit.Exit{Code: -1}
			e.err = fmt.Errorf("kill a program in node %s: it has not ended within %v; it is in a state that no signal ends, or what was asked of the node before is still being done",
				e.node.node.Info.Name, removeTime)
		}
	}
	e.exit = exitOf(x)
	e.err = errors.Join(e.err, s.finish())
}

func (e *execution) kill(ctx context.Context) {
	_, _ = e.node.control.call(ctx, nodeinit.Request{Op: nodeinit.OpSignal,
		Signal: &nodeinit.Signal{Signal: unix.SIGKILL, Proc: e.proc}}) // an init that is gone took the program along
}

// Wait implements cluster.Execution.
func (e *execution) Wait() (cluster.Exit, error) {
	<-e.done
	return e.exit, e.err
}

// Signal implements cluster.Execution.
func (e *execution) Signal(sig string) error {
	s, err := supervise.ParseSignal(sig)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), removeTime)
	defer cancel()
	rep, err := e.node.control.call(ctx, nodeinit.Request{Op: nodeinit.OpSignal,
		Signal: &nodeinit.Signal{Signal: s, Proc: e.proc}})
	if err != nil {
		return fmt.Errorf("signal a program in node %s: %w", e.node.node.Info.Name, err)
	}
	if rep.Count == 0 {
		return fmt.Errorf("signal a program in node %s: %w", e.node.node.Info.Name, os.ErrProcessDone)
	}
	return nil
}

// streams are the pipes between a program and its caller.
type streams struct {
	node    *place
	stdin   *os.File // our ends
	outputs []*os.File
	writers []io.Writer
	theirs  []*os.File
	copying sync.WaitGroup
	mu      sync.Mutex
	errs    []error
}

func (s *streams) open(p cluster.Process) error {
	if p.Stdin != nil {
		var fds [2]int
		if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
			return fmt.Errorf("make a pipe: %w", err)
		}
		s.theirs = append(s.theirs, os.NewFile(uintptr(fds[0]), "stdin"))
		if err := unix.SetNonblock(fds[1], true); err != nil {
			unix.Close(fds[1])
			return fmt.Errorf("make a pipe: %w", err)
		}
		s.stdin = os.NewFile(uintptr(fds[1]), "stdin")
		if !s.node.c.ids.one {
			if err := unix.Fchown(fds[0], s.node.c.ids.outside(s.node.user.UID), s.node.c.ids.outside(s.node.user.GID)); err != nil {
				return fmt.Errorf("give a pipe to the program: %w", err)
			}
		}
	}
	s.writers = []io.Writer{p.Stdout, p.Stderr}
	if same(p.Stdout, p.Stderr) {
		s.writers = s.writers[:1] // one pipe, as os/exec does: in order, and from one goroutine
	}
	for range s.writers {
		read, write, err := s.node.pipe()
		if err != nil {
			return err
		}
		s.outputs, s.theirs = append(s.outputs, read), append(s.theirs, write)
	}
	return nil
}

// toSend are the descriptors for the program's streams, in order.
func (s *streams) toSend() []*os.File {
	if len(s.writers) == 1 {
		return append(s.theirs[:len(s.theirs):len(s.theirs)], s.theirs[len(s.theirs)-1])
	}
	return s.theirs
}

// same reports whether two writers are one; those that cannot be compared are not.
func same(a, b io.Writer) bool {
	defer func() { _ = recover() }()
	return a != nil && a == b
}

func (s *streams) closeTheirs() {
	for _, f := range s.theirs {
		f.Close()
	}
}

func (s *streams) closeOurs() {
	if s.stdin != nil {
		s.stdin.Close()
	}
	for _, f := range s.outputs {
		f.Close()
	}
}

// copy starts copying. The goroutines are waited for by finish, but for that of the standard input: a reader that
// blocks for ever would hold it up; it ends with the reader.
func (s *streams) copy(p cluster.Process) {
	if s.stdin != nil {
		go func() {
			_, _ = io.Copy(s.stdin, p.Stdin) // a program need not read all its input
			s.stdin.Close()
		}()
	}
	for i, w := range s.writers {
		if w == nil {
			w = io.Discard
		}
		s.copying.Go(func() {
			if err := pump(w, s.outputs[i]); err != nil {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.errs = append(s.errs, fmt.Errorf("copy the output of a program: %w", err))
			}
		})
	}
}

// pump copies until the end, or, once the deadline has passed, as much as a pipe holds: a slow writer loses nothing, and
// what a process that was left behind goes on writing is not waited for.
func pump(w io.Writer, r *os.File) error {
	_, err := io.Copy(w, r)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	_ = r.SetReadDeadline(time.Time{})
	rc, err := r.SyscallConn()
	if err != nil {
		return err
	}
	var left, n int
	if cerr := rc.Control(func(fd uintptr) { left, err = unix.FcntlInt(fd, unix.F_GETPIPE_SZ, 0) }); cerr != nil || err != nil {
		return errors.Join(cerr, err)
	}
	for buf := make([]byte, 64<<10); left > 0; left -= n {
		if err := rc.Read(func(fd uintptr) bool {
			n, _ = unix.Read(int(fd), buf[:min(left, len(buf))]) // EAGAIN: empty
			return true
		}); err != nil || n <= 0 {
			return err
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
	}
	return nil
}

// finish waits for the end of the output, but not long for what others hold open.
func (s *streams) finish() error {
	if s.stdin != nil {
		s.stdin.Close()
	}
	deadline := time.Now().Add(outputGrace)
	for _, f := range s.outputs {
		_ = f.SetReadDeadline(deadline) // without one the copy ends with the last holder
	}
	s.copying.Wait()
	s.closeOurs()
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.errs...)
}
