package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/plane"
)

var (
	hostAddr  = netip.MustParseAddr("10.88.0.1") // of the engine on the bridge
	planeAddr = netip.MustParseAddr("10.88.0.2")
)

// bench is a bridge with containers as the engine makes them, without the engine.
type bench struct {
	t       *testing.T
	bridge  netlink.Link
	sysctls string // where settings can be written: /proc/sys is read-only
	plane   *container
	pods    []*container
}

// container is a process of its own network and PID namespace, whose standard streams a session has.
type container struct {
	*Session
	cmd    *exec.Cmd
	addr   netip.Addr
	ended  chan error
	stderr *strings.Builder // read after ended
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, sysctls: filepath.Join(t.TempDir(), "proc")}
	require := require.New(t)
	require.NoError(os.Mkdir(b.sysctls, 0o700))
	require.NoError(unix.Mount("proc", b.sysctls, "proc", 0, ""))
	t.Cleanup(func() { require.NoError(unix.Unmount(b.sysctls, unix.MNT_DETACH)) })
	require.NoError(unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""))
	require.NoError(unix.Mount("", "/proc/sys", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	require.ErrorIs(os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0), unix.EROFS)

	la := netlink.NewLinkAttrs()
	la.Name = "br0"
	b.bridge = &netlink.Bridge{LinkAttrs: la}
	require.NoError(netlink.LinkAdd(b.bridge))
	require.NoError(netlink.AddrAdd(b.bridge, onBridge(hostAddr)))
	require.NoError(netlink.LinkSetUp(b.bridge))
	return b
}

func onBridge(a netip.Addr) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(24, 32)}}
}

// start starts an agent on the bridge, with a default route through the host, as an internal network may have.
func (b *bench) start(argv0 string, addr netip.Addr, sysctls map[string]string) *container {
	b.t.Helper()
	require := require.New(b.t)
	c := &container{addr: addr, ended: make(chan error, 1), stderr: &strings.Builder{}}
	c.cmd = &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{argv0}, Stderr: c.stderr,
		SysProcAttr: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL},
	}
	stdin, err := c.cmd.StdinPipe()
	require.NoError(err)
	stdout, w, err := os.Pipe()
	require.NoError(err)
	c.cmd.Stdout = w
	started := make(chan error)
	stop := make(chan struct{})
	go func() {
		runtime.LockOSThread() // the death signal follows the thread
		defer runtime.UnlockOSThread()
		started <- c.cmd.Start()
		<-stop
	}()
	require.NoError(<-started)
	w.Close()
	go func() {
		defer close(stop)
		c.ended <- c.cmd.Wait()
	}()
	b.connect(c, sysctls)
	c.Session, err = NewSession(stdin, stdout)
	require.NoError(err)
	b.t.Cleanup(func() {
		_ = c.Close()
		_ = c.cmd.Process.Signal(unix.SIGTERM) // it may have ended; a pod would wait for its turn
		if err := <-c.ended; err != nil && !b.t.Failed() {
			b.t.Errorf("%s: %v\n%s", argv0, err, c.stderr)
		}
	})
	return c
}

func (b *bench) connect(c *container, sysctls map[string]string) {
	b.t.Helper()
	require := require.New(b.t)
	la := netlink.NewLinkAttrs()
	la.Name = fmt.Sprintf("v%d", c.cmd.Process.Pid)
	la.MasterIndex = b.bridge.Attrs().Index
	require.NoError(netlink.LinkAdd(&netlink.Veth{LinkAttrs: la, PeerName: "eth0", PeerNamespace: netlink.NsPid(c.cmd.Process.Pid)}))
	l, err := netlink.LinkByName(la.Name)
	require.NoError(err)
	require.NoError(netlink.LinkSetUp(l))
	b.in(c, func() error {
		lo, err1 := netlink.LinkByName("lo")
		eth0, err2 := netlink.LinkByName("eth0")
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		err := errors.Join(netlink.LinkSetUp(lo), netlink.AddrAdd(eth0, onBridge(c.addr)), netlink.LinkSetUp(eth0),
			netlink.RouteAdd(&netlink.Route{Gw: hostAddr.AsSlice()}))
		for name, value := range sysctls {
			err = errors.Join(err, os.WriteFile(b.sysctl(name), []byte(value), 0))
		}
		return err
	})
}

func (b *bench) sysctl(name string) string {
	return filepath.Join(b.sysctls, "sys", strings.ReplaceAll(name, ".", "/"))
}

