package sandbox

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hasvc/gauntlet/harness/cluster/sandbox/nodeinit"
)

// planeNode is a node as the plane holds it. Its namespace and address survive its program: a connection to a killed
// node is refused, as on a real host.
type planeNode struct {
	veth string
	ns   *os.File
	init *os.Process
	pid  int
}

// newPlaneNode makes a node's network and starts its init. The file is the harness's end of the init's connection.
func newPlaneNode(b addBody, planeNS *os.File) (n *planeNode, control *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make the connection to node %s: %w", b.Name, err)
	}
	control = os.NewFile(uintptr(pair[0]), "init's connection")
	theirs := os.NewFile(uintptr(pair[1]), "harness's connection")
	defer theirs.Close()

	n = &planeNode{veth: "v" + strconv.Itoa(b.Index)}
	failed := make(chan error, 1)
	go func() {
		// The thread is never unlocked: it ends with the goroutine, in the node's namespace. The descriptor keeps
		// the namespace.
		runtime.LockOSThread()
		failed <- n.make(b, planeNS, theirs)
	}()
	if err := <-failed; err != nil {
		control.Close()
		return nil, nil, errors.Join(fmt.Errorf("make node %s: %w", b.Name, err), n.close())
	}
	return n, control, nil
}

// make runs on a thread of its own, which it moves into the new namespace.
func (n *planeNode) make(b addBody, planeNS, theirs *os.File) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return stageError("netns", fmt.Errorf("make a network namespace: %w", err))
	}
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("open the network namespace: %w", err)
	}
	n.ns = ns
	if err := nodeSysctls(); err != nil {
		return err
	}
	// From inside, with the peer in the plane's namespace: the node's end is there when LinkAdd returns.
	if err := n.link(planeNS); err != nil {
		return err
	}
	if err := elsewhere(func() error { return n.planeEnd(b.Addr) }); err != nil {
		return err
	}
	if err := n.nodeEnd(b.Addr); err != nil {
		return err
	}
	// Both ends are up in the kernel's books before the first packet: see flushLinkwatch.
	if err := elsewhere(func() error { return flushLinkwatch(n.veth) }); err != nil {
		return err
	}
	if err := flushLinkwatch("eth0"); err != nil {
		return err
	}
	return n.startInit(b, theirs)
}

// nodeSysctls sets what a node's program expects of a host. /proc/sys/net is that of the thread's namespace.
func nodeSysctls() error {
	must := map[string]string{
		"net/ipv4/ip_unprivileged_port_start": "0", // the program has no capability, but may listen on port 80
		"net/ipv4/conf/all/accept_redirects":  "0", // no way round the plane is to be learnt
	}
	for name, v := range must {
		if err := os.WriteFile("/proc/sys/"+name, []byte(v), 0); err != nil {
			return stageError("netns", fmt.Errorf("set %s of a node: %w", name, err))
		}
	}
	// The rest makes better, and is not there in every kernel: the link-local addresses of IPv6 are of no use on a
	// star, and a generator that opens thousands of connections must not run out of ports (TIME_WAIT lasts 60 s).
	may := map[string]string{
		"net/ipv6/conf/all/disable_ipv6":     "1",
		"net/ipv6/conf/default/disable_ipv6": "1",
		"net/ipv4/ip_local_port_range":       "10240 65535",
		"net/ipv4/tcp_tw_reuse":              "1",
		"net/ipv4/ping_group_range":          "0 0",
	}
	for name, v := range may {
		_ = os.WriteFile("/proc/sys/"+name, []byte(v), 0)
	}
	return nil
}

func (n *planeNode) link(planeNS *os.File) error {
	la := netlink.NewLinkAttrs()
	la.Name = "eth0"
	la.NumTxQueues, la.NumRxQueues = 1, 1
	v := &netlink.Veth{LinkAttrs: la, PeerName: n.veth, PeerNamespace: netlink.NsFd(int(planeNS.Fd()))}
	if err := netlink.LinkAdd(v); err != nil {
		return stageError("veth", fmt.Errorf("make a veth pair: %w", err))
	}
	return loopbackUp()
}

func (n *planeNode) planeEnd(addr netip.Addr) error {
	l, err := netlink.LinkByName(n.veth)
	if err != nil {
		return fmt.Errorf("find the plane's end of a veth pair: %w", err)
	}
	// On the veth too, not on lo alone: where the machine has arp_ignore set, only that is answered for.
	if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: host(planeAddr)}); err != nil {
		return fmt.Errorf("give %s the plane's address: %w", n.veth, err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("set %s up: %w", n.veth, err)
	}
	r := &netlink.Route{LinkIndex: l.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: host(addr), Src: planeAddr.AsSlice()}
	if err := netlink.RouteAdd(r); err != nil {
		return fmt.Errorf("add the route to %s: %w", addr, err)
	}
	return nil
}

func (n *planeNode) nodeEnd(addr netip.Addr) error {
	l, err := netlink.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("find the node's end of a veth pair: %w", err)
	}
	if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: host(addr)}); err != nil {
		return fmt.Errorf("give the node the address %s: %w", addr, err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("set a node's eth0 up: %w", err)
	}
	gw := &netlink.Route{LinkIndex: l.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: host(planeAddr)}
	if err := netlink.RouteAdd(gw); err != nil {
		return fmt.Errorf("add a node's route to the plane: %w", err)
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: planeAddr.AsSlice()}); err != nil {
		return fmt.Errorf("add a node's default route: %w", err)
	}
	return nil
}

