package plane

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// resetDeadline is for all connections of a call together. Idle ones go in 26-59 ms.
	resetDeadline = 5 * time.Second
	resetPoll     = 2 * time.Millisecond
)

// Socket is one end of a TCP connection, as its node sees it.
type Socket struct {
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`
}

// connection returns what both ends have in common.
func (s Socket) connection() Socket {
	if s.Local.Compare(s.Remote) > 0 {
		return Socket{s.Remote, s.Local}
	}
	return s
}

// ListSockets lists the live TCP sockets that the From of each link has with its To.
type ListSockets func(ctx context.Context, links []AddrLink) ([]Socket, error)

// Reset ends the live TCP connections between the two nodes of each link, idle ones too, so that both ends see a
// reset. It returns how many connections it found, when all are gone. The harness's own probes go too, and are not counted.
//
// Nothing runs inside the nodes for it. While all packets between the two are refused, each end gets an ACK that it
// does not expect, which it answers, and the refusal of the answer is a reset with the right sequence number.
// Connections that are made meanwhile are refused.
func (r *Router) Reset(ctx context.Context, links []AddrLink) (int, error) {
	both := bothWays(links)
	ends, err := r.endsOf(both)
	if err != nil {
		return 0, err
	}
	return reset(ctx, r, both, func(_ context.Context, links []AddrLink) ([]Socket, error) {
		return socketsOf(ends, links)
	})
}

// resetter does the steps of a reset that the plane alone can do. Who lists the sockets in between is another matter:
// the plane itself where it holds the nodes' namespaces, else the harness, which asks the nodes.
type resetter interface {
	// refuse has all packets of the links refused, whatever rules hold, until release.
	refuse(ctx context.Context, links []AddrLink) (id uint64, err error)
	provoke(ctx context.Context, live []Socket) error
	release(ctx context.Context, id uint64) error
	// notes returns what holds now.
	notes(ctx context.Context) (notes, error)
}

// notes is what the plane knows of the nodes' sockets and these do not say.
type notes struct {
	Probes []netip.AddrPort `json:"probes,omitempty"` // where the harness listens for probes
	Moved  []moved          `json:"moved,omitempty"`
}

// moved is a connection through the link core that does not have the client's port at the server.
type moved struct {
	Client Socket `json:"client"` // the client's end
	Server Socket `json:"server"`
}

// reset is Reset, wherever it runs.
func reset(ctx context.Context, r resetter, both []AddrLink, list ListSockets) (n int, err error) {
	if len(both) == 0 {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resetDeadline)
	defer cancel()
	connections, probed, clients := map[Socket]bool{}, map[netip.AddrPort]bool{}, map[Socket]Socket{}
	ask := func() error {
		n, err := r.notes(ctx)
		for _, a := range n.Probes {
			probed[a] = true
		}
		for _, m := range n.Moved {
			clients[m.Server.connection()] = m.Client.connection()
		}
		return err
	}
	find := func() ([]Socket, error) {
		live, err := list(ctx, both)
		if err == nil {
			err = ask()
		}
		for _, s := range live {
			if probed[s.Local] || probed[s.Remote] {
				continue
			}
			c := s.connection()
			if client, ok := clients[c]; ok {
				c = client
			}
			connections[c] = true
		}
		return live, err
	}
	// Asked before and after the sockets are listed: what is found may have come or gone meanwhile.
	if err := ask(); err != nil {
		return 0, err
	}
	// Looked at before, for the count: the refusal itself ends those through the core.
	if _, err := find(); err != nil {
		return 0, err
	}
	id, err := r.refuse(ctx, both)
	if err != nil {
		return 0, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resetDeadline)
		defer cancel()
		err = errors.Join(err, r.release(ctx, id))
	}()
	err = provokeUntilGone(ctx, r, find)
	return len(connections), err
}

// provokeUntilGone sends ACKs to the live sockets again and again: a socket answers an unexpected one only every
// 500 ms (net.ipv4.tcp_invalid_ratelimit), and an answer can be lost. Whatever is found under the refusal is to go,
// also what was not there before it: no connection begins under it, but the ends of one that began just before may
// be made by packets that were on their way.
func provokeUntilGone(ctx context.Context, r resetter, find func() ([]Socket, error)) error {
	tick := time.NewTicker(resetPoll)
	defer tick.Stop()
	for {
		live, err := find()
		if err != nil || len(live) == 0 {
			return err
		}
		if err := r.provoke(ctx, live); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("plane: %d ends of connections between the nodes did not notice their reset, such as %v - %v: %w", len(live), live[0].Local, live[0].Remote, ctx.Err())
		}
	}
}

// bothWays returns the links and those of the opposite direction, each once.
func bothWays(links []AddrLink) []AddrLink {
	var both []AddrLink
	for _, l := range links {
		for _, x := range []AddrLink{l, {l.To, l.From}} {
			if !slices.Contains(both, x) {
				both = append(both, x)
			}
		}
	}
	return both
}

// endsOf returns a way to list the sockets of each node of the links.
func (r *Router) endsOf(links []AddrLink) (map[netip.Addr]*netlink.Handle, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ends := map[netip.Addr]*netlink.Handle{}
	for _, l := range links {
		n := r.nodes[l.From]
		if n == nil {
			return nil, fmt.Errorf("plane: no node has the address %v", l.From)
		}
		if n.diag == nil {
			return nil, fmt.Errorf("plane: resetting connections of %s needs its network namespace, which AddNode was not given: see RemoteRouter.ResetListed", n.Name)
		}
		ends[l.From] = n.diag
	}
	return ends, nil
}

// refuse implements resetter.
func (r *Router) refuse(_ context.Context, links []AddrLink) (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	links, err := r.known(links)
	if err != nil {
		return 0, err
	}
	var enter []element
	for _, l := range links {
		if r.resetting[l] == 0 {
			enter = append(enter, element{r.filter.resets, nftables.SetElement{Key: key(l)}})
		}
	}
	if err := r.filter.change(nil, enter); err != nil {
		return 0, err
	}
	for _, l := range links {
		r.resetting[l]++
	}
	r.lastRefusal++
	r.refusals[r.lastRefusal] = links
	// The core resets its connections itself; what it has not connected yet counts as not made.
	r.core.refuse(links)
	return r.lastRefusal, nil
}

// notes implements resetter.
func (r *Router) notes(context.Context) (notes, error) {
	n := notes{Moved: r.core.moved()}
	r.core.probes.Range(func(k, _ any) bool {
		n.Probes = append(n.Probes, k.(netip.AddrPort))
		return true
	})
	return n, nil
}

// release implements resetter.
func (r *Router) release(_ context.Context, id uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	links, ok := r.refusals[id]
	if !ok {
		return fmt.Errorf("plane: there is no refusal %d", id)
	}
	delete(r.refusals, id)
	r.core.release(links)
	var leave []element
	for _, l := range links {
		if r.resetting[l]--; r.resetting[l] == 0 {
			delete(r.resetting, l)
			leave = append(leave, element{r.filter.resets, nftables.SetElement{Key: key(l)}})
		}
	}
	return r.filter.change(leave, nil)
}

// provoke implements resetter.
func (r *Router) provoke(_ context.Context, live []Socket) error {
	raw, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return fmt.Errorf("plane: opening a raw socket (CAP_NET_RAW) to reset connections: %w", err)
	}
	defer unix.Close(raw)
	for _, s := range live {
		if !s.Local.Addr().Is4() || !s.Remote.Addr().Is4() {
			return fmt.Errorf("plane: %v - %v is no connection of IPv4", s.Remote, s.Local)
		}
		if err := provoke(raw, s); err != nil {
			return fmt.Errorf("plane: resetting %v - %v: %w", s.Remote, s.Local, err)
		}
	}
	return nil
}

// TCP states (linux/tcp_states.h): in all but closed a program can still have a connection.
const (
	established = 1
	finWait1    = 4
	finWait2    = 5
	closed      = 7
	closeWait   = 8
)

// LiveSockets lists the live TCP sockets that the network namespace of the process has between one of its addresses and
// peers.
func LiveSockets(self netip.Addr, peers []netip.Addr) ([]Socket, error) {
	h, err := netlink.NewHandle(unix.NETLINK_INET_DIAG)
	if err != nil {
		return nil, fmt.Errorf("plane: opening sock_diag: %w", err)
	}
	defer h.Close()
	return liveSockets(h, self, peers)
}

// socketsOf lists the live TCP sockets that each From has with its To.
func socketsOf(ends map[netip.Addr]*netlink.Handle, links []AddrLink) ([]Socket, error) {
	var live []Socket
	for self, peers := range PeersOf(links) {
		ss, err := liveSockets(ends[self], self, peers)
		if err != nil {
			return nil, err
		}
		live = append(live, ss...)
	}
	return live, nil
}

// PeersOf returns the To of the links by their From.
func PeersOf(links []AddrLink) map[netip.Addr][]netip.Addr {
	peers := map[netip.Addr][]netip.Addr{}
	for _, l := range links {
		peers[l.From] = append(peers[l.From], l.To)
	}
	return peers
}

// liveSockets looks at IPv6 sockets too: those of servers that listen on both families carry IPv4 connections.
func liveSockets(h *netlink.Handle, self netip.Addr, peers []netip.Addr) ([]Socket, error) {
	var live []Socket
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		ss, err := h.SocketDiagTCP(family)
		for tries := 0; errors.Is(err, netlink.ErrDumpInterrupted) && tries < 5; tries++ {
			ss, err = h.SocketDiagTCP(family)
		}
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("plane: listing the sockets of %v (sock_diag): %w", self, err)
		}
		for _, s := range ss {
			local, ok1 := netip.AddrFromSlice(s.ID.Source)
			remote, ok2 := netip.AddrFromSlice(s.ID.Destination)
			local, remote = local.Unmap(), remote.Unmap()
			if ok1 && ok2 && local == self && slices.Contains(peers, remote) && isLive(s) {
				live = append(live, Socket{netip.AddrPortFrom(local, s.ID.SourcePort), netip.AddrPortFrom(remote, s.ID.DestinationPort)})
			}
		}
	}
	return live, nil
}

// isLive reports whether a program may have the socket. One that has closed and only waits for the peer's answer has
// no inode; one that was not accepted yet has none either, but is established.
func isLive(s *netlink.Socket) bool {
	switch s.State {
	case established, closeWait:
		return true
	case finWait1, finWait2:
		return s.INode != 0
	}
	return false
}

// provoke sends s an ACK of its peer that it does not expect.
func provoke(raw int, s Socket) error {
	src, dst := s.Remote.Addr().As4(), s.Local.Addr().As4()
	b := make([]byte, 40)
	b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	tcp := b[20:]
	binary.BigEndian.PutUint16(tcp, s.Remote.Port())
	binary.BigEndian.PutUint16(tcp[2:], s.Local.Port())
	binary.BigEndian.PutUint32(tcp[4:], rand.Uint32()) // most likely outside the window
	binary.BigEndian.PutUint32(tcp[8:], rand.Uint32())
	tcp[12], tcp[13] = 5<<4, 0x10 // header of 5 words, ACK
	binary.BigEndian.PutUint16(tcp[14:], 1000)
	binary.BigEndian.PutUint16(tcp[16:], checksum(b[12:20], []byte{0, unix.IPPROTO_TCP, 0, 20}, tcp))
	err := unix.Sendto(raw, b, 0, &unix.SockaddrInet4{Addr: dst})
	if err == unix.ENOBUFS || err == unix.EAGAIN {
		return nil // the next round sends it again
	}
	return err
}

func checksum(parts ...[]byte) uint16 {
	var sum uint32
	for _, p := range parts {
		for i := 0; i+1 < len(p); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(p[i:]))
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
