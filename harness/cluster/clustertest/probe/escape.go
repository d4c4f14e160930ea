package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Attempt is one way out, and whether it was open.
type Attempt struct {
	Name      string
	Succeeded bool
	Detail    string
}

// escape tries everything that would make a rule on a link, or the star itself, worthless.
func escape(args []string) error {
	fs := flag.NewFlagSet("escape", flag.ContinueOnError)
	peer := fs.String("peer", "", "address of a node whose link is cut")
	via := fs.String("via", "", "address of another node")
	outside := fs.String("outside", "", "comma-separated HOST:PORT on the machine that must not be reached")
	if err := fs.Parse(args); err != nil {
		return err
	}
	var all []Attempt
	try := func(name string, f func() (string, error)) {
		detail, err := f()
		a := Attempt{Name: name, Succeeded: err == nil, Detail: detail}
		if err != nil {
			a.Detail = err.Error()
		}
		all = append(all, a)
	}
	for _, a := range powers() {
		try(a.name, func() (string, error) { return "", a.do() })
	}
	peerAddr, err := netip.ParseAddr(*peer)
	if err != nil {
		return err
	}
	try("dial the peer by a loose source route", func() (string, error) { return sourceRoute(*peer, *via) })
	try("take the peer's address", func() (string, error) { return spoof(peerAddr, *via) })
	past := []string{net.JoinHostPort(*peer, "7000")}
	for _, a := range strings.Split(*outside, ",") {
		if a != "" {
			past = append(past, a)
		}
	}
	for _, device := range devices() {
		for _, to := range past {
			try("dial "+to+" as a neighbour on "+device, func() (string, error) { return neighbour(device, to) })
		}
	}
	try("dial outside", func() (string, error) { return connected("tcp", "192.0.2.1:80") })
	try("ask outside", func() (string, error) {
		c, err := net.Dial("udp", "192.0.2.1:53")
		if err != nil {
			return "", err
		}
		defer c.Close()
		return ask(c, "hello", time.Now().Add(300*time.Millisecond))
	})
	for _, a := range strings.Split(*outside, ",") {
		if a != "" {
			try("dial the machine at "+a, func() (string, error) { return connected("tcp", a) })
		}
	}
	try("IPv6 beyond loopback", ipv6)
	try("listeners of the plane", listeners)
	try("processes of other nodes", func() (string, error) {
		for _, p := range processes() {
			if strings.Contains(p.Args, "-mark other-node") {
				return p.Args, nil
			}
		}
		return "", errors.New("none is seen")
	})
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		// The kernel says yes and does nothing when PID 1 protects itself; what counts is that init is still there.
		try("end init by "+sig.String(), func() (string, error) {
			if err := syscall.Kill(1, sig); err != nil {
				return "", err
			}
			time.Sleep(50 * time.Millisecond)
			for _, p := range processes() {
				if p.Pid == 1 && p.State != "T" && p.State != "Z" {
					return "", errors.New("init is still there")
				}
			}
			return "init is gone or stopped", nil
		})
	}
	for _, path := range []string{"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/conf/all/accept_redirects", "/proc/sys/net/ipv4/conf/all/accept_source_route"} {
		try("write "+path, func() (string, error) {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return "", err
			}
			_, err = f.WriteString("1\n")
			return "", errors.Join(err, f.Close())
		})
	}
	try("become root of a user namespace and use it on this network", func() (string, error) {
		c := exec.Command("/proc/self/exe", "userns")
		c.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		out, err := c.Output()
		return strings.TrimSpace(string(out)), err
	})
	return show(all)
}

// devices are the interfaces that lead out of the node.
func devices() (names []string) {
	all, _ := net.Interfaces()
	for _, i := range all {
		if i.Flags&net.FlagLoopback == 0 && i.Flags&net.FlagUp != 0 {
			names = append(names, i.Name)
		}
	}
	return names
}

// neighbour connects with two options that need no privilege and make the kernel take every address for a neighbour's on
// that interface: a routing table that leads to the plane alone is passed by.
func neighbour(device, to string) (string, error) {
	d := net.Dialer{Timeout: 300 * time.Millisecond, Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		ctlErr := c.Control(func(fd uintptr) {
			err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DONTROUTE, 1), unix.BindToDevice(int(fd), device))
		})
		return errors.Join(ctlErr, err)
	}}
	c, err := d.Dial("tcp", to)
	if err != nil {
		return "", err
	}
	return "connected", c.Close()
}

// userns does what needs power over the network; it succeeds when any of it does.
func userns([]string) error {
	for _, a := range powers() {
		if a.ownNamespaces {
			continue
		}
		if err := a.do(); err == nil {
			fmt.Println(a.name)
			return nil
		}
	}
	return errors.New("nothing was allowed")
}

type power struct {
	name          string
	do            func() error
	ownNamespaces bool // harmless in namespaces of one's own
}

