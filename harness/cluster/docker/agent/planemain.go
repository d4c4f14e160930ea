package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hasvc/gauntlet/harness/cluster/plane"
)

// runPlane is the plane's process. Rules and routes end with the network namespace, that is, with the container.
func runPlane() error {
	return serveHarness((&planeServer{}).handlers(), func() time.Duration { return 0 })
}

// planeServer is the plane at work.
type planeServer struct {
	mu     sync.Mutex
	router *plane.Router
}

func (p *planeServer) handlers() map[string]plane.Handler {
	hs := plane.HandlersOf(p.get)
	hs[methodPlane] = plane.Method(func(_ context.Context, s PlaneSetup) (any, error) { return nil, p.setUp(s) })
	hs[methodAdd] = plane.Method(func(_ context.Context, b nodeBody) (any, error) {
		r, err := p.get()
		if err != nil {
			return nil, err
		}
		return nil, r.AddNode(plane.Node{Name: b.Name, Addr: b.Addr, Names: b.Names})
	})
	hs[methodRemove] = plane.Method(func(_ context.Context, b nameBody) (any, error) {
		r, err := p.get()
		if err != nil {
			return nil, err
		}
		return nil, r.RemoveNode(b.Name)
	})
	return hs
}

func (p *planeServer) get() (*plane.Router, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.router == nil {
		return nil, errors.New("the plane was not set up")
	}
	return p.router, nil
}

func (p *planeServer) setUp(s PlaneSetup) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.router != nil {
		return errors.New("the plane was set up before")
	}
	l, err := linkOf(s.Addr)
	if err != nil {
		return err
	}
	// What is for no node has nowhere to go: an internal network comes with a default route through the host on some
	// engines, and the host has ways out.
	if err := dropRoutes(func(r netlink.Route) bool { return r.Gw != nil }); err != nil {
		return err
	}
	if err := noIPv6(l); err != nil {
		return err
	}
	p.router, err = plane.New(plane.Config{Addr: s.Addr})
	if errors.Is(err, unix.EROFS) {
		return fmt.Errorf("the plane's container was created without a setting of PlaneSysctls: %w", err)
	}
	return err
}
