package plane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/stretchr/testify/require"
)

func toxic(kind, stream, attributes string) cluster.Rule {
	return cluster.Rule{Toxic: &cluster.Toxic{Type: kind, Stream: stream, Toxicity: 1, Seed: 1, Attributes: []byte(attributes)}}
}

func TestAttributesThatMakeNoSense(t *testing.T) {
	for _, c := range []struct{ kind, attributes, says string }{
		{"latency", `{"latency": -1}`, "must be between"},
		{"latency", `{"latency": 5, "jitter": 6}`, "above the latency"},
		{"latency", `{"delay": 5}`, "unknown field"},
		{"bandwidth", `{}`, "use timeout"},
		{"bandwidth", `{"rate": 0}`, "use timeout"},
		{"bandwidth", `{"rate": 1e12}`, ""},
		{"slow_close", `{"delay": -1}`, "delay -1 must be between 0"},
		{"timeout", `{"timeout": -1}`, "timeout -1 must be between 0"},
		{"timeout", `{"timeout": 99999999}`, "between"},
		{"reset_peer", `{"timeout": -1}`, "timeout -1"},
		{"slicer", `{}`, "average_size 0"},
		{"slicer", `{"average_size": 10, "size_variation": 10}`, "below the average_size of 10"},
		{"slicer", `{"average_size": 10, "delay": -1}`, "delay -1"},
		{"limit_data", `{"bytes": -1}`, "bytes -1"},
		{"no-such", `{}`, "is none of bandwidth, latency, limit_data, reset_peer, slicer, slow_close, timeout"},
	} {
		_, err := newToxicLinks(*toxic(c.kind, "upstream", c.attributes).Toxic, nil)
		require.ErrorContains(t, err, c.says, "%s %s", c.kind, c.attributes)
	}
	for _, toxicity := range []float64{0, -1, 1.1} {
		_, err := newToxicLinks(cluster.Toxic{Type: "latency", Stream: "upstream", Toxicity: toxicity}, nil)
		require.ErrorContains(t, err, "toxicity")
	}
	_, err := newToxicLinks(cluster.Toxic{Type: "latency", Stream: "both", Toxicity: 1}, nil)
	require.ErrorContains(t, err, "neither upstream nor downstream")
}

func TestPiecesAreOfTheSizesAskedForAndDrawnFromTheSeed(t *testing.T) {
	sizes := func(seed uint64) []int {
		s := ours("slicer", `{"average_size": 100, "size_variation": 50}`)(&strike{seed: seed}).(*slicer)
		return append(s.cut(nil, 32<<10), s.cut(nil, 151)...)
	}
	got := sizes(1)
	sum := 0
	for _, n := range got {
		require.Positive(t, n)
		require.LessOrEqual(t, n, 150)
		sum += n
	}
	require.Equal(t, 32<<10+151, sum)
	require.Equal(t, got, sizes(1))
	require.NotEqual(t, got, sizes(2))
}

// halfClosed is a connection of which only the server's stream goes on: it sends until the connection ends.
func (s *star) halfClosed(port int) (c *net.TCPConn, gone <-chan error) {
	ended := make(chan error, 1)
	half := make(chan struct{})
	serve(s.t, s.nodes[1].listen(port), func(c *net.TCPConn) {
		_, _ = io.Copy(io.Discard, c)
		close(half)
		for b := make([]byte, 100); ; {
			if _, err := c.Write(b); err != nil {
				ended <- err
				return
			}
		}
	})
	c = s.nodes[0].mustDial(s.nodes[1], port)
	require.NoError(s.t, c.CloseWrite())
	<-half
	return c, ended
}

// sink counts what a server gets and when its stream ends.
type sink struct {
	mu    sync.Mutex
	got   []byte
	reads int
	end   error
	at    time.Time
}

func (k *sink) serve(c *net.TCPConn) {
	b := make([]byte, 64<<10)
	for {
		n, err := c.Read(b)
		k.mu.Lock()
		k.got = append(k.got, b[:n]...)
		k.reads++
		if err != nil {
			k.end, k.at = err, time.Now()
			k.mu.Unlock()
			return
		}
		k.mu.Unlock()
	}
}

func (k *sink) ended() error { k.mu.Lock(); defer k.mu.Unlock(); return k.end }
func (k *sink) length() int  { k.mu.Lock(); defer k.mu.Unlock(); return len(k.got) }

// toSink connects to a server that only listens.
func (s *star) toSink(port int) (*net.TCPConn, *sink) {
	k := &sink{}
	serve(s.t, s.nodes[1].listen(port), k.serve)
	return s.nodes[0].mustDial(s.nodes[1], port), k
}

