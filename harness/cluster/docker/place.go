package docker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/docker/agent"
	"github.com/hasvc/gauntlet/harness/cluster/docker/engine"
	"github.com/hasvc/gauntlet/harness/cluster/plane"
	"github.com/hasvc/gauntlet/harness/cluster/supervise"
)

// place is a node: its pod, which lives as long as it does, and the container of its program.
type place struct {
	c    *carrier
	node *supervise.Node
	pod  *peer

	mu      sync.Mutex
	program *engine.Container // nil before the first start
	env     map[string]string // what restarts had added when the container was made
	used    counter           // of the program's containers, one after the other
}

// Make implements supervise.Carrier: a pod with its routes and names, known to the plane, and the program's container.
func (c *carrier) Make(ctx context.Context, n *supervise.Node) (supervise.Place, error) {
	p := &place{c: c, node: n}
	var err error
	p.pod, err = c.start(ctx, engine.Spec{
		Name: n.Info.Name + "-pod", Role: rolePod, Node: n.Info.Name, Image: c.self, Entrypoint: []string{agent.PodArgv0},
		Network: &c.network, Addr: n.Info.Addr, Hostname: n.Hostname(),
		CapDrop: []string{"ALL"}, CapAdd: agent.PodCapabilities, Sysctls: agent.PodSysctls, Stdin: true,
	})
	if err != nil {
		return nil, fmt.Errorf("make node %s: %w", n.Info.Name, err)
	}
	c.mu.Lock()
	ended := c.places == nil
	if !ended {
		c.places[n.Info.Addr] = p
	}
	c.mu.Unlock()
	if ended {
		p.pod.close()
		return nil, errEnded
	}
	names := []string{n.Hostname()}
	if n.Hostname() != n.Info.Name {
		names = append(names, n.Info.Name)
	}
	if err := p.pod.SetUpPod(ctx, agent.PodSetup{Addr: n.Info.Addr, Plane: c.network.Plane, Names: names}); err != nil {
		return p, c.explain(err)
	}
	if err := c.plane.AddNode(ctx, plane.Node{Name: n.Info.Name, Addr: n.Info.Addr, Names: n.Names()}); err != nil {
		return p, err
	}
	c.watchPeer("the pod of node "+n.Info.Name, p.pod)
	if n.Service == nil {
		err = p.startIdle(ctx)
	} else {
		_, err = p.container(ctx)
	}
	if err == nil {
		c.progress.nodeMade(time.Now())
	}
	return p, err
}

// startIdle starts the client's program, which does nothing: workloads run beside it.
func (p *place) startIdle(ctx context.Context) error {
	image, err := p.c.store.With(p.c.options.Bin).Self(ctx, agent.IdleArgv0)
	if err != nil {
		return err
	}
	p.program, err = p.c.run.Create(ctx, engine.Spec{
		Name: p.node.Info.Name, Role: roleProgram, Node: p.node.Info.Name, Image: image, Entrypoint: []string{agent.IdleArgv0},
		NetworkOf: p.pod.container.ID(), CapDrop: []string{"ALL"},
	})
	if err != nil {
		return err
	}
	if err := p.program.Start(ctx); err != nil {
		return err
	}
	st, err := p.program.Inspect(ctx)
	if err == nil {
		p.used.began(p.program, st.Pid)
	}
	return err
}

// container returns the container of the node's program. It is made anew when a restart has changed the environment,
// which a container cannot do.
func (p *place) container(ctx context.Context) (*engine.Container, error) {
	p.mu.Lock()
	old, env := p.program, p.env
	p.mu.Unlock()
	extra := p.node.Extra()
	if old != nil && maps.Equal(env, extra) {
		return old, nil
	}
	if old != nil {
		if err := old.Remove(ctx); err != nil {
			return nil, err
		}
	}
	s, err := p.spec(ctx, extra)
	if err != nil {
		return nil, err
	}
	made, err := p.c.run.Create(ctx, s)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.program, p.env = made, extra
	return made, nil
}

