package supervise

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// Dial implements cluster.Dialer.
func (t *Topology) Dial(ctx context.Context, from, network, address string) (net.Conn, error) {
	n, err := t.living(from)
	if err != nil {
		return nil, err
	}
	return t.dial(ctx, n, network, address)
}

// DialPlane implements cluster.Dialer. Rules are keyed by the address of the sender, and the plane's own has none.
func (t *Topology) DialPlane(ctx context.Context, network, address string) (net.Conn, error) {
	return t.dial(ctx, nil, network, address)
}

func (t *Topology) dial(ctx context.Context, from *Node, network, address string) (net.Conn, error) {
	switch network {
	case "tcp4":
		network = "tcp"
	case "udp4":
		network = "udp"
	case "tcp", "udp":
	default:
		return nil, &net.OpError{Op: "dial", Net: network, Err: net.UnknownNetworkError(network)}
	}
	to, err := t.resolve(address)
	if err != nil {
		return nil, err
	}
	if t.life.Err() != nil {
		return nil, fmt.Errorf("dial: %w", t.ending())
	}
	return t.carrier.Dial(ctx, from, network, to)
}

// Listen implements cluster.Prober. The plane is told of it: what connects is a probe, and no call.
func (t *Topology) Listen(ctx context.Context, name string) (net.Listener, error) {
	n, err := t.living(name)
	if err != nil {
		return nil, err
	}
	p, err := n.made()
	if err != nil {
		return nil, err
	}
	l, err := p.Listen(ctx)
	if err != nil {
		return nil, fmt.Errorf("listen in node %s: %w", name, err)
	}
	at := l.Addr().(*net.TCPAddr).AddrPort()
	k := &probed{Listener: l, t: t, at: netip.AddrPortFrom(at.Addr().Unmap(), at.Port())}
	if err := t.carrier.Probe(ctx, k.at, true); err != nil {
		return nil, errors.Join(fmt.Errorf("listen in node %s: %w", name, err), l.Close())
	}
	return k, nil
}

// probed is a listener for probes.
type probed struct {
	net.Listener
	t  *Topology
	at netip.AddrPort
}

// forgetTime bounds the wait for the plane at the end of a listener.
const forgetTime = 5 * time.Second

// Close implements net.Listener. Its port may be a program's from now on, whose calls are to be read.
func (l *probed) Close() error {
	ctx, cancel := context.WithTimeout(l.t.life, forgetTime)
	defer cancel()
	return errors.Join(l.Listener.Close(), l.t.carrier.Probe(ctx, l.at, false))
}

// Exec implements cluster.Runner.
func (t *Topology) Exec(ctx context.Context, name string, p cluster.Process) (cluster.Execution, error) {
	n, err := t.living(name)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	place, err := n.made()
	if err != nil {
		return nil, err
	}
	e, err := place.Exec(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("run a program in node %s: %w", name, err)
	}
	return e, nil
}

// resolve finds the address of NODE:PORT, SERVICE:PORT or IP:PORT among the known nodes: no question to a name server
// that a fault may have silenced. The replicas of a service take turns.
func (t *Topology) resolve(address string) (netip.AddrPort, error) {
	name, portText, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("address %q: %w", address, err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("address %q: %q is no port", address, portText)
	}
	if a, err := netip.ParseAddr(name); err == nil {
		if a = a.Unmap(); !a.Is4() {
			return netip.AddrPort{}, fmt.Errorf("address %q: nodes have addresses of IPv4 only", address)
		}
		return netip.AddrPortFrom(a, uint16(port)), nil
	}
	if name == "localhost" {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port)), nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.nodes[name]; n != nil {
		return netip.AddrPortFrom(n.Info.Addr, uint16(port)), nil
	}
	var replicas []*Node
	for _, n := range t.order {
		if n.Info.Service == name {
			replicas = append(replicas, n)
		}
	}
	if len(replicas) == 0 {
		return netip.AddrPort{}, &cluster.UnknownNodeError{Name: name}
	}
	t.turn[name]++
	return netip.AddrPortFrom(replicas[t.turn[name]%len(replicas)].Info.Addr, uint16(port)), nil
}
