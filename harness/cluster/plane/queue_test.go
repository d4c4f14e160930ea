package plane

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// stamped is a datagram that came, with what it says about its sending.
type stamped struct {
	n    uint64
	took time.Duration
}

// blast sends count datagrams, one each step, and returns those that came within wait after the last.
func blast(t testing.TB, from, to *testNode, count int, step, wait time.Duration) []stamped {
	p, q := to.udp(7000), from.udp(0)
	defer p.Close()
	defer q.Close()
	_ = p.SetReadBuffer(8 << 20)
	base := time.Now()
	got := make(chan []stamped, 1)
	go func() {
		var all []stamped
		buf := make([]byte, 64)
		for len(all) < count {
			n, _, err := p.ReadFromUDPAddrPort(buf)
			if err != nil || n != 16 {
				break
			}
			sent := time.Duration(binary.LittleEndian.Uint64(buf[8:]))
			all = append(all, stamped{binary.LittleEndian.Uint64(buf), time.Since(base) - sent})
		}
		got <- all
	}()
	buf := make([]byte, 16)
	for i := range count {
		// Sleeping would send in clumps of a millisecond.
		for due := base.Add(time.Duration(i) * step); time.Now().Before(due); {
			if left := time.Until(due); left > 2*time.Millisecond {
				time.Sleep(left - 2*time.Millisecond)
			}
		}
		binary.LittleEndian.PutUint64(buf, uint64(i))
		binary.LittleEndian.PutUint64(buf[8:], uint64(time.Since(base)))
		if _, err := q.WriteToUDPAddrPort(buf, netip.AddrPortFrom(to.addr, 7000)); err != nil {
			t.Errorf("sending: %v", err)
			break
		}
	}
	require.NoError(t, p.SetReadDeadline(time.Now().Add(wait)))
	return <-got
}

func quantiles(ss []stamped) (p50, p99, most time.Duration) {
	var ds []time.Duration
	for _, s := range ss {
		ds = append(ds, s.took)
	}
	slices.Sort(ds)
	return ds[len(ds)/2], ds[len(ds)*99/100], ds[len(ds)-1]
}

// TestDelayHoldsItsTime asks for delays and measures each packet: none early, none lost, none overtaken.
func TestDelayHoldsItsTime(t *testing.T) {
	inPlane(t, func() {
		s := newStar(t, 2)
		for _, asked := range []time.Duration{time.Millisecond, 5 * time.Millisecond, 50 * time.Millisecond, 500 * time.Millisecond} {
			id := s.apply(ruleDelay(asked), s.link(1, 2))
			const n = 500
			ss := blast(t, s.nodes[0], s.nodes[1], n, time.Millisecond/2, asked+3*time.Second)
			require.Len(t, ss, n, "none is lost")
			p50, p99, _ := quantiles(ss)
			t.Logf("asked %v: p50 +%v, p99 +%v", asked, p50-asked, p99-asked)
			for i, x := range ss {
				require.GreaterOrEqual(t, x.took, asked, "none is early")
				require.Equal(t, uint64(i), x.n, "none is overtaken")
			}
			require.Less(t, p50, asked+500*time.Millisecond)
			require.Equal(t, uint64(n), s.counter(id).Packets)
			s.remove(id)
		}
		require.Zero(t, s.r.queue.held.Load())
	})
}

// TestJitterReorders shows that jitter keeps its bounds, lets packets overtake, and is the same again with its seed.
func TestJitterReorders(t *testing.T) {
	inPlane(t, func() {
		s := newStar(t, 2)
		const n = 200
		d := cluster.Delay{Time: 20 * time.Millisecond, Jitter: 10 * time.Millisecond, Seed: 7}
		for range 2 {
			id := s.apply(cluster.Rule{Delay: &d}, s.link(1, 2))
			ss := blast(t, s.nodes[0], s.nodes[1], n, time.Millisecond, 3*time.Second)
			require.Len(t, ss, n)
			overtaken := 0
			for i, x := range ss {
				require.GreaterOrEqual(t, x.took, delayOf(d, streamOf(d.Seed, s.link(1, 2)), x.n), "packet %d", x.n)
				if i > 0 && x.n < ss[i-1].n {
					overtaken++
				}
			}
			require.Positive(t, overtaken)
			s.remove(id)
		}
	})
}

