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

// socket is one end of a TCP connection.
type socket struct{ local, remote netip.AddrPort }

// connection returns what both ends have in common.
func (s socket) connection() socket {
	if s.local.Compare(s.remote) > 0 {
		return socket{s.remote, s.local}
	}
	return s
}

// Reset ends the live TCP connections between the two nodes of each link, idle ones too, so that both ends see a
// reset. It returns how many connections it found, when all are gone.
//
// Nothing runs inside the nodes for it. While all packets between the two are refused, each end gets an ACK that it
// does not expect, which it answers, and the refusal of the answer is a reset with the right sequence number.
// Connections that are made meanwhile are refused.
func (r *Router) Reset(ctx context.Context, links []AddrLink) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, resetDeadline)
	defer cancel()
	both := bothWays(links)
	ends, err := r.endsOf(both)
	if err != nil {
		return 0, err
	}
	live, err := liveSockets(ends, both)
	if err != nil {
		return 0, err
	}
	connections := map[socket]bool{}
	for _, s := range live {
		connections[s.connection()] = true
	}
	release, err := r.refuse(both)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, release()) }()
	// The core resets its connections itself; what it has not connected yet counts as not made.
	r.core.end(func(l AddrLink) bool { return slices.Contains(both, l) })
	if len(live) == 0 {
		return 0, nil
	}
	return len(connections), r.provokeUntilGone(ctx, ends, both, live)
}

// provokeUntilGone sends ACKs to the live sockets again and again: a socket answers an unexpected one only every
// 500 ms (net.ipv4.tcp_invalid_ratelimit), and an answer can be lost.
func (r *Router) provokeUntilGone(ctx context.Context, ends map[netip.Addr]*netlink.Handle, both []AddrLink, live []socket) error {
	raw, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return fmt.Errorf("plane: opening a raw socket (CAP_NET_RAW) to reset connections: %w", err)
	}
	defer unix.Close(raw)
	found := map[socket]bool{}
	for _, s := range live {
		found[s] = true
	}
	tick := time.NewTicker(resetPoll)
	defer tick.Stop()
	for {
		for _, s := range live {
			if err := provoke(raw, s); err != nil {
				return fmt.Errorf("plane: resetting %v - %v: %w", s.remote, s.local, err)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("plane: %d ends of connections between the nodes did not notice their reset, such as %v - %v: %w", len(live), live[0].local, live[0].remote, ctx.Err())
		}
		now, err := liveSockets(ends, both)
		if err != nil {
			return err
		}
		if live = slices.DeleteFunc(now, func(s socket) bool { return !found[s] }); len(live) == 0 {
			return nil
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
			return nil, fmt.Errorf("plane: resetting connections of %s needs its network namespace, which AddNode was not given", n.Name)
		}
		ends[l.From] = n.diag
	}
	return ends, nil
}

// refuse has all packets of the links refused, whatever rules hold, until release is called.
func (r *Router) refuse(links []AddrLink) (release func() error, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var enter []element
	for _, l := range links {
		if r.resetting[l] == 0 {
			enter = append(enter, element{r.filter.resets, nftables.SetElement{Key: key(l)}})
		}
	}
	if err := r.filter.change(nil, enter); err != nil {
		return nil, err
	}
	for _, l := range links {
		r.resetting[l]++
	}
	return func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		var leave []element
		for _, l := range links {
			if r.resetting[l]--; r.resetting[l] == 0 {
				delete(r.resetting, l)
				leave = append(leave, element{r.filter.resets, nftables.SetElement{Key: key(l)}})
			}
		}
		return r.filter.change(leave, nil)
	}, nil
}

// TCP states (linux/tcp_states.h) in which a program can still have a connection.
const (
	established = 1
	finWait1    = 4
	finWait2    = 5
	closeWait   = 8
)

// liveSockets lists the live TCP sockets that each From has with its To. It looks at IPv6 sockets too: those of
// servers that listen on both families carry IPv4 connections.
func liveSockets(ends map[netip.Addr]*netlink.Handle, links []AddrLink) ([]socket, error) {
	peers := map[netip.Addr][]netip.Addr{}
	for _, l := range links {
		peers[l.From] = append(peers[l.From], l.To)
	}
	var live []socket
	for addr, h := range ends {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			ss, err := h.SocketDiagTCP(family)
			for tries := 0; errors.Is(err, netlink.ErrDumpInterrupted) && tries < 5; tries++ {
				ss, err = h.SocketDiagTCP(family)
			}
			if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
				return nil, fmt.Errorf("plane: listing the sockets of %v (sock_diag): %w", addr, err)
			}
			for _, s := range ss {
				local, ok1 := netip.AddrFromSlice(s.ID.Source)
				remote, ok2 := netip.AddrFromSlice(s.ID.Destination)
				local, remote = local.Unmap(), remote.Unmap()
				if ok1 && ok2 && local == addr && slices.Contains(peers[addr], remote) && isLive(s) {
					live = append(live, socket{netip.AddrPortFrom(local, s.ID.SourcePort), netip.AddrPortFrom(remote, s.ID.DestinationPort)})
				}
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
func provoke(raw int, s socket) error {
	src, dst := s.remote.Addr().As4(), s.local.Addr().As4()
	b := make([]byte, 40)
	b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	tcp := b[20:]
	binary.BigEndian.PutUint16(tcp, s.remote.Port())
	binary.BigEndian.PutUint16(tcp[2:], s.local.Port())
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
