// Package replicas reaches the replicas of a service as clients behind a layer 4 balancer do: each new connection goes
// to a replica that is ready, in turn; a connection that is open stays where it is.
package replicas

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// Topology is the part of a cluster.Cluster that is used here.
type Topology interface {
	cluster.Dialer
	Nodes() []cluster.NodeInfo
	Spec() *cluster.Spec
}

// Set is the replicas of one service, of the services of one group, or a single node.
type Set struct {
	top      Topology
	to       string
	ready    func(service string) []cluster.NodeInfo
	services []string       // in the order of the topology
	ports    map[string]int // service -> port
	turn     atomic.Uint64
}

// New finds the services that to names. A port of 0 is the first one that each service exposes. ready tells which
// nodes of a service are ready now; nil: none is known to be.
func New(t Topology, to string, port int, ready func(service string) []cluster.NodeInfo) (*Set, error) {
	s := &Set{top: t, to: to, ready: ready, ports: map[string]int{}}
	if s.ready == nil {
		s.ready = func(string) []cluster.NodeInfo { return nil }
	}
	nodes := map[string]bool{} // services with a node called to
	for _, n := range t.Nodes() {
		if n.Name == to {
			nodes[n.Service] = true
		}
	}
	for _, svc := range t.Spec().Services {
		if svc.Name != to && svc.Group != to && !nodes[svc.Name] {
			continue
		}
		p := port
		if p == 0 && len(svc.Expose) > 0 {
			p = svc.Expose[0]
		}
		if p == 0 {
			return nil, fmt.Errorf("service %s exposes no port; name one with `ports` or `expose` in the topology", svc.Name)
		}
		s.services = append(s.services, svc.Name)
		s.ports[svc.Name] = p
	}
	if len(s.services) == 0 {
		return nil, fmt.Errorf("no service, group or node of the topology is called %q", to)
	}
	return s, nil
}

// Nodes are the replicas there are now, whatever their state, sorted by name.
func (s *Set) Nodes() []cluster.NodeInfo { return s.of(s.top.Nodes()) }

func (s *Set) of(nodes []cluster.NodeInfo) []cluster.NodeInfo {
	var out []cluster.NodeInfo
	for _, n := range nodes {
		if _, ok := s.ports[n.Service]; ok && (n.Service == s.to || n.Group == s.to || n.Name == s.to) {
			out = append(out, n)
		}
	}
	return out
}

// Host is what a client writes in its Host header: the name that stands for all replicas, with the port, of a group that of
// its first service.
func (s *Set) Host() string { return net.JoinHostPort(s.to, strconv.Itoa(s.ports[s.services[0]])) }

// Next is the replica that the next new connection goes to: a ready one, in turn, and with none ready any of them.
func (s *Set) Next() (cluster.NodeInfo, error) {
	var c []cluster.NodeInfo // in an order that stays, or a turn is none
	for _, svc := range s.services {
		c = append(c, s.of(s.ready(svc))...)
	}
	if len(c) == 0 {
		c = s.Nodes()
	}
	if len(c) == 0 {
		return cluster.NodeInfo{}, fmt.Errorf("%s has no replica", s.to)
	}
	return c[(s.turn.Add(1)-1)%uint64(len(c))], nil
}

// Dial connects from the client to the next replica and says which it is. The name is there on errors too, if one
// was chosen.
func (s *Set) Dial(ctx context.Context) (net.Conn, string, error) {
	n, err := s.Next()
	if err != nil {
		return nil, "", err
	}
	c, err := s.DialNode(ctx, n)
	return c, n.Name, err
}

// DialNode connects from the client to one replica.
func (s *Set) DialNode(ctx context.Context, n cluster.NodeInfo) (net.Conn, error) {
	return s.top.Dial(ctx, cluster.Client, "tcp", s.Address(n))
}

// Address is NODE:PORT.
func (s *Set) Address(n cluster.NodeInfo) string {
	return net.JoinHostPort(n.Name, strconv.Itoa(s.ports[n.Service]))
}