func TestBandwidth(t *testing.T) {
	inPlane(t, func() {
		s := coredStar(t, 2)
		serve(t, s.nodes[1].listen(9000), echo)
		data := bytes.Repeat([]byte("x"), 100_000)
		takes := func(c *net.TCPConn) time.Duration {
			start := time.Now()
			go func() { _, _ = c.Write(data) }()
			require.NoError(t, c.SetReadDeadline(start.Add(patient)))
			_, err := io.ReadFull(c, make([]byte, len(data)))
			require.NoError(t, err)
			return time.Since(start)
		}
		live := s.nodes[0].mustDial(s.nodes[1], 9000)
		require.Less(t, takes(live), 150*time.Millisecond)
		for _, stream := range []string{"upstream", "downstream"} {
			id := s.apply(toxic("bandwidth", stream, `{"rate": 500}`), s.link(1, 2))
			for _, c := range []*net.TCPConn{live, s.nodes[0].mustDial(s.nodes[1], 9000)} {
				d := takes(c)
				require.GreaterOrEqual(t, d, 199*time.Millisecond, stream)
				require.Less(t, d, 400*time.Millisecond, stream)
			}
			require.GreaterOrEqual(t, s.counter(id).Bytes, uint64(200_000))
			s.remove(id)
			require.Less(t, takes(live), 150*time.Millisecond, "healed")
		}
		// A second toxic that comes and goes does not let what is held go early.
		id := s.apply(toxic("bandwidth", "downstream", `{"rate": 100}`), s.link(1, 2))
		start := time.Now()
		go func() { _, _ = live.Write(data[:30_000]) }()
		var stop atomic.Bool
		var changing sync.WaitGroup
		changing.Go(func() {
			for !stop.Load() {
				s.remove(s.apply(toxic("slicer", "downstream", `{"average_size": 5000}`), s.link(1, 2)))
			}
		})
		_, err := io.ReadFull(live, make([]byte, 30_000))
		stop.Store(true)
		changing.Wait()
		require.NoError(t, err)
		require.GreaterOrEqual(t, time.Since(start), 299*time.Millisecond)
		s.remove(id)
	})
}

func TestSlowClose(t *testing.T) {
	inPlane(t, func() {
		s := coredStar(t, 2)
		a, b := s.nodes[0], s.nodes[1]
		serve(t, b.listen(9000), echo)
		closes := func(c *net.TCPConn) time.Duration { // from our end of stream to the server's
			start := time.Now()
			require.NoError(t, c.SetDeadline(start.Add(patient)))
			_, err := c.Write([]byte("last words"))
			require.NoError(t, err)
			require.NoError(t, c.CloseWrite())
			got, err := io.ReadAll(c)
			require.NoError(t, err)
			require.Equal(t, "last words", string(got), "an answer after the half-close")
			return time.Since(start)
		}
		live := a.mustDial(b, 9000)
		require.Less(t, closes(a.mustDial(b, 9000)), 100*time.Millisecond)
		up := s.apply(toxic("slow_close", "upstream", `{"delay": 100}`), s.link(1, 2))
		down := s.apply(toxic("slow_close", "downstream", `{"delay": 150}`), s.link(1, 2))
		for _, c := range []*net.TCPConn{live, a.mustDial(b, 9000)} {
			d := closes(c)
			require.GreaterOrEqual(t, d, 250*time.Millisecond)
			require.Less(t, d, time.Second)
		}
		require.Equal(t, uint64(2), s.counter(up).Packets)
		s.remove(up)
		s.remove(down)
		require.Less(t, closes(a.mustDial(b, 9000)), 100*time.Millisecond)
		// One of no time at all, as toxiproxy takes it, acts and is not felt.
		none := s.apply(toxic("slow_close", "upstream", `{}`), s.link(1, 2))
		require.Less(t, closes(a.mustDial(b, 9000)), 100*time.Millisecond)
		require.Equal(t, uint64(1), s.counter(none).Packets)
		s.remove(none)
		// The end that is held goes on when the toxic is taken off.
		id := s.apply(toxic("slow_close", "upstream", `{"delay": 60000}`), s.link(1, 2))
		c, k := s.toSink(9001)
		require.NoError(t, c.CloseWrite())
		until(t, "the end is held", func() bool { return s.counter(id).Packets == 1 })
		require.NoError(t, k.ended())
		s.remove(id)
		until(t, "the end", func() bool { return errors.Is(k.ended(), io.EOF) })
	})
}

