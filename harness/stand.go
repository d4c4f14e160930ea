package harness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hasvc/gauntlet/harness/build"
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/toxiproxyapi"
	"github.com/hasvc/gauntlet/harness/engine"
	"github.com/hasvc/gauntlet/harness/topology"
)

// StandOptions are those of a topology that is started to be looked at and broken by hand.
type StandOptions struct {
	Driver   cluster.Driver // nil: the sandbox
	Toxic    []string       // "FROM:TO", each a node, service or group: links that can have toxics. Empty: all
	Reply    []string       // likewise: links whose requests are read too, so that the toxics can be error replies
	API      string         // where toxiproxy's API is spoken; default 127.0.0.1:8474, toxiproxy's own
	Dir      string         // of the nodes' logs and volumes
	Seed     uint64         // of what toxics draw
	Progress func(line string)
	Observe  func(cluster.Event)
}

// Published is a port of a service as it can be reached from this machine.
type Published struct {
	Service string
	Port    int
	Addr    string // on loopback
}

// Standing is a topology that runs until it is closed.
type Standing struct {
	cluster.Cluster
	API     string // its address
	Ports   []Published
	Proxies int // links that can have toxics

	driver     cluster.Driver
	volumes    string // their directory, once it was tried to start the topology
	forwarders []*forwarder
	server     *http.Server
	served     chan struct{}
}

// DefaultAPI is where toxiproxy's clients look for it.
const DefaultAPI = "127.0.0.1:8474"

// Stand starts the topology of a Compose file with toxiproxy's API and with its ports forwarded from loopback. Links that
// can have toxics go through the link core.
func Stand(ctx context.Context, compose string, opt StandOptions) (s *Standing, err error) {
	if opt.Driver == nil {
		opt.Driver = Drivers[0].New()
	}
	if opt.Progress == nil {
		opt.Progress = func(string) {}
	}
	if opt.API == "" {
		opt.API = DefaultAPI
	}
	spec, err := topology.Load(ctx, compose, topology.Option{})
	if err != nil {
		return nil, &InputError{err}
	}
	for _, w := range spec.Warnings {
		opt.Progress("warning: " + w)
	}
	links, replied, err := standingLinks(spec, opt.Toxic, opt.Reply)
	if err != nil {
		return nil, &InputError{err}
	}
	// Before anything starts: an address that is taken is noticed now.
	api, err := net.Listen("tcp", opt.API)
	if err != nil {
		return nil, &InputError{fmt.Errorf("speak toxiproxy's API: %w; choose another address, such as 127.0.0.1:0", err)}
	}
	s = &Standing{API: api.Addr().String(), Proxies: len(links), served: make(chan struct{}), driver: opt.Driver}
	defer func() {
		if err == nil {
			return
		}
		if s.server == nil {
			api.Close()
		}
		_, cerr := s.Close(context.WithoutCancel(ctx))
		s, err = nil, errors.Join(err, cerr)
	}()
	if _, err := new(build.Builder).Build(ctx, spec, nil, filepath.Dir(compose), opt.Progress); err != nil {
		return s, &InputError{err}
	}
	s.volumes = filepath.Join(opt.Dir, "volumes")
	s.Cluster, err = opt.Driver.Up(ctx, spec, cluster.Options{
		Dir: opt.Dir, Volumes: s.volumes, Observe: opt.Observe, Progress: opt.Progress, Toxic: links, Replied: replied,
	})
	if err != nil {
		return s, err
	}
	for _, svc := range spec.Services {
		for _, port := range svc.Expose {
			f, err := forward(s.Cluster, fmt.Sprintf("%s:%d", svc.Name, port))
			if err != nil {
				return s, fmt.Errorf("forward a port to %s: %w", svc.Name, err)
			}
			s.forwarders = append(s.forwarders, f)
			s.Ports = append(s.Ports, Published{svc.Name, port, f.listener.Addr().String()})
		}
	}
	h, err := toxiproxyapi.New(s.Cluster, links, replied, opt.Seed, s.ends)
	if err != nil {
		return s, &InputError{err}
	}
	s.server = &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() { // Close waits for it
		defer close(s.served)
		_ = s.server.Serve(api) // until Close
	}()
	return s, nil
}