// in runs f on a thread in a container's network namespace.
func (b *bench) in(c *container, f func() error) {
	b.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // not unlocked: the thread is of no use to others
		ns, err := netns.GetFromPid(c.cmd.Process.Pid)
		if err == nil {
			err = netns.Set(ns)
			ns.Close()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	require.NoError(b.t, <-done)
}

// reads returns a setting as a container has it.
func (b *bench) reads(c *container, name string) (value string) {
	b.t.Helper()
	b.in(c, func() error {
		v, err := os.ReadFile(b.sysctl(name))
		value = strings.TrimSpace(string(v))
		return err
	})
	return value
}

// network is what a container's kernel knows.
type network struct {
	routes     []netlink.Route
	ipv6       []netlink.Addr // of eth0
	neighbours []netlink.Neigh
}

func (b *bench) network(c *container) (n network) {
	b.t.Helper()
	b.in(c, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		var errs [3]error
		n.routes, errs[0] = netlink.RouteList(nil, netlink.FAMILY_V4)
		n.ipv6, errs[1] = netlink.AddrList(eth0, netlink.FAMILY_V6)
		n.neighbours, errs[2] = netlink.NeighList(0, netlink.FAMILY_V4)
		return errors.Join(errs[:]...)
	})
	return n
}

// newTopology starts a plane and pods, and sets them up.
func newTopology(t *testing.T, n int) *bench {
	b := newBench(t)
	ctx := context.Background()
	b.plane = b.start(PlaneArgv0, planeAddr, PlaneSysctls)
	require.NoError(t, b.plane.SetUpPlane(ctx, PlaneSetup{Addr: planeAddr}))
	for i := range n {
		addr := netip.AddrFrom4([4]byte{10, 88, 0, byte(11 + i)})
		p := b.start(PodArgv0, addr, PodSysctls)
		name := fmt.Sprintf("node-%d", i+1)
		require.NoError(t, b.plane.AddNode(ctx, plane.Node{Name: name, Addr: addr, Names: []string{"svc"}}))
		require.NoError(t, p.SetUpPod(ctx, PodSetup{Addr: addr, Plane: planeAddr, Names: []string{name}}))
		b.pods = append(b.pods, p)
	}
	return b
}

func (b *bench) pod(a netip.Addr) (*Session, error) {
	for _, p := range b.pods {
		if p.addr == a {
			return p.Session, nil
		}
	}
	return nil, fmt.Errorf("no pod has the address %v", a)
}

// listen returns a listener in a pod that echoes.
func (b *bench) listen(p *container) netip.AddrPort {
	b.t.Helper()
	l, err := p.Listen(context.Background(), p.addr)
	require.NoError(b.t, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			})
		}
	})
	b.t.Cleanup(func() {
		_ = l.Close()
		_ = p.Close()
		serving.Wait()
	})
	return addrPortOf(l.Addr())
}

// fails dials what must not answer.
func (b *bench) fails(s *Session, to netip.AddrPort) error {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	c, err := s.Dial(ctx, "tcp", to)
	if err == nil {
		c.Close()
	}
	require.Error(b.t, err, "%v was reached", to)
	return err
}

func TestStarOfContainers(t *testing.T) {
	inside(t, func() {
		b := newTopology(t, 2)
		one, two := b.pods[0], b.pods[1]
		to := b.listen(two)

		c := dial(t, one.Session, "tcp", to)
		require.Equal(t, one.addr, addrPortOf(c.LocalAddr()).Addr(), "nodes see each other's real addresses")
		_, err := c.Write([]byte("hello"))
		require.NoError(t, err)
		_, err = io.ReadFull(c, make([]byte, 5))
		require.NoError(t, err)
		dial(t, b.plane.Session, "tcp", to) // the plane's own way passes by the rules

		// The link is the plane's.
		ctx := context.Background()
		router := b.plane.Router()
		link := []plane.AddrLink{{From: one.addr, To: two.addr}}
		id, err := router.Apply(ctx, link, cluster.Rule{Drop: true})
		require.NoError(t, err)
		require.ErrorIs(t, b.fails(one.Session, to), context.DeadlineExceeded)
		counted, err := router.Counters(ctx, id)
		require.NoError(t, err)
		require.Positive(t, counted[0].Packets)
		dial(t, b.plane.Session, "tcp", to)
		require.NoError(t, router.Remove(ctx, id))
		id, err = router.Apply(ctx, link, cluster.Rule{Reject: true})
		require.NoError(t, err)
		require.ErrorIs(t, b.fails(one.Session, to), syscall.ECONNREFUSED)
		require.NoError(t, router.Remove(ctx, id))
		dial(t, one.Session, "tcp", to)

		nobody := netip.AddrPortFrom(two.addr, 9)
		require.ErrorIs(t, b.fails(one.Session, nobody), syscall.ECONNREFUSED)
		u := dial(t, one.Session, "udp", nobody)
		_, err = u.Write([]byte("x"))
		require.NoError(t, err)
		_, err = u.Read(make([]byte, 1))
		require.ErrorIs(t, err, syscall.ECONNREFUSED)

		require.NoError(t, b.plane.RemoveNode(ctx, "node-2"))
		require.ErrorIs(t, b.fails(one.Session, to), context.DeadlineExceeded, "only nodes are forwarded to")
	})
}