func TestTimeout(t *testing.T) {
	inPlane(t, func() {
		s := coredStar(t, 2)
		a, b := s.nodes[0], s.nodes[1]
		serve(t, b.listen(9000), echo)
		ends := func(c *net.TCPConn) (time.Duration, error) {
			start := time.Now()
			require.NoError(t, c.SetDeadline(start.Add(patient)))
			_, err := c.Read(make([]byte, 1))
			return time.Since(start), err
		}
		for _, stream := range []string{"upstream", "downstream"} {
			live := a.mustDial(b, 9000)
			_, err := roundTrip(live, patient)
			require.NoError(t, err)
			id := s.apply(toxic("timeout", stream, `{"timeout": 150}`), s.link(1, 2))
			struck := []*net.TCPConn{live, a.mustDial(b, 9000)}
			for _, c := range struck {
				_, err := c.Write([]byte("lost"))
				require.NoError(t, err)
			}
			for _, c := range struck {
				_, err = ends(c)
				require.ErrorIs(t, err, io.EOF, "closed, not reset")
			}
			require.GreaterOrEqual(t, s.counter(id).Packets, uint64(4), "two chunks and two connections")
			s.remove(id)
		}
		// With 0 it holds on, and healing closes, also a connection whose peer does not read.
		id := s.apply(toxic("timeout", "downstream", `{"timeout": 0}`), s.link(1, 2))
		c := a.mustDial(b, 9000)
		_, err := roundTrip(c, 200*time.Millisecond)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		s.remove(id)
		_, err = ends(c)
		require.ErrorIs(t, err, io.EOF)

		stuck := a.mustDial(b, 9000)
		for err = nil; err == nil; { // the echo is not read
			require.NoError(t, stuck.SetWriteDeadline(time.Now().Add(200*time.Millisecond)))
			_, err = stuck.Write(make([]byte, 1<<20))
		}
		id = s.apply(toxic("timeout", "downstream", `{"timeout": 0}`), s.link(1, 2))
		start := time.Now()
		s.remove(id)
		until(t, "the connection has gone", func() bool { return s.coreConns() == 0 })
		require.Less(t, time.Since(start), 5*time.Second)
		c = a.mustDial(b, 9000)
		_, err = roundTrip(c, patient)
		require.NoError(t, err)

		// A half-close goes through while nothing was lost, and closes both when something was.
		id = s.apply(toxic("timeout", "upstream", `{"timeout": 0}`), s.link(1, 2))
		require.NoError(t, c.CloseWrite())
		_, err = ends(c)
		require.ErrorIs(t, err, io.EOF, "the server's own end")
		s.remove(id)

		// One takes another's place on a connection that lives on; the last one closes it.
		live := a.mustDial(b, 9000)
		first := s.apply(toxic("timeout", "upstream", `{"timeout": 60000}`), s.link(1, 2))
		_, err = live.Write([]byte("lost"))
		require.NoError(t, err)
		until(t, "it is lost", func() bool { return s.counter(first).Packets == 1 })
		second := s.apply(toxic("timeout", "upstream", `{"timeout": 60000}`), s.link(1, 2))
		s.remove(first)
		_, err = live.Write([]byte("lost too"))
		require.NoError(t, err)
		until(t, "it is lost too", func() bool { return s.counter(second).Packets == 1 })
		s.remove(second)
		_, err = ends(live)
		require.ErrorIs(t, err, io.EOF)

		// It closes a connection whose stream has ended by then.
		c, gone := s.halfClosed(9100)
		id = s.apply(toxic("timeout", "upstream", `{"timeout": 50}`), s.link(1, 2))
		require.NoError(t, c.SetReadDeadline(time.Now().Add(patient)))
		_, err = io.Copy(io.Discard, c)
		require.NoError(t, err, "closed, not reset")
		require.NoError(t, c.Close())
		require.True(t, isReset(<-gone))
		require.Equal(t, uint64(1), s.counter(id).Packets)
		s.remove(id)
	})
}

func TestATimeoutThatAnotherReplacesClosesNothing(t *testing.T) {
	closed := 0
	var due []func()
	p := &pipe{ends: ends{close: func() { closed++ }, after: func(_ time.Duration, f func()) { due = append(due, f) }}}
	for range 2 {
		p.want = append(p.want, testStage(p, "timeout", ours("timeout", `{"timeout": 100}`)))
	}
	first, second := p.want[0].wrapper.Toxic.(healer), p.want[1].wrapper.Toxic.(healer)
	require.False(t, first.heal(), "it is to be taken off")
	p.want = p.want[1:]
	due[0]()
	require.Zero(t, closed)
	require.True(t, second.heal())
	due[1]()
	require.Equal(t, 1, closed)
}

