package plane

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/stretchr/testify/require"
)

var (
	ruleDrop   = cluster.Rule{Drop: true}
	ruleReject = cluster.Rule{Reject: true}
)

func ruleDelay(d time.Duration) cluster.Rule { return cluster.Rule{Delay: &cluster.Delay{Time: d}} }

// timedOut asserts that a connection attempt got no answer.
func timedOut(t *testing.T, err error, why ...any) {
	t.Helper()
	var ne net.Error
	require.ErrorAs(t, err, &ne, why...)
	require.True(t, ne.Timeout(), "%v", err)
}

// quick is for what is not to come; what is to come has time enough for a busy machine.
const quick = 300 * time.Millisecond
const patient = 5 * time.Second

func TestIdleLinks(t *testing.T) {
	inPlane(t, func() {
		s := newStar(t, 2)
		a, b := s.nodes[0], s.nodes[1]
		serve(t, b.listen(9000), echo)

		c := a.mustDial(b, 9000)
		require.Equal(t, a.addr, addrOf(c.LocalAddr()).Addr())
		_, err := c.Write([]byte("half"))
		require.NoError(t, err)
		require.NoError(t, c.CloseWrite())
		got, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Equal(t, "half", string(got), "a half-closed connection still carries the answer")

		_, err = a.dial(b.addr, 9001, patient)
		require.ErrorIs(t, err, syscall.ECONNREFUSED)

		p := b.udp(7000)
		q := a.udp(0)
		_, err = q.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(b.addr, 7000))
		require.NoError(t, err)
		buf := make([]byte, 10)
		require.NoError(t, p.SetReadDeadline(time.Now().Add(patient)))
		_, from, err := p.ReadFromUDPAddrPort(buf)
		require.NoError(t, err)
		require.Equal(t, a.addr, from.Addr())
	})
}

// TestNoWayRound looks for ways that are not from node to node.
func TestNoWayRound(t *testing.T) {
	inPlane(t, func() {
		s := newStar(t, 2)
		a, b := s.nodes[0], s.nodes[1]
		l, err := net.Listen("tcp", ":8474") // a listener of the plane, as careless as can be
		require.NoError(t, err)
		defer l.Close()
		_, err = a.dial(s.self, 8474, quick)
		require.Error(t, err, "a node reached a listener of the plane")
		_, err = a.dial(s.self, int(s.r.core.addr().Port()), quick)
		require.Error(t, err, "a node reached the link core's listener")
		for _, far := range []string{"192.0.2.1", "10.99.0.77"} {
			_, err = a.dial(netip.MustParseAddr(far), 80, quick)
			require.Error(t, err, far)
		}

		// The plane itself reaches nodes, whatever rules hold: they are keyed by the sender.
		serve(t, b.listen(9000), echo)
		id := s.apply(ruleDrop, s.link(1, 2), s.link(2, 1))
		c, err := net.DialTimeout("tcp4", netip.AddrPortFrom(b.addr, 9000).String(), time.Second)
		require.NoError(t, err)
		defer c.Close()
		_, err = roundTrip(c, patient)
		require.NoError(t, err)
		s.remove(id)

		// A node that was removed is no longer forwarded to.
		require.NoError(t, s.r.RemoveNode("node-2"))
		_, err = a.dial(b.addr, 9000, quick)
		require.Error(t, err)
		var unknown *cluster.UnknownNodeError
		require.ErrorAs(t, s.r.RemoveNode("node-2"), &unknown)
	})
}