// TestNothingGoesRoundThePlane: not by the host, not by the bridge, not by what the kernel can learn.
func TestNothingGoesRoundThePlane(t *testing.T) {
	inside(t, func() {
		b := newTopology(t, 2)
		one, two := b.pods[0], b.pods[1]
		l, err := net.Listen("tcp4", netip.AddrPortFrom(hostAddr, 0).String())
		require.NoError(t, err)
		defer l.Close()
		b.fails(one.Session, addrPortOf(l.Addr()))
		c, err := net.DialTimeout("tcp4", b.listen(one).String(), 300*time.Millisecond)
		if err == nil {
			c.Close()
		}
		require.Error(t, err, "the host reached a node")

		for _, p := range b.pods {
			require.Equal(t, "0", b.reads(p, "net.ipv4.conf.eth0.accept_redirects"))
			require.Equal(t, "0", b.reads(p, "net.ipv4.conf.all.accept_redirects"))
			n := b.network(p)
			require.Len(t, n.routes, 2)
			require.Empty(t, n.ipv6)
		}
		require.Equal(t, "0", b.reads(b.plane, "net.ipv4.conf.eth0.send_redirects"))
		require.Equal(t, "0", b.reads(b.plane, "net.ipv4.conf.eth0.accept_redirects"))
		require.Equal(t, "1", b.reads(b.plane, "net.ipv4.conf.eth0.rp_filter"))
		for _, r := range b.network(b.plane).routes {
			require.Nil(t, r.Gw, "%v", r)
		}

		// A frame that went from node to node over the bridge would show here.
		dial(t, one.Session, "tcp", b.listen(two))
		var known []string
		for _, n := range b.network(one).neighbours {
			known = append(known, n.IP.String())
		}
		require.Contains(t, known, planeAddr.String())
		require.NotContains(t, known, two.addr.String())
	})
}

func TestNamesOfANode(t *testing.T) {
	inside(t, func() {
		for _, name := range []string{"resolv.conf", "hosts"} {
			require.NoError(t, os.WriteFile("/etc/"+name, []byte("what the engine has written"), 0o644))
		}
		inode := func(name string) uint64 {
			var st unix.Stat_t
			require.NoError(t, unix.Stat("/etc/"+name, &st))
			return st.Ino
		}
		before := inode("hosts")
		b := newTopology(t, 1)
		require.Equal(t, before, inode("hosts"), "written in place: it is mounted into another container")
		hosts, err := os.ReadFile("/etc/hosts")
		require.NoError(t, err)
		require.Equal(t, "127.0.0.1 localhost\n10.88.0.11 node-1\n", string(hosts))
		resolv, err := os.ReadFile("/etc/resolv.conf")
		require.NoError(t, err)
		require.Contains(t, string(resolv), "nameserver 10.88.0.2\n")
		require.NotContains(t, string(resolv), "search")

		for _, network := range []string{"udp", "tcp"} {
			conn := &dns.Conn{Conn: dial(t, b.pods[0].Session, network, netip.AddrPortFrom(planeAddr, 53))}
			q := new(dns.Msg).SetQuestion("svc.", dns.TypeA)
			require.NoError(t, conn.WriteMsg(q))
			a, err := conn.ReadMsg()
			require.NoError(t, err)
			require.Len(t, a.Answer, 1)
			require.Equal(t, "10.88.0.11", a.Answer[0].(*dns.A).A.String())
		}
	})
}