// powers are what a program with CAP_NET_ADMIN, CAP_NET_RAW or CAP_SYS_ADMIN over its node could do.
func powers() []power {
	return []power{
		{name: "delete the default route", do: func() error {
			routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
			if err != nil {
				return err
			}
			for _, r := range routes {
				if r.Dst == nil || r.Dst.IP.IsUnspecified() {
					return netlink.RouteDel(&r)
				}
			}
			return errors.New("there is no default route")
		}},
		{name: "add a route", do: func() error {
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				return err
			}
			_, dst, err := net.ParseCIDR("192.0.2.0/24")
			if err != nil {
				return err
			}
			return netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: dst})
		}},
		{name: "add an address", do: func() error {
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				return err
			}
			a, err := netlink.ParseAddr("192.0.2.77/32")
			if err != nil {
				return err
			}
			return netlink.AddrAdd(lo, a)
		}},
		{name: "add a device", do: func() error {
			return netlink.LinkAdd(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "gprobe0"}})
		}},
		{name: "open a packet socket", do: func() error { return socket(unix.AF_PACKET, unix.SOCK_RAW, 0x0300) }},
		{name: "open a raw socket", do: func() error { return socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW) }},
		{name: "mark packets", do: func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, 1)
		}},
		{name: "mount", ownNamespaces: true, do: func() error { return unix.Mount("none", "/tmp", "tmpfs", 0, "") }},
		{name: "load a packet filter", do: func() error {
			// An unprivileged netlink socket opens; asking for a change must be refused.
			fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			// NFNL_MSG_BATCH_BEGIN for nftables; the kernel checks the capability before anything else.
			msg := []byte{20, 0, 0, 0, 0x10, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10}
			if err := unix.Sendto(fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
				return err
			}
			if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 200000}); err != nil {
				return err
			}
			b := make([]byte, 4096)
			n, _, err := unix.Recvfrom(fd, b, 0)
			if err != nil {
				return nil // no refusal came
			}
			if n >= 20 {
				if code := int32(b[16]) | int32(b[17])<<8 | int32(b[18])<<16 | int32(b[19])<<24; code < 0 {
					return unix.Errno(-code)
				}
			}
			return nil
		}},
	}
}

func socket(family, kind, proto int) error {
	fd, err := unix.Socket(family, kind, proto)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func connected(network, addr string) (string, error) {
	c, err := net.DialTimeout(network, addr, 300*time.Millisecond)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return c.RemoteAddr().String(), nil
}

// sourceRoute asks the network to bring a connection to the peer by way of another node.
func sourceRoute(peer, via string) (string, error) {
	v, err := netip.ParseAddr(via)
	if err != nil {
		return "", err
	}
	p, err := netip.ParseAddr(peer)
	if err != nil {
		return "", err
	}
	hop, last := v.As4(), p.As4()
	d := net.Dialer{Timeout: 300 * time.Millisecond, Control: func(_, _ string, c syscall.RawConn) error {
		var serr error
		opt := append([]byte{131, 7, 4}, hop[:]...) // loose source route with one hop
		opt = append(opt, 0)
		if err := c.Control(func(fd uintptr) { serr = unix.SetsockoptString(int(fd), unix.IPPROTO_IP, unix.IP_OPTIONS, string(opt)) }); err != nil {
			return err
		}
		return serr
	}}
	c, err := d.Dial("tcp", netip.AddrPortFrom(netip.AddrFrom4(last), 7000).String())
	if err != nil {
		return "", err
	}
	defer c.Close()
	return c.RemoteAddr().String(), nil
}

// spoof sends as the peer to another node and listens for an answer; binding to a foreign address needs no privilege with
// IP_FREEBIND, so what counts is whether the datagram leaves.
func spoof(peer netip.Addr, via string) (string, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var serr error
		if err := c.Control(func(fd uintptr) { serr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_FREEBIND, 1) }); err != nil {
			return err
		}
		return serr
	}}
	p, err := lc.ListenPacket(context.Background(), "udp4", netip.AddrPortFrom(peer, 0).String())
	if err != nil {
		return "", err
	}
	defer p.Close()
	to, err := net.ResolveUDPAddr("udp4", via+":7000")
	if err != nil {
		return "", err
	}
	if _, err := p.WriteTo([]byte("peer"), to); err != nil {
		return "", err
	}
	return "sent from " + p.LocalAddr().String(), nil
}

// ipv6 finds an address by which a neighbour could be reached behind the back of rules for IPv4.
func ipv6() (string, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() == nil && !n.IP.IsLoopback() {
			return n.String(), nil
		}
	}
	return "", errors.New("there is none")
}

// listeners connects to every TCP port of the plane but that of DNS.
func listeners() (string, error) {
	planes, err := planes()
	if err != nil {
		return "it cannot be tried: " + err.Error(), nil
	}
	const batch = 2000
	var open []string
	for _, plane := range planes {
		for first := 1; first < 65536; first += batch {
			fds := map[int]int{}
			for port := first; port < min(first+batch, 65536); port++ {
				if port == 53 {
					continue
				}
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
				if err != nil {
					return fmt.Sprintf("it cannot be tried: socket %d of a batch: %v", len(fds), err), nil
				}
				fds[port] = fd
				_ = unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: plane.As4()}) // goes on by itself
			}
			time.Sleep(20 * time.Millisecond)
			for port, fd := range fds {
				if _, err := unix.Getpeername(fd); err == nil {
					open = append(open, netip.AddrPortFrom(plane, uint16(port)).String())
				}
				unix.Close(fd)
			}
		}
	}
	if len(open) > 0 {
		return strings.Join(open, " "), nil
	}
	return "", fmt.Errorf("none at %v", planes)
}

// planes are the addresses by which the plane can be known: the gateway and the name server.
func planes() ([]netip.Addr, error) {
	found := map[netip.Addr]bool{}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		if a, ok := netip.AddrFromSlice(r.Gw.To4()); ok {
			found[a] = true
		}
	}
	conf, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(conf)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "nameserver" {
			if a, err := netip.ParseAddr(f[1]); err == nil && a.Is4() && !a.IsLoopback() {
				found[a] = true
			}
		}
	}
	if len(found) == 0 {
		return nil, errors.New("no address of the plane was found")
	}
	return slices.SortedFunc(maps.Keys(found), netip.Addr.Compare), nil
}