// TestRemovingADelayLetsPacketsGo holds packets for long and takes the rule away.
func TestRemovingADelayLetsPacketsGo(t *testing.T) {
	inPlane(t, func() {
		s := newStar(t, 2)
		p, q := s.nodes[1].udp(7000), s.nodes[0].udp(0)
		long := s.apply(ruleDelay(maxDelay), s.link(1, 2))
		short := s.apply(ruleDelay(100*time.Millisecond), s.link(1, 2))
		const n = 100
		send := func(from, to byte) {
			for i := from; i < to; i++ {
				_, err := q.WriteToUDPAddrPort([]byte{i}, netip.AddrPortFrom(s.nodes[1].addr, 7000))
				require.NoError(t, err)
			}
		}
		start := time.Now()
		send(0, n)
		until(t, "the queue has them", func() bool { return s.r.queue.held.Load() == n })
		s.remove(long)
		send(n, n+10)
		s2 := s.apply(ruleDelay(maxDelay), s.link(1, 2)) // does not act on what is held already
		require.NoError(t, p.SetReadDeadline(time.Now().Add(5*time.Second)))
		for i := range byte(n) {
			b := make([]byte, 1)
			_, err := io.ReadFull(connOf{p}, b)
			require.NoError(t, err)
			require.Equal(t, i, b[0], "in order")
		}
		require.GreaterOrEqual(t, time.Since(start), 100*time.Millisecond, "the other delay still held them")
		s.remove(short)
		s.remove(s2)
		for i := range byte(10) {
			b := make([]byte, 1)
			_, err := io.ReadFull(connOf{p}, b)
			require.NoError(t, err)
			require.Equal(t, n+i, b[0])
		}
		require.Zero(t, s.r.queue.held.Load())
		require.Equal(t, uint64(n+10), s.r.queue.received.Load())
	})
}

type connOf struct{ *net.UDPConn }

func (c connOf) Read(b []byte) (int, error) {
	n, _, err := c.ReadFromUDPAddrPort(b)
	return n, err
}

// TestDelaysComeAndGoUnderTraffic adds and removes delays 1,000 times on connections that send without a pause.
func TestDelaysComeAndGoUnderTraffic(t *testing.T) {
	inPlane(t, func() {
		s := newStar(t, 2)
		a, b := s.nodes[0], s.nodes[1]
		serve(t, b.listen(9000), echo)
		c := a.mustDial(b, 9000)
		var running sync.WaitGroup
		stop := make(chan struct{})
		var sent int64
		running.Go(func() {
			for buf := make([]byte, 64<<10); ; {
				select {
				case <-stop:
					_ = c.CloseWrite()
					return
				default:
				}
				n, err := c.Write(buf)
				if sent += int64(n); err != nil {
					t.Errorf("writing: %v", err)
					return
				}
			}
		})
		var got int64
		running.Go(func() {
			var err error
			if got, err = io.Copy(io.Discard, c); err != nil {
				t.Errorf("reading: %v", err)
			}
		})
		var took []time.Duration
		for i := range 1000 {
			start := time.Now()
			id := s.apply(ruleDelay(2*time.Millisecond), s.link(1, 2), s.link(2, 1))
			s.remove(id)
			took = append(took, time.Since(start)/2)
			if i%10 == 0 { // one that is there alone, and one that comes to it
				alone := s.apply(ruleDelay(2*time.Millisecond), s.link(1, 2))
				beside := s.apply(ruleDelay(time.Millisecond), s.link(1, 2), s.link(2, 1))
				for _, id := range []cluster.RuleID{alone, beside} {
					_, err := s.r.Counters(id)
					require.NoError(t, err, "nothing passes the queue by")
				}
				s.remove(alone)
				s.remove(beside)
			}
		}
		slices.Sort(took)
		t.Logf("a change under traffic: p50 %v, p99 %v", took[500], took[990])
		close(stop)
		running.Wait()
		require.Equal(t, sent, got)
	})
}