// TestResetOfIdleConnections: no process at either end has anything to do, and both see a reset.
func TestResetOfIdleConnections(t *testing.T) {
	inside(t, func() {
		b := newTopology(t, 3)
		one, two, three := b.pods[0], b.pods[1], b.pods[2]
		l, err := two.Listen(context.Background(), two.addr)
		require.NoError(t, err)
		defer l.Close()
		const n = 220
		var ends []net.Conn
		connect := func(from *container) {
			ends = append(ends, dial(t, from.Session, "tcp", addrPortOf(l.Addr())))
			c, err := l.Accept()
			require.NoError(t, err)
			require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
			ends = append(ends, c)
		}
		for range n {
			connect(one)
		}
		ctx := context.Background()
		links := []plane.AddrLink{{From: one.addr, To: two.addr}}
		start := time.Now()
		found, err := b.plane.Reset(ctx, links, b.pod)
		t.Logf("%d idle connections ended in %v", found, time.Since(start))
		require.NoError(t, err)
		require.Equal(t, n, found)
		for _, c := range ends {
			_, err := c.Read(make([]byte, 1))
			require.ErrorIs(t, err, syscall.ECONNRESET)
			c.Close()
		}

		connect(three)
		bystander := ends[2*n]
		found, err = b.plane.Reset(ctx, links, b.pod)
		require.NoError(t, err)
		require.Zero(t, found)
		_, err = bystander.Write([]byte("x"))
		require.NoError(t, err)
		_, err = io.ReadFull(ends[2*n+1], make([]byte, 1))
		require.NoError(t, err)
		dial(t, one.Session, "tcp", addrPortOf(l.Addr()))

		_, err = b.plane.Reset(ctx, links, func(netip.Addr) (*Session, error) { return nil, errors.New("it is restarting") })
		require.ErrorContains(t, err, "it is restarting")
		_, err = b.plane.Router().Reset(ctx, links)
		require.ErrorContains(t, err, "network namespace")
		left, err := b.plane.Router().Audit(ctx)
		require.NoError(t, err)
		require.Empty(t, left)
	})
}

func TestSetUpSaysWhatIsMissing(t *testing.T) {
	inside(t, func() {
		b := newBench(t)
		ctx := context.Background()
		bare := b.start(PlaneArgv0, planeAddr, nil)
		require.ErrorContains(t, bare.AddNode(ctx, plane.Node{Name: "n", Addr: hostAddr}), "was not set up")
		require.ErrorContains(t, bare.SetUpPlane(ctx, PlaneSetup{Addr: hostAddr}), "no interface has the address 10.88.0.1")
		require.ErrorContains(t, bare.SetUpPlane(ctx, PlaneSetup{Addr: planeAddr}), "PlaneSysctls")
		pod := b.start(PodArgv0, netip.MustParseAddr("10.88.0.11"), PodSysctls)
		require.ErrorContains(t, pod.SetUpPod(ctx, PodSetup{Addr: pod.addr, Plane: planeAddr}), "has no name")
		again := PodSetup{Addr: pod.addr, Plane: planeAddr, Names: []string{"n"}}
		require.NoError(t, pod.SetUpPod(ctx, again))
		require.NoError(t, pod.SetUpPod(ctx, again), "twice does no harm")
	})
}

// TestAgentsEnd: with the harness, which the end of their standard input tells, a pod when it is its turn, and when the engine stops them.
func TestAgentsEnd(t *testing.T) {
	inside(t, func() {
		b := newTopology(t, 3)
		require.NoError(t, b.plane.Close())
		require.NoError(t, <-b.plane.ended)
		b.plane.ended <- nil
		waits := b.pods[2]
		require.NoError(t, waits.Close())
		select {
		case err := <-waits.ended:
			t.Errorf("it did not wait for its turn: %v", err)
		case <-time.After(500 * time.Millisecond): // its turn is eleven addresses after the plane's, in 1.65 s
			require.NoError(t, waits.cmd.Process.Signal(unix.SIGTERM))
			require.NoError(t, <-waits.ended, "stopped, it waits no longer")
		}
		waits.ended <- nil
		asked, killed := b.pods[0], b.pods[1]
		start := time.Now()
		require.NoError(t, asked.cmd.Process.Signal(unix.SIGTERM))
		require.NoError(t, <-asked.ended, "it ends in order")
		asked.ended <- nil
		<-asked.Done()
		require.ErrorIs(t, asked.Err(), plane.ErrGone)
		require.NoError(t, killed.cmd.Process.Kill())
		<-killed.Done()
		_, err := killed.Dial(context.Background(), "tcp", netip.AddrPortFrom(loopback, 1))
		require.ErrorIs(t, err, plane.ErrGone)
		require.Error(t, <-killed.ended)
		killed.ended <- nil
		t.Logf("both had ended after %v", time.Since(start))
	})
}
