package plane

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func ruleLatency(stream string, ms, jitter int, toxicity float64) cluster.Rule {
	return cluster.Rule{Toxic: &cluster.Toxic{
		Type: "latency", Stream: stream, Toxicity: toxicity, Seed: 1,
		Attributes: fmt.Appendf(nil, `{"latency": %d, "jitter": %d}`, ms, jitter),
	}}
}

// coredStar has the link from node 1 to node 2 in the core from the start.
func coredStar(t testing.TB, n int) *star {
	s := newStar(t, n)
	require.NoError(t, s.r.Intercept([]AddrLink{s.link(1, 2)}))
	return s
}

// toxicsOn is the number of toxics on what a client receives.
func (s *star) toxicsOn(c *net.TCPConn) int {
	s.r.core.mu.Lock()
	defer s.r.core.mu.Unlock()
	for cc := range s.r.core.conns {
		if cc.client.RemoteAddr().String() == c.LocalAddr().String() {
			cc.down.mu.Lock()
			defer cc.down.mu.Unlock()
			return len(cc.down.want)
		}
	}
	return -1
}

func (s *star) coreConns() int {
	s.r.core.mu.Lock()
	defer s.r.core.mu.Unlock()
	return len(s.r.core.conns)
}

func TestCoreKeepsConnectionsAsTheyAre(t *testing.T) {
	inPlane(t, func() {
		s := coredStar(t, 3)
		a, b := s.nodes[0], s.nodes[1]
		seen := make(chan net.Addr, 10)
		serve(t, b.listen(9000), func(c *net.TCPConn) {
			seen <- c.RemoteAddr()
			echo(c)
		})
		c := a.mustDial(b, 9000)
		require.Equal(t, c.LocalAddr().String(), (<-seen).String(), "the server sees the client's address and port")
		require.Equal(t, 1, s.coreConns())

		// Half closed, the answer still comes, whole.
		data := make([]byte, 32<<20)
		rnd := rand.New(rand.NewPCG(1, 2))
		for i := 0; i < len(data); i += 8 {
			binary.LittleEndian.PutUint64(data[i:], rnd.Uint64())
		}
		var sending sync.WaitGroup
		sending.Go(func() {
			_, err := io.Copy(c, bytes.NewReader(data))
			if err == nil {
				err = c.CloseWrite()
			}
			if err != nil {
				t.Errorf("sending: %v", err)
			}
		})
		got := sha256.New()
		_, err := io.Copy(got, c)
		require.NoError(t, err)
		sending.Wait()
		want := sha256.Sum256(data)
		require.Equal(t, want[:], got.Sum(nil))
		until(t, "the core has forgotten the connection", func() bool { return s.coreConns() == 0 })

		// A refused connection is accepted first, and then reset.
		c, err = a.dial(b.addr, 9001, patient)
		if err == nil {
			_, err = io.ReadAll(c)
		}
		require.ErrorIs(t, err, syscall.ECONNRESET)

		// The link back, and other links, do not go through the core.
		serve(t, a.listen(9000), echo)
		s.nodes[2].mustDial(b, 9000)
		b.mustDial(a, 9000)
		require.Zero(t, s.coreConns())
	})
}

func TestCorePassesResetsOn(t *testing.T) {
	inPlane(t, func() {
		s := coredStar(t, 2)
		a, b := s.nodes[0], s.nodes[1]
		conns := make(chan *net.TCPConn, 10)
		serve(t, b.listen(9000), func(c *net.TCPConn) { conns <- c })
		for _, latency := range []bool{false, true} {
			if latency {
				s.apply(ruleLatency("upstream", 5, 0, 1), s.link(1, 2))
				s.apply(ruleLatency("downstream", 5, 0, 1), s.link(1, 2))
			}
			client, server := a.mustDial(b, 9000), <-conns
			abort(client)
			_, err := server.Read(make([]byte, 1))
			require.ErrorIs(t, err, syscall.ECONNRESET)
			client, server = a.mustDial(b, 9000), <-conns
			abort(server)
			_, err = client.Read(make([]byte, 1))
			require.ErrorIs(t, err, syscall.ECONNRESET)
			until(t, "the core has forgotten the connections", func() bool { return s.coreConns() == 0 })
			for _, ends := range []func() (half, other *net.TCPConn){
				func() (half, other *net.TCPConn) { return a.mustDial(b, 9000), <-conns },
				func() (half, other *net.TCPConn) { other = a.mustDial(b, 9000); return <-conns, other },
			} { // by an end whose own stream has ended
				half, other := ends()
				require.NoError(t, half.CloseWrite())
				_, err := other.Read(make([]byte, 1))
				require.ErrorIs(t, err, io.EOF)
				abort(half)
				until(t, "the core has forgotten the connection", func() bool { return s.coreConns() == 0 })
				until(t, "the other end is reset", func() bool {
					_, err := other.Write([]byte("x"))
					return isReset(err)
				})
			}
		}
	})
}