// TestAFullQueueIsNoDelay has a queue without room, whose thread comes late: what passed in time is told.
func TestAFullQueueIsNoDelay(t *testing.T) {
	inPlane(t, func() {
		s := newStar(t, 2)
		p, q := s.nodes[1].udp(7000), s.nodes[0].udp(0)
		id := s.apply(ruleDelay(maxDelay), s.link(1, 2))
		send := func(n int) {
			for range n {
				_, err := q.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(s.nodes[1].addr, 7000))
				require.NoError(t, err)
			}
		}
		const first, second = 50, 80 // together as many as the receiver has room for
		send(first)
		until(t, "the queue has them", func() bool { return s.r.queue.held.Load() == first })
		require.EqualValues(t, first, s.counter(id).Packets)

		full := &queue{ended: make(chan struct{})}
		full.delays.Store(&delays{of: s.r.queue.delays.Load().of, applied: make(chan struct{})})
		require.NoError(t, s.r.queue.close())
		s.r.queue, s.r.undo[0] = full, full.close
		var err error
		full.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		require.NoError(t, err)
		full.sock, err = openQueue()
		require.NoError(t, err)
		require.NoError(t, unix.SetsockoptInt(full.sock, unix.SOL_SOCKET, unix.SO_RCVBUF, 1))
		send(second)
		until(t, "all were sent", func() bool {
			counted, err := s.r.filter.counted(s.r.filter.rules[delay])
			require.NoError(t, err)
			return counted[string(key(s.link(1, 2)))].packets == first+second
		})
		full.done.Go(func() {
			defer close(full.ended)
			full.run()
		})
		require.NoError(t, p.SetReadDeadline(time.Now().Add(patient)))
		for range first + 1 { // those of the queue that was closed, and at least one that should have been held
			_, err := io.ReadFull(connOf{p}, make([]byte, 1))
			require.NoError(t, err)
		}
		_, err = s.r.Counters(id)
		require.ErrorContains(t, err, "not held back")
	})
}

// TestQueueCloseLetsPacketsGo ends the plane while it holds packets, and traffic goes on without it.
func TestQueueCloseLetsPacketsGo(t *testing.T) {
	inPlane(t, func() {
		s := newStar(t, 2)
		p, q := s.nodes[1].udp(7000), s.nodes[0].udp(0)
		s.apply(ruleDelay(maxDelay), s.link(1, 2))
		const n = 150 // as many as the receiver has room for
		for i := range n {
			_, err := q.WriteToUDPAddrPort(binary.LittleEndian.AppendUint16(nil, uint16(i)), netip.AddrPortFrom(s.nodes[1].addr, 7000))
			require.NoError(t, err)
		}
		until(t, "the queue has them", func() bool { return s.r.queue.held.Load() == n })
		require.NoError(t, s.r.queue.close())
		s.r.undo = s.r.undo[1:] // it is closed
		_, err := q.WriteToUDPAddrPort(binary.LittleEndian.AppendUint16(nil, n), netip.AddrPortFrom(s.nodes[1].addr, 7000))
		require.NoError(t, err)
		require.NoError(t, p.SetReadDeadline(time.Now().Add(5*time.Second)))
		for i := range n + 1 {
			b := make([]byte, 2)
			_, err := io.ReadFull(connOf{p}, b)
			require.NoError(t, err)
			require.Equal(t, uint16(i), binary.LittleEndian.Uint16(b))
		}
	})
}
