package plane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	coreTable          = 100 // routing table that delivers packets with coreMark
	defaultDialTimeout = 30 * time.Second

	// firstAnswer is how long a server's answer to the first SYN takes at most, beside what rules delay it: the kernel repeats a SYN
	// after 1 s.
	firstAnswer = 900 * time.Millisecond
	lookAgain   = 50 * time.Millisecond
)

// core is the link core: TCP connections of some links end here and begin anew, with the addresses and ports of both
// ends kept, so that toxics can work on the bytes. A connection is accepted before the server has accepted it, and
// reset when the server refuses: the one thing that is not as without the core.
type core struct {
	listener *net.TCPListener
	timeout  time.Duration
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup

	names  sync.Map // of the nodes, by address
	probes sync.Map // where the harness listens for probes
	delays sync.Map // linkDelay, by link

	mu    sync.Mutex
	taps  func(tapConn) tap // the tap of a new connection, or nil
	conns map[*coreConn]struct{}
	rules map[AddrLink][]*toxicLink
	count map[AddrLink]uint64 // connections that came
	// refused are links whose connections are being reset, as often as that is: what the kernel has accepted before is reset too.
	refused map[AddrLink]int
}

func newCore(timeout time.Duration) (*core, error) {
	if timeout <= 0 {
		timeout = defaultDialTimeout
	}
	// Rules may hold a link silent for long: no keep-alive probe may end its connections meanwhile. However patient, probes would be
	// packets of ours on links that are idle: what a node answers passes the rules, and a fault that met nothing else would be proved
	// by it. The price: a connection that one end gave up while a fault lost its packets stays with the other until that writes.
	lc := net.ListenConfig{KeepAlive: -1, Control: control(transparent)}
	lc.SetMultipathTCP(false) // Go's default; what TPROXY hands over is plain TCP
	// On loopback the nodes cannot reach it but by TPROXY.
	l, err := lc.Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("plane: starting the link core: %w", err)
	}
	c := &core{
		listener: l.(*net.TCPListener), timeout: timeout,
		conns: map[*coreConn]struct{}{}, rules: map[AddrLink][]*toxicLink{}, count: map[AddrLink]uint64{},
		refused: map[AddrLink]int{},
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.running.Go(c.accept)
	return c, nil
}

func (c *core) addr() netip.AddrPort { return c.listener.Addr().(*net.TCPAddr).AddrPort() }

// transparent lets a socket have an address that is not this machine's.
func transparent(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1) }

// samePort lets several connections of a client, to different servers, have one port, as they may have there.
func samePort(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) }

// resetOnClose has a connection that is given up while it is being made end in a reset, not in an orderly end: the
// server may have it already.
func resetOnClose(fd int) error {
	return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

// anyPort has the kernel choose the port at connect, when it knows what it must not collide with.
func anyPort(fd int) error {
	return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
}

func control(options ...func(fd int) error) func(string, string, syscall.RawConn) error {
	return func(_, _ string, rc syscall.RawConn) error {
		var errs []error
		err := rc.Control(func(fd uintptr) {
			for _, o := range options {
				errs = append(errs, o(int(fd)))
			}
		})
		return errors.Join(append(errs, err)...)
	}
}

func (c *core) accept() {
	for {
		conn, err := c.listener.AcceptTCP()
		if err != nil {
			if c.ctx.Err() != nil {
				return
			}
			// Out of descriptors, most likely: the connection waits in the kernel until some are free.
			select {
			case <-time.After(10 * time.Millisecond):
				continue
			case <-c.ctx.Done():
				return
			}
		}
		cc := c.enter(conn)
		c.running.Go(func() { // one that cannot be connected does not hold up the others
			defer c.leave(cc)
			c.serve(cc)
		})
	}
}

func addrOf(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// enter registers a connection, before it is connected: none that exists escapes a rule or a reset.
func (c *core) enter(conn *net.TCPConn) *coreConn {
	from, to := addrOf(conn.RemoteAddr()), addrOf(conn.LocalAddr())
	cc := &coreConn{client: conn, connInfo: connInfo{
		link: AddrLink{From: from.Addr(), To: to.Addr()}, from: c.nameOf(from.Addr()), to: c.nameOf(to.Addr()), client: from, port: to.Port(), began: time.Now(),
	}}
	_, cc.probe = c.probes.Load(to)
	cc.ctx, cc.cancel = context.WithCancel(c.ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	cc.n = c.count[cc.link]
	c.count[cc.link]++
	c.conns[cc] = struct{}{}
	if c.refused[cc.link] > 0 {
		cc.cancel()
	}
	return cc
}

// setTaps sets where the taps of connections to come are from; a connection for which f returns nil has none. No lock
// is held when f is called.
func (c *core) setTaps(f func(tapConn) tap) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.taps = f
}

func (c *core) nameOf(a netip.Addr) string {
	name, _ := c.names.Load(a)
	s, _ := name.(string)
	return s
}

func (c *core) leave(cc *coreConn) {
	cc.cancel()
	c.mu.Lock()
	delete(c.conns, cc)
	c.mu.Unlock()
}

// dial connects to the server from the client's own address and port. It gives up when the client has meanwhile.
func (c *core) dial(cc *coreConn) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(cc.ctx, c.timeout)
	defer cancel()
	stop := c.watchClient(cc, cancel)
	defer stop()
	from, to := addrOf(cc.client.RemoteAddr()), addrOf(cc.client.LocalAddr())
	d := net.Dialer{KeepAlive: -1, LocalAddr: net.TCPAddrFromAddrPort(from), Control: control(transparent, samePort, resetOnClose)}
	conn, err := d.DialContext(ctx, "tcp4", to.String())
	if errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EADDRNOTAVAIL) {
		// An earlier connection of the same port lingers in TIME_WAIT here: the address is kept, the port is not.
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from.Addr(), 0))
		d.Control = control(transparent, anyPort, resetOnClose)
		conn, err = d.DialContext(ctx, "tcp4", to.String())
	}
	if err != nil {
		return nil, err
	}
	server := conn.(*net.TCPConn)
	if err := server.SetLinger(-1); err != nil {
		abort(server)
		return nil, err
	}
	return server, nil
}