// TestCoreIsNotHeldUp connects to a server that does not answer, and beside it to one that does.
func TestCoreIsNotHeldUp(t *testing.T) {
	inPlane(t, func() {
		s := coredStar(t, 3)
		a, b := s.nodes[0], s.nodes[1]
		require.NoError(t, s.r.Intercept([]AddrLink{s.link(1, 3)}))
		serve(t, b.listen(9000), echo)
		serve(t, s.nodes[2].listen(9000), echo)
		id := s.apply(ruleDrop, s.link(2, 1)) // its SYN-ACKs
		for range 50 {
			a.mustDial(b, 9000) // the core accepts
		}
		c := a.mustDial(s.nodes[2], 9000)
		_, err := roundTrip(c, patient)
		require.NoError(t, err)

		abandoned := a.mustDial(b, 9000)
		until(t, "the core has all connections", func() bool { return s.coreConns() == 52 })
		start := time.Now()
		abort(abandoned)
		until(t, "an attempt whose client was reset is given up", func() bool { return s.coreConns() < 52 })
		require.Less(t, time.Since(start), 10*time.Second, "not by the dial's deadline")

		n, err := s.r.Reset(context.Background(), []AddrLink{s.link(1, 2)})
		require.NoError(t, err)
		require.GreaterOrEqual(t, n, 50, "attempts are reset too: their clients have a connection")
		s.remove(id)
		c = a.mustDial(b, 9000)
		_, err = roundTrip(c, patient)
		require.NoError(t, err)

		// Removing a node ends the connections through the core.
		require.NoError(t, s.r.RemoveNode("node-2"))
		until(t, "the connection with the node has ended", func() bool {
			_, err := roundTrip(c, patient)
			return err != nil
		})
	})
}

// TestAResetCountsAConnectionThatIsMovedOnce has the port of a client be taken where the core would dial from it.
func TestAResetCountsAConnectionThatIsMovedOnce(t *testing.T) {
	inPlane(t, func() {
		s := coredStar(t, 2)
		a, b := s.nodes[0], s.nodes[1]
		seen := make(chan netip.AddrPort, 1)
		serve(t, b.listen(9000), func(c *net.TCPConn) {
			seen <- addrOf(c.RemoteAddr())
			echo(c)
		})
		from := netip.AddrPortFrom(a.addr, 40000)
		taken := net.ListenConfig{Control: control(transparent)}
		l, err := taken.Listen(t.Context(), "tcp4", from.String())
		require.NoError(t, err)
		defer l.Close()
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(from)}
		var c net.Conn
		a.in(func() { c, err = d.Dial("tcp4", netip.AddrPortFrom(b.addr, 9000).String()) })
		require.NoError(t, err)
		defer c.Close()
		_, err = roundTrip(c, patient) // the core is done with connecting it
		require.NoError(t, err)
		at := <-seen
		require.Equal(t, from.Addr(), at.Addr())
		require.NotEqual(t, from, at)
		n, err := s.r.Reset(t.Context(), []AddrLink{s.link(1, 2)})
		require.NoError(t, err)
		require.Equal(t, 1, n)
	})
}