// ends are the ends of a link as toxiproxy's clients want them: addresses, where there are some.
func (s *Standing) ends(l cluster.Link) (listen, upstream string) {
	listen, upstream = l.From, l.To
	for _, n := range s.Nodes() {
		for _, p := range s.Ports {
			if n.Name != l.To || n.Service != p.Service {
				continue
			}
			if upstream == l.To {
				upstream = fmt.Sprintf("%s:%d", l.To, p.Port)
			}
			if l.From == cluster.Client && listen == l.From {
				listen = p.Addr
			}
		}
	}
	return listen, upstream
}

// Close takes everything down, volumes too, and returns what is left, as cluster.Cluster's Down does.
func (s *Standing) Close(ctx context.Context) (left []string, err error) {
	if s.server != nil {
		err = s.server.Close()
		<-s.served
	}
	for _, f := range s.forwarders {
		f.close()
	}
	if s.Cluster != nil {
		var derr error
		left, derr = s.Cluster.Down(ctx)
		err = errors.Join(err, derr)
	}
	if s.volumes != "" { // a topology that did not come up may have made some
		err = errors.Join(err, engine.RemoveVolumes(ctx, s.driver, s.volumes))
	}
	return left, err
}

// standingLinks are the links that can have toxics, all if none was asked for, and those of them whose requests are read.
func standingLinks(spec *cluster.Spec, toxic, reply []string) (links, replied []cluster.Link, err error) {
	if len(reply) > 0 {
		if replied, err = linksOf(spec, reply); err != nil {
			return nil, nil, err
		}
	}
	if len(toxic) > 0 {
		toxic = slices.Concat(toxic, reply)
	}
	links, err = linksOf(spec, toxic)
	return links, replied, err
}

// linksOf are the links that were asked for, or all.
func linksOf(spec *cluster.Spec, asked []string) ([]cluster.Link, error) {
	nodes := append(cluster.Planned(spec), cluster.NodeInfo{Name: cluster.Client})
	named := func(name string) (found []string) {
		for _, n := range nodes {
			if name == n.Name || name == n.Service || name == n.Group && name != "" {
				found = append(found, n.Name)
			}
		}
		return found
	}
	var links []cluster.Link
	have := map[cluster.Link]bool{}
	add := func(from, to []string) {
		for _, f := range from {
			for _, t := range to {
				if l := (cluster.Link{From: f, To: t}); f != t && t != cluster.Client && !have[l] {
					have[l] = true
					links = append(links, l)
				}
			}
		}
	}
	if len(asked) == 0 {
		for _, f := range nodes {
			for _, t := range nodes {
				add([]string{f.Name}, []string{t.Name})
			}
		}
		return links, nil
	}
	var errs []error
	for _, a := range asked {
		from, to, ok := strings.Cut(a, ":")
		f, t := named(from), named(to)
		switch {
		case !ok || from == "" || to == "":
			errs = append(errs, fmt.Errorf("%q is no link; write FROM:TO, each a node, a service or a group", a))
		case len(f) == 0:
			errs = append(errs, fmt.Errorf("%s: no node, service or group is called %q", a, from))
		case len(t) == 0:
			errs = append(errs, fmt.Errorf("%s: no node, service or group is called %q", a, to))
		case to == cluster.Client:
			errs = append(errs, fmt.Errorf("%s: nobody connects to the client", a))
		default:
			n := len(links)
			if add(f, t); len(links) == n && len(f) == 1 && len(t) == 1 && f[0] == t[0] {
				errs = append(errs, fmt.Errorf("%s: a node's traffic with itself passes no link", a))
			}
		}
	}
	return links, errors.Join(errs...)
}