func TestDrop(t *testing.T) {
	inPlane(t, func() {
		s := newStar(t, 3)
		a, b, c := s.nodes[0], s.nodes[1], s.nodes[2]
		serve(t, b.listen(9000), echo)
		live, other := a.mustDial(b, 9000), c.mustDial(b, 9000)

		id := s.apply(ruleDrop, s.link(1, 2))
		_, err := a.dial(b.addr, 9000, quick)
		timedOut(t, err, "a connection attempt into a black hole gets no answer")
		_, err = roundTrip(live, quick)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, "a live connection stalls")
		_, err = roundTrip(other, patient)
		require.NoError(t, err, "the rule is on one link only")
		n := s.counter(id)
		require.Positive(t, n.Packets)
		require.GreaterOrEqual(t, n.Bytes, 40*n.Packets)

		// The other way only the answer is lost.
		s.remove(id)
		id = s.apply(ruleDrop, s.link(2, 1))
		_, err = a.dial(b.addr, 9000, quick)
		timedOut(t, err)
		s.remove(id)

		require.NoError(t, live.SetReadDeadline(time.Now().Add(5*time.Second)))
		_, err = io.ReadFull(live, make([]byte, 1))
		require.NoError(t, err, "the byte that was written into the black hole arrives after it is gone")
		a.mustDial(b, 9000)
		left, err := s.r.Audit()
		require.NoError(t, err)
		require.Empty(t, left)
	})
}

func TestReject(t *testing.T) {
	inPlane(t, func() {
		s := newStar(t, 2)
		a, b := s.nodes[0], s.nodes[1]
		serve(t, b.listen(9000), echo)
		live := a.mustDial(b, 9000)
		id := s.apply(ruleReject, s.link(1, 2))
		_, err := a.dial(b.addr, 9000, patient)
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		_, err = roundTrip(live, patient)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		// A datagram is answered too, and not only the first in a second.
		for range 3 {
			var u net.Conn
			a.in(func() { u, err = net.Dial("udp4", netip.AddrPortFrom(b.addr, 7000).String()) })
			require.NoError(t, err)
			_, err = roundTrip(u, patient)
			require.ErrorIs(t, err, syscall.ECONNREFUSED)
			u.Close()
		}
		require.Positive(t, s.counter(id).Packets)
		s.remove(id)
		a.mustDial(b, 9000)
	})
}

// TestPacketRulesCompose puts several rules on one link and takes them off in another order.
func TestPacketRulesCompose(t *testing.T) {
	inPlane(t, func() {
		s := newStar(t, 2)
		a, b := s.nodes[0], s.nodes[1]
		serve(t, b.listen(9000), echo)
		there := s.link(1, 2)
		conn := a.mustDial(b, 9000)
		takes := func() time.Duration { return fastest(t, conn) }
		d1, d2 := s.apply(ruleDelay(30*time.Millisecond), there), s.apply(ruleDelay(20*time.Millisecond), there)
		require.GreaterOrEqual(t, takes(), 50*time.Millisecond, "delays add up")
		s.remove(d1)
		d := takes()
		require.GreaterOrEqual(t, d, 20*time.Millisecond)
		require.Less(t, d, 50*time.Millisecond, "the one that was removed acts no more")

		rej := s.apply(ruleReject, there)
		drop1, drop2 := s.apply(ruleDrop, there), s.apply(ruleDrop, there)
		_, err := a.dial(b.addr, 9000, quick)
		timedOut(t, err, "drop wins over reject")
		require.Positive(t, s.counter(drop1).Packets)
		require.Zero(t, s.counter(rej).Packets, "reject has acted on nothing")
		s.remove(drop1)
		before := s.counter(drop2).Packets
		_, err = a.dial(b.addr, 9000, quick)
		timedOut(t, err, "the second drop still holds")
		require.Greater(t, s.counter(drop2).Packets, before, "and its counter goes on")
		s.remove(drop2)
		_, err = a.dial(b.addr, 9000, patient)
		require.ErrorIs(t, err, syscall.ECONNREFUSED, "reject wins over delay")
		s.remove(rej)

		conn = a.mustDial(b, 9000)
		require.GreaterOrEqual(t, takes(), 20*time.Millisecond, "the delay has come back")
		s.remove(d2)
		require.Less(t, takes(), 20*time.Millisecond)

		late := s.apply(ruleDrop, there)
		require.Zero(t, s.counter(late).Packets, "a rule counts from its own beginning")
		s.remove(late)
		require.Error(t, s.r.Remove(late), "a rule can be removed once")
	})
}

