package agent

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/hasvc/gauntlet/harness/cluster/plane"
)

// The agents' own methods, beside those of the plane's Router.
const (
	methodPlane   = "agent.plane"
	methodPod     = "agent.pod"
	methodAdd     = "agent.add"
	methodRemove  = "agent.remove"
	methodSockets = "agent.sockets"
)

// PlaneSetup is what the plane's container has to know.
type PlaneSetup struct {
	Addr netip.Addr `json:"addr"` // its own on the network of the topology, which the engine has given it
}

// PodSetup is what a pod has to know.
type PodSetup struct {
	Addr  netip.Addr `json:"addr"`  // the node's on the network of the topology, which the engine has given it
	Plane netip.Addr `json:"plane"` // the node's only neighbour: its router and name server
	// Names are what the node calls itself in /etc/hosts, its host name first.
	Names []string `json:"names"`
}

type nodeBody struct {
	Name  string     `json:"name"`
	Addr  netip.Addr `json:"addr"`
	Names []string   `json:"names,omitempty"`
}

type nameBody struct {
	Name string `json:"name"`
}

type socketsBody struct {
	Addr  netip.Addr   `json:"addr"`
	Peers []netip.Addr `json:"peers"`
}

// SetUpPlane makes the container the router of the topology. Nothing is forwarded before, nor anything that is not from
// node to node after. It is called once in the life of the container.
func (s *Session) SetUpPlane(ctx context.Context, p PlaneSetup) error {
	return s.call(ctx, "setting up the plane", methodPlane, p, nil)
}

// SetUpPod makes the plane the container's only way out, and writes its resolv.conf and hosts, which the engine shows
// to the program too. It is called at each start of the container, before the program's.
func (s *Session) SetUpPod(ctx context.Context, p PodSetup) error {
	return s.call(ctx, "setting up a pod", methodPod, p, nil)
}

// AddNode makes a node known to the plane: its packets are forwarded and its names answered. NetNS must be nil: resets
// go by Reset.
func (s *Session) AddNode(ctx context.Context, n plane.Node) error {
	if n.NetNS != nil {
		return fmt.Errorf("agent: node %s: a network namespace cannot be sent to the plane's container", n.Name)
	}
	return s.call(ctx, "adding node "+n.Name, methodAdd, nodeBody{n.Name, n.Addr, n.Names}, nil)
}

// RemoveNode has the plane forget a node.
func (s *Session) RemoveNode(ctx context.Context, name string) error {
	return s.call(ctx, "removing node "+name, methodRemove, nameBody{name}, nil)
}

// LiveSockets lists the live TCP sockets that the pod at addr has with peers.
func (s *Session) LiveSockets(ctx context.Context, addr netip.Addr, peers []netip.Addr) (live []plane.Socket, err error) {
	err = s.call(ctx, fmt.Sprintf("listing the sockets of %v", addr), methodSockets, socketsBody{addr, peers}, &live)
	return live, err
}

func (s *Session) call(ctx context.Context, doing, method string, in, out any) error {
	if _, err := s.control.Call(ctx, method, in, out); err != nil {
		return fmt.Errorf("agent: %s: %w", doing, err)
	}
	return nil
}
