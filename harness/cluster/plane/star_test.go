package plane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// insideVar marks a process that is a test's own plane.
const insideVar = "GAUNTLET_PLANE_TEST"

// inPlane runs body in a process of its own, the same test binary in new namespaces: as an ordinary user in a user
// namespace too, as root without one.
func inPlane(t testing.TB, body func()) {
	t.Helper()
	if os.Getenv(insideVar) == t.Name() {
		require.NoError(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		require.NoError(t, unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""))
		body()
		return
	}
	spawn(t, t.Name(), os.Getuid() != 0)
}

// TestInAUserNamespace has root run tests as an ordinary user does.
func TestInAUserNamespace(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("all other tests run in a user namespace when they are not run by root")
	}
	for _, name := range []string{"TestNoWayRound", "TestPacketRulesCompose", "TestReset", "TestLatency", "TestRemovingADelayLetsPacketsGo", "TestNameServer"} {
		t.Run(name, func(t *testing.T) { spawn(t, name, true) })
	}
}

// spawn runs a test of this binary in new namespaces.
func spawn(t testing.TB, name string, userNamespace bool) {
	t.Helper()
	args := []string{"-test.run=^" + name + "$", "-test.v", "-test.timeout=120s"}
	if _, ok := t.(*testing.B); ok {
		args = []string{"-test.run=^$", "-test.bench=^" + name + "$", "-test.timeout=120s", "-test.benchtime=1x"}
	}
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), insideVar+"="+name)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	if userNamespace {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	runtime.LockOSThread() // the death signal follows the thread
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
		t.Skipf("this machine does not let this user make namespaces (clone: %v)", err)
	}
	if _, ok := t.(*testing.B); ok && err == nil {
		figures(string(out))
		return
	}
	for line := range strings.Lines(string(out)) {
		t.Log(strings.TrimSuffix(line, "\n"))
	}
	require.NoError(t, err, "in the plane's process")
}

// figures passes on what a benchmark found, once each.
func figures(out string) {
	for line := range strings.Lines(out) {
		name, _, ok := strings.Cut(line, ": ")
		if _, printed := shown.LoadOrStore(name, true); ok && !printed {
			fmt.Print(line)
		}
	}
}

var shown sync.Map

// star is a plane with nodes.
type star struct {
	t     testing.TB
	r     *Router
	self  netip.Addr
	nodes []*testNode
}

type testNode struct {
	t    testing.TB
	name string
	addr netip.Addr
	ns   *os.File
}

func newStar(t testing.TB, n int) *star { return newStarWith(t, n, Config{}) }

func newStarWith(t testing.TB, n int, cfg Config) *star {
	s := &star{t: t, self: netip.MustParseAddr("10.99.255.254")}
	cfg.Addr = s.self
	var err error
	s.r, err = New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.r.Close()) })
	for range n {
		s.add()
	}
	return s
}

// add makes node-N at 10.99.0.N, which also answers to "svc".
func (s *star) add() *testNode {
	i := len(s.nodes) + 1
	n := &testNode{t: s.t, name: fmt.Sprintf("node-%d", i), addr: netip.AddrFrom4([4]byte{10, 99, byte(i >> 8), byte(i)}), ns: newNS(s.t)}
	require := require.New(s.t)
	name := fmt.Sprintf("v%d", i)
	la := netlink.NewLinkAttrs()
	la.Name = name
	require.NoError(netlink.LinkAdd(&netlink.Veth{LinkAttrs: la, PeerName: "eth0", PeerNamespace: netlink.NsFd(n.ns.Fd())}))
	l, err := netlink.LinkByName(name)
	require.NoError(err)
	require.NoError(netlink.LinkSetUp(l))
	host := func(a netip.Addr) *net.IPNet {
		return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}
	}
	require.NoError(netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: host(n.addr)}))
	h, err := netlink.NewHandleAt(netns.NsHandle(n.ns.Fd()))
	require.NoError(err)
	defer h.Close()
	lo, err := h.LinkByName("lo")
	require.NoError(err)
	require.NoError(h.LinkSetUp(lo))
	e, err := h.LinkByName("eth0")
	require.NoError(err)
	require.NoError(h.AddrAdd(e, &netlink.Addr{IPNet: host(n.addr)}))
	require.NoError(h.LinkSetUp(e))
	require.NoError(h.RouteAdd(&netlink.Route{LinkIndex: e.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: host(s.self)}))
	require.NoError(h.RouteAdd(&netlink.Route{LinkIndex: e.Attrs().Index, Gw: s.self.AsSlice()}))
	// A fresh veth drops packets until the kernel has seen that it is up; this ioctl makes it look.
	glink(name)
	n.in(func() { glink("eth0") })
	require.NoError(s.r.AddNode(Node{Name: n.name, Addr: n.addr, Names: []string{"svc"}, NetNS: n.ns}))
	s.nodes = append(s.nodes, n)
	s.t.Cleanup(func() { n.ns.Close() })
	return n
}

