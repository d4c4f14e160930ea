package docker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/docker/engine"
	"github.com/hasvc/gauntlet/harness/cluster/docker/images"
)

// ways are how many testdata/hostile tries to each place.
const ways = 4

// attempt is what testdata/hostile says of one way to one place.
type attempt struct{ Way, To, Error string }

// TestHostile has programs, with and without root in their containers, try to get past a cut link, out to the machine, and into
// another topology. clustertest has tried the privileges; this is what an engine's bridge makes possible.
func TestHostile(t *testing.T) {
	e := connected(t)
	root := serving("root", program(t))
	ordinary := serving("ordinary", program(t))
	ordinary.User = "65534:65534"
	name, otherName := unique(), unique()
	here := up(t, name, root, ordinary, serving("peer", program(t)))
	other := up(t, otherName, serving("peer", program(t)))

	peer, foreign := place(t, here, "peer"), place(t, other, "peer")
	network, otherNetwork := networkOf(t, e, name), networkOf(t, e, otherName)
	machine := machineListeners(t)
	// The last is the name server that the engine has in every namespace: it asks the machine's.
	forbidden := append([]string{peer, foreign, otherNetwork.Plane.String() + ":53", "127.0.0.11:53"}, machine...)
	for _, port := range []uint16{22, 2375, 2376} { // the engine's own, where it listens
		forbidden = append(forbidden, netip.AddrPortFrom(network.Prefix.Addr().Next(), port).String())
	}

	for _, node := range []string{"root", "ordinary"} {
		there, back := cluster.Link{From: node, To: "peer"}, cluster.Link{From: "peer", To: node}
		for _, cut := range []struct {
			links []cluster.Link
			to    []string
		}{{[]cluster.Link{there, back}, forbidden}, {[]cluster.Link{there}, []string{peer}}} {
			rule, err := here.Apply(t.Context(), cut.links, cluster.Rule{Drop: true})
			require.NoError(t, err)
			for _, a := range tryFrom(t, here, node, cut.to...) {
				if a.Error == "" {
					t.Errorf("from %s, with %v cut, %s %s worked", node, cut.links, a.Way, a.To)
				}
			}
			require.NoError(t, here.Remove(t.Context(), rule))
		}
		open(t, tryFrom(t, here, node, peer), "udp", peer)
	}
	log, err := os.ReadFile(logOf(here, "peer"))
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(string(log), "udp"), "nothing arrived but what each sent while the link was whole:\n%s", log)

	// The same ways are open where the star does not shut them: none of it was silence by itself.
	open(t, tryFrom(t, other, "peer", foreign), "tcp", foreign)
	onBridge := fromBridge(t, e, network, machine)
	open(t, onBridge, "packet socket", "")
	open(t, onBridge, "tcp", gatewayListener(t, network, machine))
}

// open requires that a way was.
func open(t *testing.T, all []attempt, way, to string) {
	t.Helper()
	for _, a := range all {
		if a.Way == way && a.To == to {
			require.Empty(t, a.Error, "%s %s", way, to)
			return
		}
	}
	require.FailNow(t, "it was not tried", "%s %s", way, to)
}

// gatewayListener is the one of the machine's listeners that is at its address on a network's bridge.
func gatewayListener(t *testing.T, n engine.Network, machine []string) string {
	t.Helper()
	for _, m := range machine {
		if netip.MustParseAddrPort(m).Addr() == n.Prefix.Addr().Next() {
			return m
		}
	}
	require.FailNow(t, "the machine has no address on the bridge of "+n.Name)
	return ""
}

func place(t *testing.T, c cluster.Cluster, node string) string {
	t.Helper()
	for _, n := range c.Nodes() {
		if n.Name == node {
			return netip.AddrPortFrom(n.Addr, 7000).String()
		}
	}
	require.FailNow(t, "no node "+node)
	return ""
}

func logOf(c cluster.Cluster, node string) string {
	for _, n := range c.Nodes() {
		if n.Name == node {
			return n.Log
		}
	}
	return ""
}

// networkOf finds the network of a topology.
func networkOf(t *testing.T, e *engine.Engine, name string) engine.Network {
	t.Helper()
	f := client.Filters{}.Add("label", engine.LabelName+"="+name)
	ns, err := e.API().NetworkList(t.Context(), client.NetworkListOptions{Filters: f})
	require.NoError(t, err)
	require.Len(t, ns.Items, 1)
	n := ns.Items[0]
	p := n.IPAM.Config[0].Subnet
	return engine.Network{Name: n.Name, ID: n.ID, Prefix: p, Plane: p.Addr().Next().Next()}
}

// machineListeners opens a port on every address of this machine but loopback, the engine's bridges among them.
func machineListeners(t *testing.T) (open []string) {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok || n.IP.To4() == nil || n.IP.IsLoopback() {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort(n.IP.String(), "0"))
		if err != nil {
			continue // taken away meanwhile, with another's network
		}
		t.Cleanup(func() { l.Close() })
		open = append(open, l.Addr().String())
	}
	require.NotEmpty(t, open)
	return open
}

// tryFrom has a node try the ways to some places.
func tryFrom(t *testing.T, c cluster.Cluster, node string, to ...string) (all []attempt) {
	t.Helper()
	var out, errs bytes.Buffer
	x, err := c.Exec(t.Context(), node, cluster.Process{Argv: append([]string{"/usr/local/bin/hostile", "try"}, to...), Stdout: &out, Stderr: &errs})
	require.NoError(t, err)
	exit, err := x.Wait()
	require.NoError(t, err)
	require.Zero(t, exit.Code, "%s", &errs)
	require.NoError(t, json.Unmarshal(out.Bytes(), &all))
	require.Len(t, all, 1+ways*len(to))
	return all
}

// fromBridge tries the ways from a container that is on the network of a topology and no node of it.
func fromBridge(t *testing.T, e *engine.Engine, n engine.Network, to []string) (all []attempt) {
	t.Helper()
	image, err := images.New(e.API()).Program(t.Context(), program(t))
	require.NoError(t, err)
	run := e.NewRun("control")
	t.Cleanup(func() {
		left, err := run.Remove(context.Background())
		require.NoError(t, err)
		require.Empty(t, left)
	})
	addr, err := n.NodeAddr(500)
	require.NoError(t, err)
	c, err := run.Create(t.Context(), engine.Spec{Name: "control", Role: "control", Image: image, Cmd: append([]string{"try"}, to...), Network: &n, Addr: addr, CapAdd: []string{"NET_RAW"}})
	require.NoError(t, err)
	s, err := c.Attach(t.Context())
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, c.Start(t.Context()))
	var out, errs bytes.Buffer
	require.NoError(t, s.Copy(&out, &errs))
	require.NoError(t, json.Unmarshal(out.Bytes(), &all), "%s", &errs)
	require.NoError(t, c.Remove(t.Context()), "before the topology's network is removed")
	return all
}
