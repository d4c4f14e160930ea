package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

// Network is an internal network of a run: no way out, and nothing published.
type Network struct {
	Name   string
	ID     string
	Prefix netip.Prefix
	Plane  netip.Addr // the second address; the first is the engine's own, on its bridge
}

// maxNodes on a network: a bridge of Linux carries 1023 interfaces (BR_MAX_PORTS), and one is the plane's.
const maxNodes = 1022

// NodeAddr returns the address of node i, from 0.
func (n Network) NodeAddr(i int) (netip.Addr, error) {
	if i < 0 || i >= maxNodes {
		return netip.Addr{}, fmt.Errorf("the network %s has no address for node %d: it carries %d", n.Name, i, maxNodes)
	}
	b := n.Plane.As4()
	last := uint16(b[2])<<8 | uint16(b[3])
	last += uint16(i) + 1
	b[2], b[3] = byte(last>>8), byte(last)
	return netip.AddrFrom4(b), nil
}

// spaces are where networks of /20 are taken from: private, and not where docker's own, Kubernetes' or home networks
// usually are.
var spaces = []netip.Prefix{
	netip.MustParsePrefix("10.176.0.0/12"),
	netip.MustParsePrefix("172.28.0.0/14"),
	netip.MustParsePrefix("192.168.128.0/17"),
}

const networkBits = 20

// candidates yields every network of the spaces that overlaps none of taken.
func candidates(taken []netip.Prefix) iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		for _, space := range spaces {
			for a := space.Addr(); space.Contains(a); a = after(a) {
				p := netip.PrefixFrom(a, networkBits)
				if !overlapsAny(p, taken) && !yield(p) {
					return
				}
			}
		}
	}
}

// after returns the address one network on.
func after(a netip.Addr) netip.Addr {
	b := a.As4()
	n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	n += 1 << (32 - networkBits)
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

func overlapsAny(p netip.Prefix, all []netip.Prefix) bool {
	for _, q := range all {
		if p.Overlaps(q) {
			return true
		}
	}
	return false
}

// Network makes the run's network: an internal bridge on the first addresses that nothing uses.
func (r *Run) Network(ctx context.Context) (Network, error) {
	ctx, cancel := lasting(ctx)
	defer cancel()
	taken, err := r.e.taken(ctx)
	if err != nil {
		return Network{}, err
	}
	noIPv6 := false // an engine may give it to every network, and the plane has no rules for it
	for p := range candidates(taken) {
		n := Network{Name: r.full("net"), Prefix: p, Plane: p.Addr().Next().Next()}
		made, err := r.e.api.NetworkCreate(ctx, n.Name, client.NetworkCreateOptions{
			Driver: "bridge", Internal: true, EnableIPv6: &noIPv6, Labels: r.labels(nil),
			IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: p, Gateway: p.Addr().Next()}}},
		})
		if err != nil && overlap(err) {
			continue // another run was quicker
		}
		if err != nil {
			return Network{}, fmt.Errorf("make the network %s: %w", n.Name, Plain(err))
		}
		n.ID = made.ID
		return n, nil
	}
	return Network{}, errors.New("make a network: all addresses are taken: remove networks that are not used (gauntlet clean, docker network prune)")
}

// overlap reports whether a network was refused for its addresses, in Docker's words and in Podman's.
func overlap(err error) bool {
	text := strings.ToLower(err.Error())
	return strings.Contains(text, "overlap") || strings.Contains(text, "already used") || strings.Contains(text, "is being used")
}

// taken returns the addresses of the engine's networks and, where it is local, of this machine's: the engine checks
// addresses that it was given against its own networks only, and would take those of the machine's.
func (e *Engine) taken(ctx context.Context) ([]netip.Prefix, error) {
	var taken []netip.Prefix
	all, err := e.api.NetworkList(ctx, client.NetworkListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", Plain(err))
	}
	for _, n := range all.Items {
		for _, c := range n.IPAM.Config {
			if c.Subnet.IsValid() {
				taken = append(taken, c.Subnet)
			}
		}
	}
	if !e.Local() {
		return taken, nil
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list this machine's addresses: %w", err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			taken = append(taken, p.Masked())
		}
	}
	return taken, nil
}