// spec describes the container of the node's program.
func (p *place) spec(ctx context.Context, extra map[string]string) (engine.Spec, error) {
	s := p.node.Service
	image, defaults, err := p.c.image(ctx, s)
	if err != nil {
		return engine.Spec{}, err
	}
	spec := engine.Spec{
		Name: p.node.Info.Name, Role: roleProgram, Node: p.node.Info.Name, Image: image,
		Entrypoint: s.Entrypoint, Cmd: s.Command, Env: map[string]string{}, User: s.User, Dir: s.Dir,
		NetworkOf: p.pod.container.ID(),
		// With NET_RAW a program goes round the star by AF_PACKET; NET_ADMIN no container has by itself.
		CapDrop: append([]string{"NET_RAW"}, s.CapDrop...), NoNewPrivileges: s.NoNewPrivileges,
		Files: s.Files, Init: s.Init, Limits: s.Limits, StopSignal: s.StopSignal, StopGrace: &s.StopGrace,
	}
	maps.Copy(spec.Env, s.Env)
	maps.Copy(spec.Env, extra)
	if s.Argv0 != "" {
		spec.Entrypoint = nil // the executable is the image's
		if err := identify(&spec, s.User); err != nil {
			return spec, err
		}
	} else {
		spec.Programs = p.c.options.Bin
	}
	for _, m := range s.Volumes {
		if m.Kind == "volume" {
			key, err := p.c.volumes()
			if err != nil {
				return spec, err
			}
			name := volumeName(key, m.Source)
			if err := p.c.run.Volume(ctx, name, volumeLabels(key, m.Source)); err != nil {
				return spec, err
			}
			m.Source = name
			if (spec.UID != 0 || spec.GID != 0) && !m.ReadOnly {
				spec.Dirs = append(spec.Dirs, m.Target) // a fresh volume is root's, and the image knows nothing of it
			}
		}
		spec.Mounts = append(spec.Mounts, m)
	}
	// The engine's own, which it makes where the image wants them and nobody says which, go with the container.
	for i, at := range defaults.Volumes {
		if !path.IsAbs(at) || slices.ContainsFunc(spec.Mounts, func(m cluster.Mount) bool { return path.Clean(m.Target) == path.Clean(at) }) {
			continue // the engine takes a relative one only from an image
		}
		name, err := p.c.run.UnnamedVolume(ctx, p.node.Info.Name, i)
		if err != nil {
			return spec, err
		}
		spec.Mounts = append(spec.Mounts, cluster.Mount{Kind: "volume", Source: name, Target: at})
	}
	return spec, nil
}

// identify gives the program the ids that its user has on this machine: an image of an executable knows no names.
func identify(spec *engine.Spec, user string) error {
	if user == "" {
		return nil
	}
	u, err := supervise.FindUser(user)
	if err != nil {
		return err
	}
	spec.User, spec.UID, spec.GID = fmt.Sprintf("%d:%d", u.UID, u.GID), u.UID, u.GID
	if _, given := spec.Env["HOME"]; !given {
		spec.Env["HOME"] = u.Home
	}
	return nil
}

// Start implements supervise.Place.
func (p *place) Start(ctx context.Context, l supervise.Launch) (time.Time, error) {
	container, err := p.container(ctx)
	if err != nil {
		return time.Time{}, err
	}
	stream, err := container.Attach(ctx)
	if err != nil {
		return time.Time{}, err
	}
	run := &launch{c: p.c, to: l}
	p.node.Topology().Go(func() {
		defer context.AfterFunc(p.c.streams, func() { stream.Close() })()
		run.copy(stream)
		stream.Close()
		l.Written()
	})
	if err := container.Start(ctx); err != nil {
		stream.Close()
		if ctx.Err() != nil {
			// It may have started all the same.
			killing, cancel := context.WithTimeout(context.WithoutCancel(ctx), signalTime)
			defer cancel()
			_ = container.Kill(killing, "KILL")
		}
		return time.Time{}, err
	}
	at := time.Now()
	if st, err := container.Inspect(ctx); err == nil {
		at = p.c.momentOf(st.Started, at)
		p.used.began(container, st.Pid)
	}
	p.node.Topology().Go(func() { run.await(container) })
	return at, nil
}

// present returns the program's container.
func (p *place) present() (*engine.Container, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.program == nil {
		return nil, fmt.Errorf("node %s has no program yet", p.node.Info.Name)
	}
	return p.program, nil
}

// Kill implements supervise.Place.
func (p *place) Kill(ctx context.Context) error {
	_, err := p.signalFirst(ctx, syscall.SIGKILL) // one that ended meanwhile is heard of a little later
	return err
}

// signalFirst has the engine signal the first process of the program's container, and with SIGKILL all. Nobody got it where none
// runs.
func (p *place) signalFirst(ctx context.Context, sig syscall.Signal) (supervise.Signalled, error) {
	container, err := p.present()
	if err != nil {
		return supervise.Signalled{}, err
	}
	switch err := container.Kill(ctx, strconv.Itoa(int(sig))); {
	case errors.Is(err, engine.ErrNotRunning):
		return supervise.Signalled{}, nil
	case err != nil:
		return supervise.Signalled{}, gone(err)
	}
	return supervise.Signalled{Count: 1, Program: true}, nil
}

