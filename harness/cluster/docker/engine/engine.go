// Package engine is Docker's engine as the Docker driver needs it: networks, containers, their streams and events,
// programs run beside them, and what is to be swept when a harness died. Containers are created through testcontainers
// (so that its users' settings and labels hold), everything else by moby's client.
package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
)

// The kinds of engine.
const (
	KindDocker   = "docker"
	KindRootless = "rootless docker"
	KindPodman   = "podman"
)

// Engine is a connection to an engine. Its methods may be called from several goroutines.
type Engine struct {
	api      *client.Client
	place    place
	kind     string
	info     system.Info
	provider func() (*testcontainers.DockerProvider, error)
	leaving  chan struct{} // holds one while a container that is on a network is removed
}

// ErrNoEngine: nobody configured an engine, and none is where one usually is.
var ErrNoEngine = errors.New("no container engine was found")

// ConnectError says why no engine could be used.
type ConnectError struct {
	Stage  string // of Doctor: socket, permission, version, platform
	Host   string // the engine's address; empty when there is none
	Err    error
	Remedy string
}

func (e *ConnectError) Error() string {
	if e.Host == "" {
		return fmt.Sprintf("%v: %s", e.Err, e.Remedy)
	}
	return fmt.Sprintf("the engine at %s: %v: %s", e.Host, e.Err, e.Remedy)
}

func (e *ConnectError) Unwrap() error { return e.Err }

// Connect finds an engine (see places) and asks it who it is. Its error is a *ConnectError.
func Connect(ctx context.Context) (*Engine, error) {
	all, err := places()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, p := range all {
		e, err := connect(ctx, p)
		if err == nil {
			return e, nil
		}
		errs = append(errs, err)
	}
	return nil, errs[0] // of the place that comes first: the one that was meant
}

// connect connects to the engine at one place.
func connect(ctx context.Context, p place) (*Engine, error) {
	if strings.HasPrefix(p.host, "ssh://") {
		return nil, &ConnectError{Stage: "socket", Host: p.host, Err: errors.New("an engine behind ssh cannot be reached directly"),
			Remedy: "forward its socket (ssh -nNT -L /tmp/engine.sock:/var/run/docker.sock HOST) and set DOCKER_HOST=unix:///tmp/engine.sock"}
	}
	var api *client.Client
	err := p.during(func() (err error) {
		api, err = client.New(client.FromEnv)
		return err
	})
	if err != nil {
		return nil, &ConnectError{Stage: "socket", Host: p.host, Err: err, Remedy: "correct DOCKER_HOST, DOCKER_CERT_PATH or the docker context"}
	}
	e := &Engine{api: api, place: p, leaving: make(chan struct{}, 1)}
	if err := e.meet(ctx); err != nil {
		api.Close()
		return nil, err
	}
	e.provider = sync.OnceValues(e.newProvider)
	return e, nil
}

// meet asks the engine who it is, and refuses one that cannot serve.
func (e *Engine) meet(ctx context.Context) error {
	fail := func(stage string, err error, remedy string) error {
		return &ConnectError{Stage: stage, Host: e.place.host, Err: err, Remedy: remedy}
	}
	ping, err := e.api.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true})
	if err != nil {
		stage, remedy := diagnose(err)
		return fail(stage, err, remedy)
	}
	if ping.OSType != "" && ping.OSType != "linux" {
		return fail("platform", fmt.Errorf("it runs %s containers", ping.OSType), "switch it to Linux containers")
	}
	info, err := e.api.Info(ctx, client.InfoOptions{})
	if err != nil {
		return fail("socket", Plain(err), "look at the engine's log (journalctl -u docker)")
	}
	version, err := e.api.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return fail("socket", Plain(err), "look at the engine's log (journalctl -u docker)")
	}
	e.info, e.kind = info.Info, KindDocker
	if slices.Contains(info.Info.SecurityOptions, "name=rootless") {
		e.kind = KindRootless
	}
	for _, c := range version.Components {
		if strings.Contains(c.Name, "Podman") {
			e.kind = KindPodman
		}
	}
	return nil
}

// diagnose names the stage at which the first question to an engine failed, and the remedy.
func diagnose(err error) (stage, remedy string) {
	switch {
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return "socket", "it did not answer in time: look at its log (journalctl -u docker)"
	case strings.Contains(err.Error(), "permission denied"): // the client does not wrap os.ErrPermission
		return "permission", "add yourself to the group docker (sudo usermod -aG docker $USER, then log in again), or use rootless docker"
	case strings.Contains(err.Error(), "minimum supported API version"):
		return "version", "update the engine to 19.03 or newer"
	}
	return "socket", "start the engine (sudo systemctl start docker), or set DOCKER_HOST to one that runs"
}

// API returns moby's client of the engine. It belongs to the Engine.
func (e *Engine) API() client.APIClient { return e.api }

// Host returns the engine's address, such as unix:///var/run/docker.sock.
func (e *Engine) Host() string { return e.place.host }

// Kind returns one of the kinds of engine.
func (e *Engine) Kind() string { return e.kind }

// Local reports whether the engine is reached by a socket of this machine. Even then it may be in a virtual machine.
func (e *Engine) Local() bool { return strings.HasPrefix(e.place.host, "unix://") }

// Version returns the engine's version and that of the API spoken with it.
func (e *Engine) Version() string {
	return fmt.Sprintf("%s (API %s)", e.info.ServerVersion, e.api.ClientVersion())
}

// CPULimit says why the engine cannot limit processor time; nil when it can.
func (e *Engine) CPULimit() error {
	if !e.info.CPUCfsQuota || !e.info.CPUCfsPeriod {
		return errors.New("the engine's kernel has no processor quota (cgroup cpu), or it was not delegated to a rootless engine")
	}
	return nil
}

// MemoryLimit says why the engine cannot limit memory; nil when it can.
func (e *Engine) MemoryLimit() error {
	if !e.info.MemoryLimit {
		return errors.New("the engine's kernel has no memory limit (cgroup memory), or it was not delegated to a rootless engine")
	}
	return nil
}

// Close ends the connection. What runs goes on.
func (e *Engine) Close() error { return e.api.Close() }