// TestWhatAClientGaveUpNeverArrives has clients end their connections while the server's answers are lost, as those do whose time is
// up: on a link without the core they would not even be connected.
func TestWhatAClientGaveUpNeverArrives(t *testing.T) {
	inPlane(t, func() {
		s := coredStar(t, 2)
		a, b := s.nodes[0], s.nodes[1]
		var accepted atomic.Int64
		serve(t, b.listen(9000), func(c *net.TCPConn) {
			accepted.Add(1)
			echo(c)
		})
		ask := func() *net.TCPConn {
			c := a.mustDial(b, 9000)
			_, err := io.WriteString(c, "request")
			require.NoError(t, err)
			return c
		}
		id := s.apply(ruleDrop, s.link(2, 1))
		stays, early, late := ask(), ask(), ask()
		require.NoError(t, early.Close())
		until(t, "who has closed before the second SYN is forgotten", func() bool { return s.coreConns() == 2 })
		require.NoError(t, late.Close())
		until(t, "who has closed after it is forgotten", func() bool { return s.coreConns() == 1 })
		s.remove(id)
		require.NoError(t, stays.SetReadDeadline(time.Now().Add(10*time.Second)))
		got := make([]byte, len("request"))
		_, err := io.ReadFull(stays, got)
		require.NoError(t, err, "who has waited is served")
		require.EqualValues(t, 1, accepted.Load())

		// A handshake that is slow by a rule is another matter: who has ended its half of the stream gets its answer.
		id = s.apply(ruleDelay(1200*time.Millisecond), s.link(2, 1))
		half := ask()
		require.NoError(t, half.CloseWrite())
		require.NoError(t, half.SetReadDeadline(time.Now().Add(10*time.Second)))
		got, err = io.ReadAll(half)
		require.NoError(t, err)
		require.Equal(t, "request", string(got))
		s.remove(id)
	})
}

// TestAnAnswerThatADelayHeldIsNotLost has delays of the server's answers come and go while one is on its way.
func TestAnAnswerThatADelayHeldIsNotLost(t *testing.T) {
	x, y := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	there, back := AddrLink{From: x, To: y}, AddrLink{From: y, To: x}
	const moment = time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		c := &core{}
		cc := &coreConn{connInfo: connInfo{link: there, began: time.Now()}}
		lost := func(want bool, why string) {
			t.Helper()
			require.Equal(t, want, c.unanswered(cc), why)
		}
		lost(false, "it may come")
		time.Sleep(firstAnswer + moment)
		lost(true, "no rule holds it")
		c.setDelay(there, time.Minute)
		lost(true, "what goes to the server passes by the rules")
		c.setDelay(back, 10*time.Second)
		time.Sleep(5 * time.Second)
		lost(false, "it is held")
		c.setDelay(back, 8*time.Second)
		time.Sleep(firstAnswer + moment)
		lost(false, "it is held, not so long")
		c.setDelay(back, 0)
		lost(false, "it is let go")
		c.setDelay(back, 0)
		time.Sleep(firstAnswer - moment)
		lost(false, "it is on its way")
		time.Sleep(2 * moment)
		lost(true, "it would have come")
		c.setDelay(back, time.Second)
		lost(true, "a delay that came later held nothing of it")
	})
}

// TestAResetFindsWhatTheCoreHasNotTaken has a connection wait in the kernel, for a descriptor, when a reset begins.
func TestAResetFindsWhatTheCoreHasNotTaken(t *testing.T) {
	inPlane(t, func() {
		s := coredStar(t, 2)
		a, b := s.nodes[0], s.nodes[1]
		l := b.listen(9000)
		var fd int
		var err error
		a.in(func() { fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0) })
		require.NoError(t, err)
		defer unix.Close(fd)
		var limit unix.Rlimit
		require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Max: limit.Max}))
		require.NoError(t, unix.Connect(fd, &unix.SockaddrInet4{Addr: b.addr.As4(), Port: 9000}))
		_, err = unix.Write(fd, []byte("request"))
		require.NoError(t, err)
		require.Zero(t, s.coreConns())

		id, err := s.r.refuse(t.Context(), bothWays([]AddrLink{s.link(1, 2)}))
		require.NoError(t, err)
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
		serve(t, l, echo) // not before: without descriptors it would give up
		patience := unix.NsecToTimeval(patient.Nanoseconds())
		require.NoError(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience))
		_, err = unix.Read(fd, make([]byte, 1))
		require.ErrorIs(t, err, unix.ECONNRESET)
		require.NoError(t, s.r.release(t.Context(), id))
		_, err = roundTrip(a.mustDial(b, 9000), patient)
		require.NoError(t, err)
	})
}

func TestCoreGivesADialUp(t *testing.T) {
	inPlane(t, func() {
		s := newStarWith(t, 2, Config{DialTimeout: time.Second})
		require.NoError(t, s.r.Intercept([]AddrLink{s.link(1, 2)}))
		a, b := s.nodes[0], s.nodes[1]
		serve(t, b.listen(9000), echo)
		s.apply(ruleDrop, s.link(2, 1))
		start := time.Now()
		c := a.mustDial(b, 9000)
		require.NoError(t, c.SetReadDeadline(start.Add(10*time.Second)))
		_, err := c.Read(make([]byte, 1))
		require.ErrorIs(t, err, syscall.ECONNRESET)
		require.GreaterOrEqual(t, time.Since(start), time.Second)
	})
}