// TestApplyIsAtomic partitions two halves and compares the counters of the links: none acted on before the others.
func TestApplyIsAtomic(t *testing.T) {
	inPlane(t, func() {
		s := newStar(t, 4)
		var links []AddrLink
		for _, i := range []int{1, 2} {
			for _, j := range []int{3, 4} {
				links = append(links, s.link(i, j), s.link(j, i))
			}
		}
		bad := append(links[:len(links):len(links)], AddrLink{s.self, s.nodes[0].addr})
		_, err := s.r.Apply(bad, ruleDrop)
		require.Error(t, err)
		left, err := s.r.Audit()
		require.NoError(t, err)
		require.Empty(t, left, "a rule that cannot be applied to one link is on none")

		id := s.apply(ruleDrop, append(links, links...)...)
		cs, err := s.r.Counters(id)
		require.NoError(t, err)
		require.Len(t, cs, len(links), "a link that is named twice is one link")
		left, err = s.r.Audit()
		require.NoError(t, err)
		require.Len(t, left, 3, "the rule, and the links in the filter's sets for traffic and for probes")
		s.remove(id)
	})
}

// TestManyLinks applies a rule to more links than one transaction holds.
func TestManyLinks(t *testing.T) {
	inPlane(t, func() {
		s := newStar(t, 0)
		var links []AddrLink
		const nodes = 72
		for i := range nodes {
			addr := netip.AddrFrom4([4]byte{10, 99, 1, byte(i)})
			require.NoError(t, s.r.AddNode(Node{Name: addr.String(), Addr: addr}))
			for j := range nodes {
				if i != j {
					links = append(links, AddrLink{addr, netip.AddrFrom4([4]byte{10, 99, 1, byte(j)})})
				}
			}
		}
		require.Greater(t, len(links), maxBatch)
		id := s.apply(ruleDrop, links...)
		cs, err := s.r.Counters(id)
		require.NoError(t, err)
		require.Len(t, cs, len(links))
		held, err := s.r.filter.counted(s.r.filter.rules[drop])
		require.NoError(t, err)
		require.Len(t, held, len(links))
		s.remove(id)
		held, err = s.r.filter.counted(s.r.filter.rules[drop])
		require.NoError(t, err)
		require.Empty(t, held)
	})
}

func TestBadRules(t *testing.T) {
	inPlane(t, func() {
		s := newStar(t, 2)
		there := []AddrLink{s.link(1, 2)}
		for _, c := range []struct {
			links []AddrLink
			rule  cluster.Rule
		}{
			{there, cluster.Rule{}},
			{nil, ruleDrop},
			{[]AddrLink{{s.nodes[0].addr, s.nodes[0].addr}}, ruleDrop},
			{[]AddrLink{{}}, ruleDrop},
			{there, ruleDelay(-1)},
			{there, cluster.Rule{Toxic: &cluster.Toxic{Type: "nonsense", Stream: "upstream", Toxicity: 1}}},
			{there, cluster.Rule{Toxic: &cluster.Toxic{Type: "latency", Stream: "sideways", Toxicity: 1}}},
			{there, cluster.Rule{Toxic: &cluster.Toxic{Type: "latency", Stream: "upstream", Toxicity: 0}}},
			{there, cluster.Rule{Toxic: &cluster.Toxic{Type: "latency", Stream: "upstream", Toxicity: 1, Attributes: []byte(`{"latncy":1}`)}}},
			{there, cluster.Rule{Toxic: &cluster.Toxic{Type: "latency", Stream: "upstream", Toxicity: 1, Attributes: []byte(`{"latency":-1}`)}}},
		} {
			_, err := s.r.Apply(c.links, c.rule)
			require.Error(t, err, "%+v", c)
		}
		left, err := s.r.Audit()
		require.NoError(t, err)
		require.Empty(t, left)
		require.Error(t, s.r.AddNode(Node{Name: "node-1", Addr: netip.MustParseAddr("10.99.3.3")}))
		require.Error(t, s.r.AddNode(Node{Name: "x", Addr: s.nodes[0].addr}))
		require.Error(t, s.r.AddNode(Node{Name: "x", Addr: netip.MustParseAddr("::1")}))
	})
}