func TestResetPeer(t *testing.T) {
	inPlane(t, func() {
		s := coredStar(t, 2)
		a, b := s.nodes[0], s.nodes[1]
		serve(t, b.listen(9000), echo)
		reset := func(c *net.TCPConn) time.Duration {
			t.Helper()
			start := time.Now()
			require.NoError(t, c.SetDeadline(start.Add(patient)))
			_, err := c.Read(make([]byte, 1))
			require.ErrorIs(t, err, syscall.ECONNRESET)
			return time.Since(start)
		}
		for _, stream := range []string{"upstream", "downstream"} {
			live, k := s.toSink(9001 + len(stream))
			_, err := live.Write([]byte("x"))
			require.NoError(t, err)
			until(t, "it is live", func() bool { return k.length() == 1 })
			id := s.apply(toxic("reset_peer", stream, `{"timeout": 0}`), s.link(1, 2))
			reset(live)
			until(t, "the server's end too", func() bool { return errors.Is(k.ended(), syscall.ECONNRESET) })
			c, err := a.dial(b.addr, 9000, patient)
			if err == nil {
				reset(c)
			} else {
				require.ErrorIs(t, err, syscall.ECONNRESET)
			}
			require.Equal(t, uint64(2), s.counter(id).Packets)
			s.remove(id)
		}
		// It ends a connection whose stream has ended before it came.
		c, gone := s.halfClosed(9100)
		id := s.apply(toxic("reset_peer", "upstream", `{"timeout": 0}`), s.link(1, 2))
		require.NoError(t, c.SetReadDeadline(time.Now().Add(patient)))
		_, err := io.Copy(io.Discard, c)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		require.True(t, isReset(<-gone))
		require.Equal(t, uint64(1), s.counter(id).Packets)
		s.remove(id)
		// In time it is taken off, and nothing is lost.
		c = a.mustDial(b, 9000)
		id = s.apply(toxic("reset_peer", "upstream", `{"timeout": 60000}`), s.link(1, 2))
		_, err = c.Write([]byte("*"))
		require.NoError(t, err)
		require.NoError(t, c.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
		_, err = c.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		s.remove(id)
		require.NoError(t, c.SetReadDeadline(time.Now().Add(patient)))
		_, err = io.ReadFull(c, make([]byte, 1))
		require.NoError(t, err)
		// Taken off in time it does not strike later either.
		s.remove(s.apply(toxic("reset_peer", "upstream", `{"timeout": 50}`), s.link(1, 2)))
		require.NoError(t, c.SetReadDeadline(time.Now().Add(150*time.Millisecond)))
		_, err = c.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	})
}

func TestLimitData(t *testing.T) {
	inPlane(t, func() {
		s := coredStar(t, 2)
		a, b := s.nodes[0], s.nodes[1]
		serve(t, b.listen(9000), echo)
		data := []byte(strings.Repeat("0123456789", 30_000))
		live := a.mustDial(b, 9000)
		_, err := roundTrip(live, patient)
		require.NoError(t, err)
		id := s.apply(toxic("limit_data", "downstream", `{"bytes": 123457}`), s.link(1, 2))
		slow := s.apply(toxic("latency", "downstream", `{"latency": 20}`), s.link(1, 2)) // what was let pass is still held
		for _, c := range []*net.TCPConn{live, a.mustDial(b, 9000)} {
			go func() { _, _ = c.Write(data) }()
			require.NoError(t, c.SetReadDeadline(time.Now().Add(patient)))
			got, err := io.ReadAll(c)
			require.NoError(t, err, "closed, not reset")
			require.True(t, bytes.Equal(data[:123457], got), "%d bytes", len(got))
		}
		require.Equal(t, uint64(2), s.counter(id).Packets)
		s.remove(slow)
		s.remove(id)
		c := a.mustDial(b, 9000)
		go func() { _, _ = c.Write(data); _ = c.CloseWrite() }()
		got, err := io.ReadAll(c)
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got), "healed")
		// What is below the limit is left alone.
		id = s.apply(toxic("limit_data", "upstream", `{"bytes": 2}`), s.link(1, 2))
		c = a.mustDial(b, 9000)
		_, err = roundTrip(c, patient)
		require.NoError(t, err)
		require.Zero(t, s.counter(id).Packets)
		s.remove(id)
		for range 5 {
			_, err = roundTrip(c, patient)
			require.NoError(t, err)
		}
	})
}

