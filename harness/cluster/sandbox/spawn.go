package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hasvc/gauntlet/harness/cluster/plane"
	"github.com/hasvc/gauntlet/harness/cluster/supervise"
)

// planeProcess is the plane as the harness holds it.
type planeProcess struct {
	*plane.Client
	pid   int
	proc  *os.Process
	log   string        // what the plane itself says
	ended chan struct{} // closed when it was reaped, and with it every process of its PID namespace
	state *os.ProcessState
}

// startPlane starts this executable again as process 1 of new namespaces, and returns when it is ready for nodes.
func startPlane(ctx context.Context, dir string, ids idSpace) (*planeProcess, error) {
	mine, theirs, err := plane.Pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	conn, err := plane.NewConn(mine)
	if err != nil {
		return nil, err
	}
	p := &planeProcess{log: filepath.Join(dir, "plane.log"), ended: make(chan struct{})}
	if err := p.start(theirs, ids); err != nil {
		conn.Close()
		return nil, err
	}
	p.Client = plane.NewClient(conn, nil)
	if _, err := p.Call(ctx, methodBegin, nil, nil); err != nil {
		p.stop()
		return nil, fmt.Errorf("start the plane: %w%s", err, p.lastWords())
	}
	return p, nil
}

// start spawns the plane and reaps it, both from one thread that lives as long as the plane: the death signal comes
// when the thread that spawned ends, not the process.
func (p *planeProcess) start(theirs *os.File, ids idSpace) error {
	if err := os.MkdirAll(filepath.Dir(p.log), 0o755); err != nil {
		return fmt.Errorf("make the run's directory: %w", err)
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open the plane's log: %w", err)
	}
	defer log.Close()
	started := make(chan error, 1)
	go func() { // owned by stop, which waits for ended
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		null, err := os.Open(os.DevNull)
		if err != nil {
			started <- fmt.Errorf("open the null device: %w", err)
			return
		}
		defer null.Close()
		proc, err := os.StartProcess("/proc/self/exe", []string{planeArgv0}, &os.ProcAttr{
			Dir: "/",
			// None of the harness's secrets. The race detector sleeps for a second at the end of a process.
			Env:   []string{"GORACE=atexit_sleep_ms=0"},
			Files: []*os.File{null, log, log, theirs},
			Sys:   planeAttributes(ids),
		})
		if err != nil {
			started <- stageError("clone", fmt.Errorf("start the plane in new namespaces: %w", err))
			return
		}
		p.pid, p.proc = proc.Pid, proc
		started <- nil
		p.state, _ = proc.Wait()
		close(p.ended)
	}()
	return <-started
}

func planeAttributes(ids idSpace) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{
		Setsid:    true,            // or Ctrl-C kills the plane before anything is undone
		Pdeathsig: syscall.SIGKILL, // or a stopped plane outlives the harness with all its processes
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC |
			unix.CLONE_NEWUTS,
	}
	if ids.one {
		a.Cloneflags |= unix.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return a
}

// stopTime is how long the plane may take to end by itself.
const stopTime = 5 * time.Second

// stop ends the plane, and with it every process, rule, mount and namespace of the topology. It returns though a process of a node is in
// a state that no signal ends, which keeps the plane: that is for the audit to tell.
func (p *planeProcess) stop() {
	_ = p.Close() // the plane ends when its connection does
	if p.endsWithin(stopTime) {
		return
	}
	_ = p.proc.Kill() // an error says that it has just ended
	p.endsWithin(auditTime)
}

func (p *planeProcess) endsWithin(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-p.ended:
		return true
	case <-t.C:
		return false
	}
}

// lastWords quotes the end of what the plane wrote, for an error message.
func (p *planeProcess) lastWords() string {
	lines, err := supervise.LastLines(p.log, 0, 20)
	if err != nil || lines == "" {
		return ""
	}
	return "\nthe plane's last words:\n" + lines
}

// errPlaneDied is the error of a topology whose plane ended by itself.
var errPlaneDied = errors.New("the plane died, and every node with it")