// TestReset ends 200 idle connections and 20 busy ones at both ends, with a delay and a drop rule beside it.
func TestReset(t *testing.T) {
	inPlane(t, func() {
		s := newStar(t, 3)
		a, b := s.nodes[0], s.nodes[1]
		var l6 net.Listener // listens on both families: its sockets are IPv6 ones
		var err error
		b.in(func() { l6, err = net.Listen("tcp", ":9001") })
		require.NoError(t, err)
		testReset(t, s, a, b, b.listen(9000), l6.(*net.TCPListener))
	})
}

// TestResetThroughTheCore does the same where connections go through the link core.
func TestResetThroughTheCore(t *testing.T) {
	inPlane(t, func() {
		s := newStar(t, 3)
		require.NoError(t, s.r.Intercept([]AddrLink{s.link(1, 2)}))
		testReset(t, s, s.nodes[0], s.nodes[1], s.nodes[1].listen(9000))
		until(t, "the core has forgotten its connections", func() bool {
			s.r.core.mu.Lock()
			defer s.r.core.mu.Unlock()
			return len(s.r.core.conns) <= 1 // the one after the reset
		})
	})
}

func testReset(t *testing.T, s *star, a, b *testNode, ls ...*net.TCPListener) {
	const idle, busy = 200, 20
	var mu sync.Mutex
	ends := map[*net.TCPConn]error{}
	var reading sync.WaitGroup
	ended := func(c *net.TCPConn, err error) { // a reset is told once, to the reader or to the writer
		mu.Lock()
		defer mu.Unlock()
		if ends[c] == nil {
			ends[c] = err
		}
	}
	watch := func(c *net.TCPConn) {
		_, err := io.Copy(io.Discard, c)
		ended(c, err)
	}
	accepted := make(chan struct{}, 1000)
	for _, l := range ls {
		serve(t, l, func(c *net.TCPConn) {
			accepted <- struct{}{}
			reading.Add(1)
			defer reading.Done()
			watch(c)
		})
	}
	bystander := s.nodes[2].mustDial(b, 9000)
	for i := range idle + busy {
		c := a.mustDial(b, ls[i%len(ls)].Addr().(*net.TCPAddr).Port)
		reading.Go(func() { watch(c) })
		if i >= idle {
			reading.Go(func() {
				for b := make([]byte, 1000); ; {
					if _, err := c.Write(b); err != nil {
						if !errors.Is(err, syscall.EPIPE) {
							ended(c, err)
						}
						return
					}
				}
			})
		}
	}
	for range idle + busy + 1 {
		<-accepted
	}
	id := s.apply(ruleDelay(5*time.Millisecond), s.link(1, 2))
	start := time.Now()
	n, err := s.r.Reset(context.Background(), []AddrLink{s.link(1, 2)})
	t.Logf("reset of %d connections: %v", n, time.Since(start))
	require.NoError(t, err)
	require.Equal(t, idle+busy, n)
	s.remove(id)

	_, err = bystander.Write([]byte("x"))
	require.NoError(t, err)
	require.NoError(t, bystander.CloseWrite())
	reading.Wait()
	mu.Lock()
	require.Len(t, ends, 2*(idle+busy)+1)
	reset := 0
	for _, err := range ends {
		if err != nil {
			require.ErrorIs(t, err, syscall.ECONNRESET)
			reset++
		}
	}
	mu.Unlock()
	require.Equal(t, 2*(idle+busy), reset, "both ends of each, and nobody else's")

	n, err = s.r.Reset(context.Background(), []AddrLink{s.link(1, 2)})
	require.NoError(t, err)
	require.Zero(t, n)
	a.mustDial(b, 9000)
	left, err := s.r.Audit()
	require.NoError(t, err)
	require.Empty(t, left)
}