// link is the link from node i to node j, counted from 1.
func (s *star) link(i, j int) AddrLink {
	return AddrLink{s.nodes[i-1].addr, s.nodes[j-1].addr}
}

func (s *star) apply(r cluster.Rule, links ...AddrLink) cluster.RuleID {
	s.t.Helper()
	id, err := s.r.Apply(links, r)
	require.NoError(s.t, err)
	return id
}

func (s *star) remove(id cluster.RuleID) {
	s.t.Helper()
	require.NoError(s.t, s.r.Remove(id))
}

// counter is what a rule on one link counted.
func (s *star) counter(id cluster.RuleID) AddrCounter {
	s.t.Helper()
	cs, err := s.r.Counters(id)
	require.NoError(s.t, err)
	require.Len(s.t, cs, 1)
	return cs[0]
}

func newNS(t testing.TB) *os.File {
	type result struct {
		f   *os.File
		err error
	}
	ch := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies, the descriptor keeps the namespace
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			ch <- result{nil, err}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		ch <- result{f, err}
	}()
	r := <-ch
	require.NoError(t, r.err)
	return r.f
}

// in runs f on a thread in the node's network namespace. Sockets made there stay there.
func (n *testNode) in(f func()) {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // not unlocked: the thread is of no use to others
		err := unix.Setns(int(n.ns.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			f()
		}
		done <- err
	}()
	require.NoError(n.t, <-done)
}

func (n *testNode) listen(port int) *net.TCPListener {
	var l net.Listener
	var err error
	n.in(func() { l, err = net.Listen("tcp4", fmt.Sprintf("%v:%d", n.addr, port)) })
	require.NoError(n.t, err)
	n.t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

func (n *testNode) dial(to netip.Addr, port int, timeout time.Duration) (*net.TCPConn, error) {
	var c net.Conn
	var err error
	d := net.Dialer{Timeout: timeout, KeepAlive: -1}
	n.in(func() { c, err = d.Dial("tcp4", netip.AddrPortFrom(to, uint16(port)).String()) })
	if err != nil {
		return nil, err
	}
	n.t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn), nil
}

func (n *testNode) mustDial(to *testNode, port int) *net.TCPConn {
	n.t.Helper()
	c, err := n.dial(to.addr, port, 3*time.Second)
	require.NoError(n.t, err)
	return c
}

func (n *testNode) udp(port int) *net.UDPConn {
	var p net.PacketConn
	var err error
	n.in(func() { p, err = net.ListenPacket("udp4", fmt.Sprintf("%v:%d", n.addr, port)) })
	require.NoError(n.t, err)
	n.t.Cleanup(func() { p.Close() })
	return p.(*net.UDPConn)
}

// serve answers each connection by f in a goroutine of its own; the listener's end ends it.
func serve(t testing.TB, l *net.TCPListener, f func(*net.TCPConn)) {
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			running.Go(func() { f(c) })
		}
	})
	t.Cleanup(func() { l.Close() })
}

// echo sends back what comes, and closes when the peer has.
func echo(c *net.TCPConn) {
	_, _ = io.Copy(c, c)
	c.Close()
}

// roundTrip sends one byte and waits for it to come back.
func roundTrip(c net.Conn, timeout time.Duration) (time.Duration, error) {
	start := time.Now()
	if err := c.SetDeadline(start.Add(timeout)); err != nil {
		return 0, err
	}
	defer c.SetDeadline(time.Time{})
	b := []byte{42}
	if _, err := c.Write(b); err != nil {
		return 0, err
	}
	_, err := io.ReadFull(c, b)
	return time.Since(start), err
}

// fastest is the shortest of a few round trips: what a busy machine adds is not the link's.
func fastest(t testing.TB, c net.Conn) time.Duration {
	t.Helper()
	least := time.Hour
	for range 5 {
		d, err := roundTrip(c, 5*time.Second)
		require.NoError(t, err)
		least = min(least, d)
	}
	return least
}

// until polls a condition that must come true.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for tick := time.NewTicker(time.Millisecond); !cond(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			require.Fail(t, "it did not come: "+what)
		}
	}
}

func glink(name string) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	value := [2]uint32{unix.ETHTOOL_GLINK, 0}
	var req struct {
		name [16]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(req.name[:], name)
	req.data = unsafe.Pointer(&value)
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
	runtime.KeepAlive(&value)
}