func host(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("set the loopback interface up: %w", err)
	}
	return nil
}

// startInit starts the node's init from the thread that is in the node's network namespace. The init gets a user
// namespace nested in the plane's: it may mount and kill inside the node, but has no right over its network, so that
// neither it nor a program can undo a fault.
func (n *planeNode) startInit(b addBody, theirs *os.File) error {
	self, err := initExecutable()
	if err != nil {
		return stageError("init", err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return fmt.Errorf("open the null device: %w", err)
	}
	defer null.Close()
	files := []*os.File{null, os.Stderr, os.Stderr, theirs}
	defer func() { closeFiles(files[nodeinit.FirstTree:]) }()
	for _, t := range b.Trees {
		fd, err := nodeinit.OpenTree(t.Source, t.ReadOnly, t.Device)
		if err != nil {
			return err
		}
		files = append(files, os.NewFile(uintptr(fd), t.Source))
	}
	p, err := os.StartProcess(self, []string{nodeinit.Argv0}, &os.ProcAttr{
		Dir:   "/",
		Env:   []string{"GOMAXPROCS=2"}, // of the init alone; nothing is handed on to programs
		Files: files,
		Sys:   initAttributes(b.IDs),
	})
	if err != nil {
		return stageError("init", fmt.Errorf("start a node's init in a nested user namespace: %w", err))
	}
	n.init, n.pid = p, p.Pid
	return nil
}

// initExecutable is a path by which this executable can be started under a subordinate id of root's: what a strict
// umask built is root's alone, and is copied.
var initExecutable = sync.OnceValues(func() (string, error) {
	const self = "/proc/self/exe"
	st, err := os.Stat(self)
	if err != nil {
		return "", fmt.Errorf("look at this executable: %w", err)
	}
	if st.Mode()&0o005 == 0o005 || os.Getuid() != ownerOf(st) {
		return self, nil
	}
	from, err := os.Open(self)
	if err != nil {
		return "", fmt.Errorf("copy this executable: %w", err)
	}
	defer from.Close()
	fd, err := unix.MemfdCreate("gauntlet", unix.MFD_CLOEXEC)
	if err != nil {
		return "", fmt.Errorf("copy this executable, which is its owner's alone (mode %v): %w", st.Mode().Perm(), err)
	}
	to := os.NewFile(uintptr(fd), "gauntlet")
	if _, err := io.Copy(to, from); err != nil {
		return "", fmt.Errorf("copy this executable: %w", err)
	}
	if err := to.Chmod(0o755); err != nil {
		return "", fmt.Errorf("copy this executable: %w", err)
	}
	// Executed by a descriptor that is open for writing a file is busy. The copy stays open as long as the plane.
	read, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("copy this executable: %w", err)
	}
	defer unix.Close(read)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return "", fmt.Errorf("copy this executable: %w", err)
	}
	high, err := unix.FcntlInt(uintptr(read), unix.F_DUPFD_CLOEXEC, int(min(limit.Cur, highDescriptor))-1)
	if err != nil {
		return "", fmt.Errorf("copy this executable: %w", err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", high), to.Close()
})

// highDescriptor is above all that a plane opens: between its fork and its exec a child puts what it inherits, such as an init's trees,
// over the low ones.
const highDescriptor = 1 << 14

func initAttributes(ids idMaps) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{
		Setsid: true,
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS |
			unix.CLONE_NEWIPC,
		UidMappings:                []syscall.SysProcIDMap{ids.UID},
		GidMappings:                []syscall.SysProcIDMap{ids.GID},
		GidMappingsEnableSetgroups: ids.Switch,
	}
	if ids.Switch {
		a.Credential = &syscall.Credential{} // user 0 of the node, one of the machine's subordinate ids
	} else if ids.UID.ContainerID != 0 {
		// A user that is not 0 keeps no capability when the init is executed unless they are ambient.
		for c := uintptr(0); c <= lastCapability(); c++ {
			a.AmbientCaps = append(a.AmbientCaps, c)
		}
	}
	return a
}

// lastCapability is the highest that the kernel knows.
func lastCapability() uintptr {
	if b, err := os.ReadFile("/proc/sys/kernel/cap_last_cap"); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			return uintptr(n)
		}
	}
	return unix.CAP_LAST_CAP
}

// close ends the init, and with it every process of the node, and takes its network away.
func (n *planeNode) close() error {
	var errs []error
	if n.init != nil {
		if err := n.init.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			errs = append(errs, fmt.Errorf("kill a node's init: %w", err))
		}
		if _, err := n.init.Wait(); err != nil {
			errs = append(errs, fmt.Errorf("reap a node's init: %w", err))
		}
	}
	// While the namespace is still held: the kernel takes the pair away with it, at a moment of its own.
	if l, err := netlink.LinkByName(n.veth); err == nil {
		if err := netlink.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("remove %s: %w", n.veth, err))
		}
	}
	if n.ns != nil {
		n.ns.Close()
	}
	return errors.Join(errs...)
}
