package agent

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// linkOf returns the interface that has an address: the engine names them, and a container may get another one.
func linkOf(addr netip.Addr) (netlink.Link, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("listing interfaces: %w", err)
	}
	for _, l := range links {
		if l.Attrs().Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := netlink.AddrList(l, netlink.FAMILY_V4)
		if err != nil {
			return nil, fmt.Errorf("listing the addresses of %s: %w", l.Attrs().Name, err)
		}
		for _, a := range addrs {
			if a.IP.Equal(addr.AsSlice()) {
				return l, nil
			}
		}
	}
	return nil, fmt.Errorf("no interface has the address %v: is the container on the network of the topology?", addr)
}

// noIPv6 takes the addresses of IPv6 from an interface. By those of the link nodes would reach one another over the
// bridge, past the plane. Engines give a network without IPv6 none; they can be told otherwise.
func noIPv6(l netlink.Link) error {
	addrs, err := netlink.AddrList(l, netlink.FAMILY_V6)
	if err != nil {
		return fmt.Errorf("listing the IPv6 addresses of %s: %w", l.Attrs().Name, err)
	}
	for _, a := range addrs {
		if err := netlink.AddrDel(l, &a); err != nil {
			return fmt.Errorf("taking the address %v from %s: %w", a.IP, l.Attrs().Name, err)
		}
	}
	return nil
}

// dropRoutes removes the IPv4 routes of the main table that match.
func dropRoutes(match func(netlink.Route) bool) error {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("listing routes: %w", err)
	}
	for _, r := range routes {
		if !match(r) {
			continue
		}
		if err := netlink.RouteDel(&r); err != nil && err != unix.ESRCH {
			return fmt.Errorf("removing the route %v: %w", r, err)
		}
	}
	return nil
}

// routeBy makes the plane the only way out of a pod. Not even the node's neighbours on the bridge are reached without
// it. An internal network comes with a default route through the host on some engines: no route stays.
func routeBy(l netlink.Link, plane netip.Addr) error {
	if err := dropRoutes(func(netlink.Route) bool { return true }); err != nil {
		return err
	}
	gateway := &net.IPNet{IP: plane.AsSlice(), Mask: net.CIDRMask(32, 32)}
	index := l.Attrs().Index
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: index, Scope: netlink.SCOPE_LINK, Dst: gateway}); err != nil {
		return fmt.Errorf("adding the route to the plane: %w", err)
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: index, Gw: plane.AsSlice()}); err != nil {
		return fmt.Errorf("adding the default route through the plane: %w", err)
	}
	return nil
}