func TestSlicer(t *testing.T) {
	inPlane(t, func() {
		s := coredStar(t, 2)
		c, k := s.toSink(9000)
		id := s.apply(toxic("slicer", "upstream", `{"average_size": 100, "size_variation": 50, "delay": 1000}`), s.link(1, 2))
		data := []byte(strings.Repeat("abcdefghij", 1000))
		start := time.Now()
		_, err := c.Write(data)
		require.NoError(t, err)
		until(t, "all of it", func() bool { return k.length() == len(data) })
		require.Equal(t, data, k.got)
		require.GreaterOrEqual(t, k.reads, 40, "in pieces")
		require.GreaterOrEqual(t, time.Since(start), 60*time.Millisecond, "with a pause after each")
		require.Equal(t, uint64(10_000), s.counter(id).Bytes)
		s.remove(id)
		k.mu.Lock()
		k.got, k.reads = nil, 0
		k.mu.Unlock()
		_, err = c.Write(data)
		require.NoError(t, err)
		until(t, "all of it", func() bool { return k.length() == len(data) })
		require.Less(t, k.reads, 10, "healed")
	})
}

// TestWhatLatencyHoldsIsNotLetGoAtOnce takes latency off while it holds a stream of marks 20 ms apart.
func TestWhatLatencyHoldsIsNotLetGoAtOnce(t *testing.T) {
	inPlane(t, func() {
		s := coredStar(t, 2)
		serve(t, s.nodes[1].listen(9000), echo)
		c := s.nodes[0].mustDial(s.nodes[1], 9000)
		id := s.apply(toxic("latency", "downstream", `{"latency": 400}`), s.link(1, 2))
		start := time.Now()
		for i := range 15 {
			_, err := fmt.Fprintf(c, "%c", 'a'+i)
			require.NoError(t, err)
			time.Sleep(20 * time.Millisecond) // the distance of the marks
		}
		s.remove(id)
		require.NoError(t, c.SetReadDeadline(start.Add(patient)))
		var at []time.Duration
		b := make([]byte, 1)
		for i := range 15 {
			_, err := io.ReadFull(c, b)
			require.NoError(t, err)
			require.Equal(t, byte('a'+i), b[0])
			at = append(at, time.Since(start))
		}
		t.Logf("at %v", at)
		require.GreaterOrEqual(t, at[0], 400*time.Millisecond)
		require.GreaterOrEqual(t, at[14]-at[0], 200*time.Millisecond, "as far apart as they were")
		until(t, "the toxic has gone", func() bool { return s.toxicsOn(c) == 0 })
		require.Less(t, fastest(t, c), 20*time.Millisecond)
	})
}

// TestNoToxicHangsOnABlackHole has a server behind a black hole, and a toxic of each kind on connections to it, beside
// connections to another.
func TestNoToxicHangsOnABlackHole(t *testing.T) {
	inPlane(t, func() {
		s := coredStar(t, 3)
		require.NoError(t, s.r.Intercept([]AddrLink{s.link(1, 3)}))
		a, b := s.nodes[0], s.nodes[1]
		serve(t, b.listen(9000), echo)
		serve(t, s.nodes[2].listen(9000), echo)
		var live []*net.TCPConn
		for range 20 {
			c := a.mustDial(b, 9000)
			_, err := roundTrip(c, patient)
			require.NoError(t, err)
			live = append(live, c)
		}
		dropped := s.apply(ruleDrop, s.link(1, 2), s.link(2, 1))
		for _, c := range live {
			_ = c.SetWriteDeadline(time.Now().Add(time.Millisecond))
			_, _ = c.Write(make([]byte, 100_000))
		}
		other := a.mustDial(s.nodes[2], 9000)
		for kind, attributes := range map[string]string{
			"bandwidth": `{"rate": 1}`, "latency": `{"latency": 1000}`, "limit_data": `{"bytes": 5}`, "slicer": `{"average_size": 1, "delay": 100}`,
			"slow_close": `{"delay": 1000}`, "reset_peer": `{"timeout": 60000}`,
		} {
			for _, stream := range []string{"upstream", "downstream"} {
				start := time.Now()
				id := s.apply(toxic(kind, stream, attributes), s.link(1, 2))
				_, err := roundTrip(other, patient)
				require.NoError(t, err)
				s.remove(id)
				require.Less(t, time.Since(start), 3*time.Second, kind)
			}
		}
		n, err := s.r.Reset(context.Background(), []AddrLink{s.link(1, 2)})
		require.NoError(t, err)
		require.Positive(t, n)
		s.remove(dropped)
		c := a.mustDial(b, 9000)
		_, err = roundTrip(c, patient)
		require.NoError(t, err)
	})
}