// TestALinkIsRegisteredWhileInUse shows that connections with the kernel live on, and that new ones go to the core.
func TestALinkIsRegisteredWhileInUse(t *testing.T) {
	inPlane(t, func() {
		s := newStar(t, 2)
		a, b := s.nodes[0], s.nodes[1]
		serve(t, b.listen(9000), echo)
		old := a.mustDial(b, 9000)
		id := s.apply(ruleLatency("downstream", 30, 0, 1), s.link(1, 2))
		require.Less(t, fastest(t, old), 30*time.Millisecond)
		c := a.mustDial(b, 9000)
		d, err := roundTrip(c, patient)
		require.NoError(t, err)
		require.GreaterOrEqual(t, d, 30*time.Millisecond)
		require.Equal(t, uint64(1), s.counter(id).Packets)
		require.Equal(t, uint64(1), s.counter(id).Bytes)
		s.remove(id)
		for _, c := range []*net.TCPConn{old, c} {
			_, err = roundTrip(c, patient)
			require.NoError(t, err)
		}
	})
}

func TestLatency(t *testing.T) {
	inPlane(t, func() {
		s := coredStar(t, 2)
		a, b := s.nodes[0], s.nodes[1]
		serve(t, b.listen(9000), echo)
		live := a.mustDial(b, 9000)
		takes := func(c *net.TCPConn) time.Duration {
			t.Helper()
			return fastest(t, c)
		}
		idle := takes(live)
		up := s.apply(ruleLatency("upstream", 20, 0, 1), s.link(1, 2))
		down := s.apply(ruleLatency("downstream", 30, 0, 1), s.link(1, 2))
		for _, c := range []*net.TCPConn{live, a.mustDial(b, 9000)} {
			d := takes(c)
			require.GreaterOrEqual(t, d, 50*time.Millisecond)
			require.Less(t, d, time.Second)
		}
		// The other layer on the same link.
		id := s.apply(ruleDelay(25*time.Millisecond), s.link(1, 2))
		d := takes(live)
		t.Logf("idle %v; latency 20 up and 30 down with a packet delay of 25 ms: %v", idle, d)
		require.GreaterOrEqual(t, d, 75*time.Millisecond)
		s.remove(id)
		dropped := s.apply(ruleDrop, s.link(1, 2))
		_, err := a.dial(b.addr, 9000, quick)
		timedOut(t, err)
		s.remove(dropped)

		s.remove(up)
		require.GreaterOrEqual(t, takes(live), 30*time.Millisecond)
		s.remove(down)
		require.Less(t, takes(live), 20*time.Millisecond)

		// Jitter stays within its bounds, and differs from chunk to chunk.
		id = s.apply(ruleLatency("downstream", 20, 10, 1), s.link(1, 2))
		least, most := time.Hour, time.Duration(0)
		for range 20 {
			d, err := roundTrip(live, patient)
			require.NoError(t, err)
			least, most = min(least, d), max(most, d)
		}
		require.GreaterOrEqual(t, least, 10*time.Millisecond)
		require.Greater(t, most-least, 2*time.Millisecond)
		s.remove(id)
	})
}

// TestToxicityIsDrawnPerConnection counts the slow ones among many, twice with one seed.
func TestToxicityIsDrawnPerConnection(t *testing.T) {
	inPlane(t, func() {
		var patterns [2][]bool
		for round := range patterns {
			s := coredStar(t, 2)
			a, b := s.nodes[0], s.nodes[1]
			serve(t, b.listen(9000), echo)
			s.apply(ruleLatency("downstream", 20, 0, 0.3), s.link(1, 2))
			slow := 0
			for range 60 {
				c := a.mustDial(b, 9000)
				d, err := roundTrip(c, patient)
				require.NoError(t, err)
				has := s.toxicsOn(c) == 1
				patterns[round] = append(patterns[round], has)
				if has {
					slow++
					require.GreaterOrEqual(t, d, 20*time.Millisecond)
				}
			}
			require.InDelta(t, 18, slow, 10)
			require.NoError(t, s.r.Close())
			for i := range s.nodes {
				s.unplug(i)
			}
		}
		require.Equal(t, patterns[0], patterns[1], "one seed, one pattern")
	})
}