// watchClient calls giveUp when the client has given up, until the returned function is called: when it has reset the connection, or
// ended its stream although the server's first answer, or what asked for it, was lost. Without the core that client would not have been
// connected yet, and what it sent would not exist: it must not reach the server when the link heals. The price is that a client which
// ends its own half alone, and waits for an answer, is reset over so slow a handshake.
func (c *core) watchClient(cc *coreConn, giveUp func()) (stop func()) {
	// The time alone may tell, when nothing comes any more.
	return watch(cc.client, lookAgain, func(fd int) bool {
		info, err := unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO)
		return err != nil || info.State == closed || info.State == closeWait && c.unanswered(cc)
	}, giveUp)
}

// watch calls f when something is so of a connection's socket, until the returned function is called. It looks at once, whenever
// something comes, which it does not read, and every so often, or never for 0. Nobody may read meanwhile.
func watch(conn *net.TCPConn, every time.Duration, is func(fd int) bool, f func()) (stop func()) {
	rc, err := conn.SyscallConn()
	if err != nil {
		return func() {}
	}
	var stopped atomic.Bool
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			var next time.Time
			if every > 0 {
				next = time.Now().Add(every)
			}
			// It is set before the flag is read: whoever stops this sets the flag and then the deadline.
			_ = conn.SetReadDeadline(next)
			if stopped.Load() {
				return
			}
			err := rc.Read(func(fd uintptr) bool { return is(int(fd)) })
			if err == nil {
				f()
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				return
			}
		}
	})
	return func() {
		stopped.Store(true)
		_ = conn.SetReadDeadline(longAgo) // who reads next begins with setting it anew
		watching.Wait()
	}
}

// wasReset says that a connection has ended otherwise than by the close of both ends.
func wasReset(fd int) bool {
	info, err := unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO)
	if err != nil || info.State != closed {
		return err != nil
	}
	why, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	return err != nil || why != 0
}

// linkDelay is how long rules hold packets of a link back.
type linkDelay struct {
	longest time.Duration
	shrank  time.Time // what was held for longer came after it
}

func (c *core) delayOf(l AddrLink) linkDelay {
	d, _ := c.delays.Load(l)
	was, _ := d.(linkDelay)
	return was
}

// setDelay says how long rules hold a packet of a link back at the longest. One goroutine at a time may call it.
func (c *core) setDelay(l AddrLink, longest time.Duration) {
	d := c.delayOf(l)
	if longest < d.longest {
		d.shrank = time.Now()
	}
	d.longest = longest
	c.delays.Store(l, d)
}

