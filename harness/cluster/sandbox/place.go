package sandbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/sandbox/nodeinit"
	"github.com/hasvc/gauntlet/harness/cluster/supervise"
)

// place is a node: its network, its root and its init live as long as it does; programs come and go.
type place struct {
	c       *carrier
	node    *supervise.Node
	user    identity
	control *control
	initPid int // as the plane numbers it
	cgroup  *nodeCgroup

	mu       sync.Mutex
	hostInit int // initPid as this machine numbers it, 0 until it was asked
}

// Make implements supervise.Carrier: a node's network, init and root.
func (c *carrier) Make(ctx context.Context, n *supervise.Node) (supervise.Place, error) {
	p, setup, err := c.found(ctx, n)
	if err != nil {
		return nil, err
	}
	if s := n.Service; c.cgroup != nil && s != nil && s.Limits != (cluster.Limits{}) {
		if p.cgroup, err = c.cgroup.node(n.Info.Name, s.Limits, c.ids.init()); err != nil {
			return p, err
		}
	}
	return p, p.furnish(ctx, setup)
}

// found makes a node's network and init, and says what the init is to make its root of.
func (c *carrier) found(ctx context.Context, n *supervise.Node) (*place, *nodeinit.Setup, error) {
	p := &place{c: c, node: n}
	user := ""
	if n.Service != nil {
		user = n.Service.User
	}
	var err error
	if p.user, err = c.ids.identify(user); err != nil {
		return nil, nil, err
	}
	root := rootPlan{tree: c.tree, ids: c.ids, user: p.user, service: n.Service, bin: c.options.Bin, volumes: c.options.Volumes,
		host: n.Hostname(), addr: n.Info.Addr, copies: &c.copies}
	if err := root.make(); err != nil {
		return nil, nil, err
	}
	add := addBody{Name: n.Info.Name, Index: n.Index, Addr: n.Info.Addr, IDs: p.user.maps, Trees: root.trees, Names: n.Names()}
	var reply addReply
	files, err := c.plane.Call(ctx, methodAdd, add, &reply)
	if err != nil {
		return nil, nil, err
	}
	if len(files) != 1 {
		closeFiles(files)
		return nil, nil, fmt.Errorf("make node %s: the plane sent %d descriptors, want 1", n.Info.Name, len(files))
	}
	p.initPid = reply.Pid
	if p.control, err = newControl(files[0]); err != nil {
		return nil, nil, err
	}
	c.mu.Lock()
	c.places = append(c.places, p)
	c.mu.Unlock()
	return p, &root.setup, nil
}

// furnish gives the node its root, and its programs their cgroup.
func (p *place) furnish(ctx context.Context, setup *nodeinit.Setup) error {
	version, files, err := p.cgroup.open()
	if err != nil {
		return err
	}
	defer closeFiles(files)
	setup.Cgroups = version
	if _, err := p.control.call(ctx, nodeinit.Request{Op: nodeinit.OpSetup, Setup: setup}, files...); err != nil {
		return fmt.Errorf("give node %s its root: %w", p.node.Info.Name, err)
	}
	return nil
}

// Start implements supervise.Place.
func (p *place) Start(ctx context.Context, l supervise.Launch) (time.Time, error) {
	outputs, err := p.outputs(l)
	if err != nil {
		return time.Time{}, err
	}
	s := p.node.Service
	proc := p.control.watch(func(e nodeinit.Exit) {
		if p.control.lost() && p.c.planeDied() {
			return // the program ended with the topology: told as a death, it would be the service's
		}
		x := exitOf(e)
		l.Exited(x, p.cgroup.explain(x))
	})
	argv := append([]string{program(s.Argv0)}, s.Command...)
	rep, err := p.control.call(ctx, nodeinit.Request{Op: nodeinit.OpStart, Start: &nodeinit.Start{
		Proc: proc, Main: true, Argv: argv, Env: p.environment(nil), Dir: p.dir(), User: p.user.User,
	}}, outputs...)
	closeFiles(outputs)
	if err != nil {
		p.control.unwatch(proc)
		if ctx.Err() != nil {
			// It may have started all the same.
			killing, done := context.WithTimeout(context.WithoutCancel(ctx), removeTime)
			defer done()
			_ = p.Kill(killing)
		}
		return time.Time{}, err
	}
	return momentOf(rep.At), nil
}

// lastOutput is how long the copying of what dead programs wrote may take.
const lastOutput = 2 * time.Second

