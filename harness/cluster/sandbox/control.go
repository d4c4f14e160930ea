package sandbox

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"encoding/json"

	"github.com/hasvc/gauntlet/harness/cluster/sandbox/nodeinit"
	"github.com/hasvc/gauntlet/harness/cluster/supervise"
)

// errInitGone is the error of a request to an init that is no more.
var errInitGone = fmt.Errorf("%w: its init has ended", supervise.ErrGone)

// control is the harness's end of the connection to a node's init.
type control struct {
	conn *net.UnixConn
	done chan struct{} // closed when the reader ended
	send sync.Mutex

	mu    sync.Mutex
	next  uint64
	calls map[uint64]chan nodeinit.Reply
	procs map[uint64]func(nodeinit.Exit)
	gone  bool
}

func newControl(f *os.File) (*control, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("take the connection to an init: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("the connection to an init is a %T", c)
	}
	k := &control{conn: u, done: make(chan struct{}), calls: map[uint64]chan nodeinit.Reply{}, procs: map[uint64]func(nodeinit.Exit){}}
	go k.read() // owned by close
	return k, nil
}

func (c *control) close() {
	c.conn.Close()
	<-c.done
}

// watch has exited called, once, when the program that a start gets this number for has ended. It is called by the
// reader, in the order of the deaths, and must not wait for a reply.
func (c *control) watch(exited func(nodeinit.Exit)) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	c.procs[c.next] = exited
	return c.next
}

func (c *control) unwatch(proc uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.procs, proc)
}

// initError is an error that an init reported.
type initError struct {
	text  string
	errno syscall.Errno
}

func (e *initError) Error() string { return e.text }

func (e *initError) Unwrap() error {
	if e.errno == 0 {
		return nil
	}
	return e.errno
}

// call asks the init for something and waits for its answer.
func (c *control) call(ctx context.Context, req nodeinit.Request, files ...*os.File) (nodeinit.Reply, error) {
	answer := make(chan nodeinit.Reply, 1)
	c.mu.Lock()
	if c.gone {
		c.mu.Unlock()
		return nodeinit.Reply{}, errInitGone
	}
	c.next++
	req.ID = c.next
	c.calls[req.ID] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.calls, req.ID)
		c.mu.Unlock()
	}()
	if err := c.write(req, files); err != nil {
		return nodeinit.Reply{}, err
	}
	select {
	case r, ok := <-answer:
		if !ok {
			return nodeinit.Reply{}, errInitGone
		}
		if r.Error != "" {
			return r, &initError{r.Error, r.Errno}
		}
		return r, nil
	case <-ctx.Done():
		return nodeinit.Reply{}, ctx.Err()
	}
}

func (c *control) write(req nodeinit.Request, files []*os.File) error {
	header, body, err := nodeinit.EncodeFrame(req, len(files))
	if err != nil {
		return fmt.Errorf("ask a node's init: %w", err)
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	c.send.Lock()
	defer c.send.Unlock()
	if _, _, err := c.conn.WriteMsgUnix(header, rights, nil); err != nil {
		return fmt.Errorf("%w: %w", errInitGone, err)
	}
	if _, err := c.conn.Write(body); err != nil {
		return fmt.Errorf("%w: %w", errInitGone, err)
	}
	return nil
}

func (c *control) read() {
	defer close(c.done)
	header := make([]byte, 8)
	for {
		if _, err := io.ReadFull(c.conn, header); err != nil {
			break
		}
		n, _, err := nodeinit.DecodeHeader(header)
		if err != nil {
			break
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(c.conn, body); err != nil {
			break
		}
		var r nodeinit.Reply
		if err := json.Unmarshal(body, &r); err != nil {
			break
		}
		c.deliver(r)
	}
	c.lose()
}

func (c *control) deliver(r nodeinit.Reply) {
	c.mu.Lock()
	if r.Exit != nil {
		exited := c.procs[r.Exit.Proc]
		delete(c.procs, r.Exit.Proc)
		c.mu.Unlock()
		if exited != nil {
			exited(*r.Exit)
		}
		return
	}
	answer := c.calls[r.ID]
	delete(c.calls, r.ID)
	c.mu.Unlock()
	if answer != nil {
		answer <- r
	}
}

// lose ends what is under way when the init is gone: the kernel killed every process of the node with it.
func (c *control) lose() {
	c.mu.Lock()
	c.gone = true
	calls, procs := c.calls, c.procs
	c.calls, c.procs = nil, map[uint64]func(nodeinit.Exit){} // a start that comes too late still registers there
	c.mu.Unlock()
	for _, answer := range calls {
		close(answer)
	}
	for proc, exited := range procs {
		exited(nodeinit.Exit{Proc: proc, Code: -1, Signal: syscall.SIGKILL, At: monotonicNow()})
	}
}

// lost reports whether the init is gone.
func (c *control) lost() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gone
}

// monotonicNow is the clock of the inits: CLOCK_MONOTONIC in ns, the same in every namespace of the machine.
func monotonicNow() int64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return ts.Nano()
}

// momentOf turns an init's time into one with a monotonic reading of this process.
func momentOf(at int64) time.Time {
	now, mono := time.Now(), monotonicNow()
	if at == 0 || at > mono {
		return now
	}
	return now.Add(-time.Duration(mono - at))
}
