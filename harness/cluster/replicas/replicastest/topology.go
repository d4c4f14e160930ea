// Package replicastest is a topology without a network: its nodes are HTTP handlers in the test's own process. It works
// inside a testing/synctest bubble.
package replicastest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sort"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// Topology is a replicas.Topology. Its nodes are called SERVICE-1 .. SERVICE-N.
type Topology struct {
	t     testing.TB
	mu    sync.Mutex
	spec  cluster.Spec
	nodes map[string]*Node
}

// Node is a node of a Topology.
type Node struct {
	Info cluster.NodeInfo

	top     *Topology
	mode    Mode
	ready   bool
	dials   int
	conns   map[net.Conn]struct{}
	accept  chan net.Conn
	closing chan struct{}
}

// Mode is what happens to a new connection.
type Mode int

// The modes.
const (
	Serving Mode = iota
	Refusing
	Dropping // as behind a rule that drops: connecting takes as long as the caller waits
)

// New returns an empty topology; it is closed when the test ends.
func New(t testing.TB) *Topology {
	return &Topology{t: t, nodes: map[string]*Node{}}
}

// Service adds a service with n ready nodes on port 8080, each with the handler that make returns for its name.
func (top *Topology) Service(name string, n int, make func(node string) http.Handler) {
	top.spec.Services = append(top.spec.Services, cluster.Service{Name: name, Replicas: n, Scaled: true, Expose: []int{8080}})
	for i := 1; i <= n; i++ {
		top.add(name, "", fmt.Sprintf("%s-%d", name, i), i, make)
	}
}

// Member adds a service of one node, called like it, in a group.
func (top *Topology) Member(name, group string, make func(node string) http.Handler) {
	top.spec.Services = append(top.spec.Services, cluster.Service{Name: name, Group: group, Replicas: 1, Expose: []int{8080}})
	top.add(name, group, name, 1, make)
}

func (top *Topology) add(service, group, node string, ordinal int, make func(string) http.Handler) {
	d := &Node{
		Info: cluster.NodeInfo{Name: node, Service: service, Group: group, Ordinal: ordinal},
		top:  top, ready: true, conns: map[net.Conn]struct{}{}, accept: newAccept(), closing: newClosing(),
	}
	top.nodes[node] = d
	srv := &http.Server{Handler: make(node), Protocols: new(http.Protocols)}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	var served sync.WaitGroup
	served.Go(func() { _ = srv.Serve(d) })
	top.t.Cleanup(func() {
		_ = srv.Close()
		served.Wait()
	})
}

func newAccept() chan net.Conn  { return make(chan net.Conn) }
func newClosing() chan struct{} { return make(chan struct{}) }

// Node returns a node.
func (top *Topology) Node(name string) *Node { return top.nodes[name] }

// Spec is part of replicas.Topology.
func (top *Topology) Spec() *cluster.Spec { return &top.spec }

// Nodes is part of replicas.Topology.
func (top *Topology) Nodes() []cluster.NodeInfo {
	var out []cluster.NodeInfo
	for _, d := range top.nodes {
		out = append(out, d.Info)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// Ready is what the prober of a run would say.
func (top *Topology) Ready(service string) []cluster.NodeInfo {
	top.mu.Lock()
	defer top.mu.Unlock()
	var out []cluster.NodeInfo
	for _, i := range top.Nodes() {
		if i.Service == service && top.nodes[i.Name].ready {
			out = append(out, i)
		}
	}
	return out
}

// Dial is part of cluster.Dialer.
func (top *Topology) Dial(ctx context.Context, from, network, address string) (net.Conn, error) {
	if from != cluster.Client || network != "tcp" {
		return nil, fmt.Errorf("a dial from %s over %s; wanted the client and tcp", from, network)
	}
	name, _, _ := strings.Cut(address, ":")
	d := top.nodes[name]
	if d == nil {
		return nil, &cluster.UnknownNodeError{Name: name}
	}
	top.mu.Lock()
	d.dials++
	mode := d.mode
	top.mu.Unlock()
	switch mode {
	case Refusing:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	case Dropping:
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: ctx.Err()}
	}
	near, far := net.Pipe()
	c := &pipe{Conn: far, node: d}
	top.mu.Lock()
	d.conns[c] = struct{}{}
	top.mu.Unlock()
	select {
	case d.accept <- c:
		return near, nil
	case <-d.closing:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
}

// DialPlane is part of cluster.Dialer.
func (top *Topology) DialPlane(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("load and workloads never pass by the rules")
}

// Status is part of cluster.Cluster. A node that refuses counts as ended.
func (top *Topology) Status(node string) (cluster.Status, error) {
	d := top.nodes[node]
	if d == nil {
		return cluster.Status{}, &cluster.UnknownNodeError{Name: node}
	}
	top.mu.Lock()
	defer top.mu.Unlock()
	if d.mode == Refusing {
		return cluster.Status{State: cluster.StateExited}, nil
	}
	return cluster.Status{State: cluster.StateRunning, Ready: d.ready}, nil
}

// Set changes what happens to new connections.
func (d *Node) Set(m Mode) {
	d.top.mu.Lock()
	defer d.top.mu.Unlock()
	d.mode = m
}

// SetReady changes what Ready says.
func (d *Node) SetReady(ready bool) {
	d.top.mu.Lock()
	defer d.top.mu.Unlock()
	d.ready = ready
}

// Dials is how many connections were tried.
func (d *Node) Dials() int {
	d.top.mu.Lock()
	defer d.top.mu.Unlock()
	return d.dials
}

// Open is how many connections are open.
func (d *Node) Open() int {
	d.top.mu.Lock()
	defer d.top.mu.Unlock()
	return len(d.conns)
}

// Cut ends every open connection, as a killed process would.
func (d *Node) Cut() {
	d.top.mu.Lock()
	var all []net.Conn
	for c := range d.conns {
		all = append(all, c)
	}
	d.top.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
	}
}

// Accept is net.Listener.
func (d *Node) Accept() (net.Conn, error) {
	select {
	case c := <-d.accept:
		return c, nil
	case <-d.closing:
		return nil, net.ErrClosed
	}
}

// Close is net.Listener.
func (d *Node) Close() error {
	d.top.mu.Lock()
	defer d.top.mu.Unlock()
	select {
	case <-d.closing:
	default:
		close(d.closing)
	}
	return nil
}

// Addr is net.Listener.
func (d *Node) Addr() net.Addr { return &net.TCPAddr{} }

type pipe struct {
	net.Conn
	node *Node
}

func (p *pipe) Close() error {
	p.node.top.mu.Lock()
	delete(p.node.conns, p)
	p.node.top.mu.Unlock()
	return p.Conn.Close()
}