// outputs makes the pipes of a program's output and the goroutines that write it to the log.
func (p *place) outputs(l supervise.Launch) ([]*os.File, error) {
	var writers, readers []*os.File
	for range 2 {
		read, write, err := p.pipe()
		if err != nil {
			closeFiles(append(writers, readers...))
			return nil, err
		}
		writers, readers = append(writers, write), append(readers, read)
	}
	var copying sync.WaitGroup
	for _, read := range readers {
		copying.Go(func() {
			// What was not ended holds the pipe open for ever.
			stop := context.AfterFunc(p.c.dead, func() { _ = read.SetReadDeadline(time.Now().Add(lastOutput)) })
			l.Log.CopyLines(read)
			stop()
			read.Close()
		})
	}
	p.node.Topology().Go(func() {
		copying.Wait()
		l.Written()
	})
	return writers, nil
}

// pipe makes a pipe whose write end is for a program: blocking, and the program's own, so that it can open
// /dev/stdout.
func (p *place) pipe() (read, write *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("make a pipe: %w", err)
	}
	if !p.c.ids.one {
		if err := unix.Fchown(fds[1], p.c.ids.outside(p.user.UID), p.c.ids.outside(p.user.GID)); err != nil {
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

// environment is that of the node's programs: the service's own and the least that programs expect, nothing of the
// harness's.
func (p *place) environment(more map[string]string) []string {
	env := map[string]string{
		"PATH":     binDir + ":" + systemPath,
		"HOME":     p.user.home,
		"HOSTNAME": p.node.Hostname(),
	}
	if p.node.Service != nil {
		maps.Copy(env, p.node.Service.Env)
		if p, ok := p.node.Service.Env["PATH"]; ok {
			env["PATH"] = binDir + ":" + p
		}
	}
	maps.Copy(env, p.node.Extra())
	maps.Copy(env, more)
	var list []string
	for _, k := range slices.Sorted(maps.Keys(env)) {
		list = append(list, k+"="+env[k])
	}
	return list
}

func (p *place) dir() string {
	if p.node.Service != nil && p.node.Service.Dir != "" {
		return p.node.Service.Dir
	}
	return workDir
}

// Kill implements supervise.Place.
func (p *place) Kill(ctx context.Context) error {
	return p.order(ctx, nodeinit.Request{Op: nodeinit.OpKill})
}

// order asks the init for something that has no answer but an error.
func (p *place) order(ctx context.Context, req nodeinit.Request) error {
	_, err := p.control.call(ctx, req)
	return err
}

// Terminate implements supervise.Place. A paused program cannot act on a signal.
func (p *place) Terminate(ctx context.Context, sig syscall.Signal, paused bool) error {
	err := p.order(ctx, nodeinit.Request{Op: nodeinit.OpSignal, Signal: &nodeinit.Signal{Signal: sig, Main: true}})
	if err == nil && paused {
		err = p.Resume(ctx)
	}
	return err
}

// Pause implements supervise.Place.
func (p *place) Pause(ctx context.Context) error {
	return p.order(ctx, nodeinit.Request{Op: nodeinit.OpPause})
}

// Resume implements supervise.Place.
func (p *place) Resume(ctx context.Context) error {
	return p.order(ctx, nodeinit.Request{Op: nodeinit.OpResume})
}

// Signal implements supervise.Place.
func (p *place) Signal(ctx context.Context, sig syscall.Signal, match string) (supervise.Signalled, error) {
	rep, err := p.control.call(ctx, nodeinit.Request{Op: nodeinit.OpSignal, Signal: &nodeinit.Signal{Signal: sig, Match: match}})
	return supervise.Signalled{Count: rep.Count, Program: rep.Program}, err
}

// Listen implements supervise.Place.
func (p *place) Listen(ctx context.Context) (net.Listener, error) {
	files, err := p.c.plane.Call(ctx, methodListen, listenBody{Node: p.node.Info.Name, Addr: p.node.Info.Addr}, nil)
	if err != nil {
		return nil, err
	}
	defer closeFiles(files)
	if len(files) != 1 {
		return nil, fmt.Errorf("the plane sent %d descriptors, want 1", len(files))
	}
	return net.FileListener(files[0])
}

// removeTime bounds the end of a node's processes, for whom no caller's patience is a bound: one may be in a state that no signal ends.
const removeTime = 10 * time.Second

// Remove implements supervise.Place.
func (p *place) Remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, removeTime)
	defer cancel()
	p.c.closePools(p.node.Info.Name)
	_, err := p.c.plane.Call(ctx, methodRemove, nameBody{p.node.Info.Name}, nil)
	p.control.close()
	p.c.mu.Lock()
	p.c.places = slices.DeleteFunc(p.c.places, func(x *place) bool { return x == p })
	p.c.mu.Unlock()
	return errors.Join(err, p.cgroup.remove())
}

// exitOf translates an init's report.
func exitOf(e nodeinit.Exit) cluster.Exit {
	x := cluster.Exit{Code: e.Code, At: momentOf(e.At)}
	if e.Signal != 0 {
		x.Signal = supervise.SignalName(e.Signal)
	}
	return x
}