// unanswered says that the first SYN to the server of a connection was lost, or the answer to it. One that a longer delay held is on
// its way for a while when that is over.
func (c *core) unanswered(cc *coreConn) bool {
	d := c.delayOf(AddrLink{From: cc.link.To, To: cc.link.From}) // the core's own packets pass by the rules
	return time.Since(cc.began) > firstAnswer+d.longest && time.Since(d.shrank) > firstAnswer
}

// changeTimeout is how long a change waits for the connections that exist. They take it within microseconds, except on
// a busy machine, or when a peer does not read: then when it does.
const changeTimeout = 250 * time.Millisecond

// addToxics puts toxics on the connections of their links, those that exist and those to come.
func (c *core) addToxics(tls []*toxicLink) {
	await(c.eachConn(tls, (*coreConn).add, func(tl *toxicLink) {
		c.rules[tl.link] = append(c.rules[tl.link], tl)
	}))
}

// removeToxics takes them off again. What comes from now on passes without them; what they hold goes on before it.
func (c *core) removeToxics(tls []*toxicLink) {
	await(c.eachConn(tls, (*coreConn).remove, func(tl *toxicLink) {
		c.rules[tl.link] = slices.DeleteFunc(c.rules[tl.link], func(x *toxicLink) bool { return x == tl })
	}))
}

// eachConn calls rule for each of the toxics and change for each connection that one of them concerns. It returns
// what the changes are to be waited for by.
func (c *core) eachConn(tls []*toxicLink, change func(*coreConn, *toxicLink) <-chan struct{}, rule func(*toxicLink)) []<-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	of := map[AddrLink]*toxicLink{}
	for _, tl := range tls {
		rule(tl)
		of[tl.link] = tl
	}
	var taken []<-chan struct{}
	for cc := range c.conns {
		if tl := of[cc.link]; tl != nil {
			if ch := change(cc, tl); ch != nil {
				taken = append(taken, ch)
			}
		}
	}
	return taken
}

func await(taken []<-chan struct{}) {
	timeout := time.NewTimer(changeTimeout)
	defer timeout.Stop()
	for _, ch := range taken {
		select {
		case <-ch:
		case <-timeout.C:
			return
		}
	}
}

// end resets the connections that match.
func (c *core) end(match func(AddrLink) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for cc := range c.conns {
		if match(cc.link) {
			cc.cancel()
		}
	}
}

// refuse resets the connections of links, those too that wait in the kernel to be taken, until release.
func (c *core) refuse(links []AddrLink) {
	c.mu.Lock()
	for _, l := range links {
		c.refused[l]++
	}
	c.mu.Unlock()
	c.end(func(l AddrLink) bool { return slices.Contains(links, l) }) // what comes meanwhile is given up as it enters
}

func (c *core) release(links []AddrLink) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range links {
		if c.refused[l]--; c.refused[l] == 0 {
			delete(c.refused, l)
		}
	}
}

// moved returns the connections that could not keep their client's port.
func (c *core) moved() (ms []moved) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for cc := range c.conns {
		if from := cc.dialled; from.IsValid() && from != cc.connInfo.client {
			server := netip.AddrPortFrom(cc.link.To, cc.port)
			ms = append(ms, moved{Client: Socket{cc.connInfo.client, server}, Server: Socket{server, from}})
		}
	}
	return ms
}

func (c *core) close() error {
	c.cancel()
	err := c.listener.Close()
	c.running.Wait()
	return err
}

// coreRoute delivers packets with the core's mark to this machine, whoever they are for.
func coreRoute() (undo func() error, err error) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("plane: finding the loopback interface: %w", err)
	}
	rule := netlink.NewRule()
	rule.Family, rule.Mark, rule.Table = netlink.FAMILY_V4, coreMark, coreTable
	if err := netlink.RuleAdd(rule); err != nil {
		return nil, fmt.Errorf("plane: adding the rule that leads to the link core: %w", err)
	}
	route := &netlink.Route{
		Type: unix.RTN_LOCAL, Table: coreTable, LinkIndex: lo.Attrs().Index, Scope: netlink.SCOPE_HOST,
		Dst: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
	}
	if err := netlink.RouteAdd(route); err != nil {
		return nil, errors.Join(fmt.Errorf("plane: adding the route to the link core: %w", err), netlink.RuleDel(rule))
	}
	return func() error { return errors.Join(netlink.RouteDel(route), netlink.RuleDel(rule)) }, nil
}