// TestToxicsUnderTraffic adds and removes a toxic 1,000 times on connections that send without a pause, both ways.
func TestToxicsUnderTraffic(t *testing.T) {
	inPlane(t, func() {
		s := coredStar(t, 2)
		a, b := s.nodes[0], s.nodes[1]
		serve(t, b.listen(9000), echo)
		var stop atomic.Bool
		var running sync.WaitGroup
		var total, received atomic.Int64
		for range 2 {
			c := a.mustDial(b, 9000)
			// As much is under way as a quick peer would have: full buffers would measure the machine.
			window := make(chan struct{}, 32)
			running.Go(func() { // 8-byte numbers, in order
				buf, n := make([]byte, 4096), uint64(0)
				for !stop.Load() {
					for i := 0; i < len(buf); i += 8 {
						binary.LittleEndian.PutUint64(buf[i:], n)
						n++
					}
					window <- struct{}{}
					if _, err := c.Write(buf); err != nil {
						t.Errorf("writing: %v", err)
						return
					}
				}
				_ = c.CloseWrite()
				total.Add(int64(8 * n))
			})
			running.Go(func() {
				buf, n := make([]byte, 8), uint64(0)
				r := bufio.NewReaderSize(c, 1<<16)
				for {
					if _, err := io.ReadFull(r, buf); err != nil {
						if err != io.EOF {
							t.Errorf("reading: %v", err)
						}
						total.Add(-int64(8 * n))
						return
					}
					if got := binary.LittleEndian.Uint64(buf); got != n {
						t.Errorf("number %d came where %d was due", got, n)
						_ = c.Close()
						return
					}
					n++
					received.Add(8)
					if n%512 == 0 {
						<-window
					}
				}
			})
		}
		some := func() { // bytes pass between the changes
			before := received.Load()
			until(t, "traffic", func() bool { return received.Load() > before+4_000 })
		}
		const rounds = 500 // of two toxics each
		var took []time.Duration
		timed := func(f func()) {
			start := time.Now()
			f()
			took = append(took, time.Since(start))
		}
		for i := range rounds {
			var ids [2]cluster.RuleID
			for k, stream := range []string{"upstream", "downstream"} {
				timed(func() { ids[k] = s.apply(ruleLatency(stream, 1, i%2, 1), s.link(1, 2)) })
			}
			some()
			timed(func() { s.remove(ids[i%2]) })
			if i%3 == 0 {
				some()
			}
			timed(func() { s.remove(ids[1-i%2]) })
			if i%5 == 0 {
				some()
			}
		}
		slices.Sort(took)
		t.Logf("%d changes under traffic: p50 %v, p99 %v", len(took), took[len(took)/2], took[len(took)*99/100])
		stop.Store(true)
		done := make(chan struct{})
		go func() { running.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(30 * time.Second):
			require.Fail(t, "the connections hang")
		}
		require.Zero(t, total.Load(), "every byte came back")
	})
}

// unplug removes the interface of a node, so that another star can have its place.
func (s *star) unplug(i int) {
	l, err := netlink.LinkByName(fmt.Sprintf("v%d", i+1))
	require.NoError(s.t, err)
	require.NoError(s.t, netlink.LinkDel(l))
}

// TestManyShortConnections uses each of a few ports again and again, so that a use meets the last one in TIME_WAIT:
// of the client, of the core or of the server.
func TestManyShortConnections(t *testing.T) {
	inPlane(t, func() {
		s := coredStar(t, 2)
		a, b := s.nodes[0], s.nodes[1]
		a.in(func() {
			require.NoError(t, os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("40000 40049"), 0))
		})
		serve(t, b.listen(9000), func(c *net.TCPConn) {
			_, _ = c.Write([]byte("x"))
			c.Close()
		})
		kept, others := 0, 0
		for range 500 { // the server closes first: the client's port is free at once
			c := a.mustDial(b, 9000)
			got, err := io.ReadAll(c)
			require.NoError(t, err)
			require.Equal(t, "x", string(got))
			require.NoError(t, c.Close())
		}
		seen := make(chan netip.AddrPort, 1)
		serve(t, b.listen(9001), func(c *net.TCPConn) {
			seen <- addrOf(c.RemoteAddr())
			echo(c)
		})
		for range 40 { // the client closes first: its port lingers there
			c := a.mustDial(b, 9001)
			if addrOf(c.LocalAddr()) == <-seen {
				kept++
			} else {
				others++
			}
			require.NoError(t, c.CloseWrite())
			_, err := io.ReadAll(c)
			require.NoError(t, err)
			require.NoError(t, c.Close())
		}
		t.Logf("%d connections kept their port, %d did not", kept, others)
		require.Positive(t, kept)
	})
}