// gone marks the error of a container that is no more.
func gone(err error) error {
	if errors.Is(err, engine.ErrNoContainer) || errors.Is(err, engine.ErrEngineGone) {
		return fmt.Errorf("%w: %w", supervise.ErrGone, err)
	}
	return err
}

// Terminate implements supervise.Place. The engine resumes a paused container for a signal.
func (p *place) Terminate(ctx context.Context, sig syscall.Signal, _ bool) error {
	_, err := p.signalFirst(ctx, sig) // one that ended meanwhile needs none
	return err
}

// Pause implements supervise.Place.
func (p *place) Pause(ctx context.Context) error {
	container, err := p.present()
	if err != nil {
		return err
	}
	return container.Pause(ctx)
}

// Resume implements supervise.Place.
func (p *place) Resume(ctx context.Context) error {
	container, err := p.present()
	if err != nil {
		return err
	}
	return container.Unpause(ctx)
}

// Signal implements supervise.Place. The engine signals process 1 alone, so this goes by hands beside the program.
func (p *place) Signal(ctx context.Context, sig syscall.Signal, match string) (supervise.Signalled, error) {
	if sig == syscall.SIGKILL && match == "" {
		return p.signalFirst(ctx, sig) // and all others end with it
	}
	var more []string
	if match != "" {
		more = []string{"-cmdline", match}
	}
	if p.node.Service != nil && p.node.Service.Init {
		more = append(more, "-skip-init")
	} else if sig == syscall.SIGSTOP && match == "" {
		// From inside the kernel does not let process 1 be stopped.
		first, err := p.signalFirst(ctx, sig)
		if err != nil || first.Count == 0 {
			return first, err
		}
		got, _, err := p.signal(ctx, sig)
		return supervise.Signalled{Count: got.Count + 1, Program: true}, err
	}
	got, first, err := p.signal(ctx, sig, more...)
	if err != nil || !first {
		return got, err
	}
	one, err := p.signalFirst(ctx, sig)
	if sig == syscall.SIGKILL && one.Count == 0 {
		return one, err // the others were only counted: they end with it
	}
	return supervise.Signalled{Count: got.Count + one.Count, Program: one.Program}, err
}

// signal has the hands signal processes of the program's container, and returns who got it, and whether the first process is meant too
// and can only be signalled by the engine.
func (p *place) signal(ctx context.Context, sig syscall.Signal, more ...string) (got supervise.Signalled, first bool, err error) {
	container, err := p.present()
	if err != nil {
		return got, false, err
	}
	argv := append([]string{agent.HandsArgv0, "signal", strconv.Itoa(int(sig))}, more...)
	out, err := p.c.run.Beside(ctx, container.ID(), p.c.self, argv)
	switch {
	case errors.Is(err, engine.ErrNotRunning):
		return got, false, nil // nobody is there
	case err != nil:
		return got, false, gone(err)
	case sig == syscall.SIGKILL && out.Code == 128+int(sig):
		return supervise.Signalled{Count: 1, Program: true}, false, nil // what they killed was the container's life, and theirs
	case out.Code != 0:
		return got, false, errors.New(strings.TrimSpace(out.Stderr))
	}
	if _, err := fmt.Sscan(out.Stdout, &got.Count, &got.Program, &first); err != nil {
		return got, false, fmt.Errorf("the hands beside the program did not say whom they signalled: %q", out.Stdout)
	}
	return got, first, nil
}

// Listen implements supervise.Place.
func (p *place) Listen(ctx context.Context) (net.Listener, error) {
	return p.pod.Listen(ctx, p.node.Info.Addr)
}

// Pids implements supervise.Place: the engine may be on another machine.
func (p *place) Pids() []int { return nil }

// Remove implements supervise.Place.
func (p *place) Remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, endTime) // others wait for it
	defer cancel()
	p.c.retire(p)
	var errs []error
	if container, err := p.present(); err == nil {
		errs = append(errs, container.Remove(ctx), p.c.run.RemoveUnnamedVolumes(ctx, p.node.Info.Name))
	}
	errs = append(errs, p.c.plane.RemoveNode(ctx, p.node.Info.Name))
	p.pod.dismissed.Store(true)
	errs = append(errs, p.pod.container.Remove(ctx))
	p.pod.close() // after that: it would end by itself, and leave the network beside others that do
	return errors.Join(errs...)
}

// exitOf translates a container's exit status. The engine adds 128 to the number of the signal that ended a program,
// as a shell does; a program that exits with such a status itself cannot be told from that.
func exitOf(code int, at time.Time) cluster.Exit {
	if n := code - 128; n > 0 && n <= 64 {
		return cluster.Exit{Code: -1, Signal: supervise.SignalName(syscall.Signal(n)), At: at}
	}
	return cluster.Exit{Code: code, At: at}
}
