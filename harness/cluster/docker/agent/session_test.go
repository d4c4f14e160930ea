package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hasvc/gauntlet/harness/cluster/plane"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// newSession returns a session with an agent of this process, over pipes as between containers. end breaks the pipes.
func newSession(t testing.TB) (s *Session, end func()) {
	t.Helper()
	theirIn, myOut, err := os.Pipe()
	require.NoError(t, err)
	myIn, theirOut, err := os.Pipe()
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- serve(theirIn, theirOut, podHandlers(t.TempDir(), func(PodSetup) {})) }()
	s, err = NewSession(myOut, myIn)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, ignoreClosed(s.Close()))
		<-served
		goleak.VerifyNone(t, goleak.IgnoreCurrent())
	})
	return s, func() { theirOut.Close() }
}

func ignoreClosed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// service listens on loopback and hands each connection to serve.
func service(t testing.TB, serve func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	require.NoError(t, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(patience))
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	return addrPortOf(l.Addr())
}

func dial(t testing.TB, s *Session, network string, to netip.AddrPort) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := s.Dial(ctx, network, to)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	return c
}

// pair returns a connection through the session and its other end, a real socket.
func pair(t testing.TB, s *Session) (*tcpConn, *net.TCPConn) {
	t.Helper()
	l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	require.NoError(t, err)
	defer l.Close()
	c := dial(t, s, "tcp", addrPortOf(l.Addr()))
	peer, err := l.AcceptTCP()
	require.NoError(t, err)
	t.Cleanup(func() { peer.Close() })
	require.NoError(t, peer.SetDeadline(time.Now().Add(patience)))
	return c.(*tcpConn), peer
}

func TestBytesAndAddresses(t *testing.T) {
	s, _ := newSession(t)
	c, peer := pair(t, s)
	require.Equal(t, peer.LocalAddr().String(), c.RemoteAddr().String())
	require.Equal(t, peer.RemoteAddr().String(), c.LocalAddr().String())
	require.IsType(t, &net.TCPAddr{}, c.LocalAddr())
	_, err := c.Write([]byte("ping"))
	require.NoError(t, err)
	b := make([]byte, 4)
	_, err = io.ReadFull(peer, b)
	require.NoError(t, err)
	require.Equal(t, "ping", string(b))
	_, err = peer.Write([]byte("pong"))
	require.NoError(t, err)
	_, err = io.ReadFull(c, b)
	require.NoError(t, err)
	require.Equal(t, "pong", string(b))
}

func TestHalfCloseOfTheHarness(t *testing.T) {
	s, _ := newSession(t)
	c, peer := pair(t, s)
	_, err := c.Write([]byte("question"))
	require.NoError(t, err)
	require.NoError(t, c.CloseWrite())
	got, err := io.ReadAll(peer)
	require.NoError(t, err, "an end, no reset")
	require.Equal(t, "question", string(got))
	_, err = c.Write([]byte("more"))
	require.ErrorIs(t, err, syscall.EPIPE)
	_, err = peer.Write([]byte("answer"))
	require.NoError(t, err)
	require.NoError(t, peer.Close())
	got, err = io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, "answer", string(got))
}

func TestHalfCloseOfThePeer(t *testing.T) {
	s, _ := newSession(t)
	c, peer := pair(t, s)
	_, err := peer.Write([]byte("greeting"))
	require.NoError(t, err)
	require.NoError(t, peer.CloseWrite())
	got, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, "greeting", string(got))
	_, err = c.Write([]byte("answer"))
	require.NoError(t, err, "the other direction lives on")
	require.NoError(t, c.Close())
	got, err = io.ReadAll(peer)
	require.NoError(t, err, "a close with nothing unread is no reset")
	require.Equal(t, "answer", string(got))
}

func TestResetOfThePeer(t *testing.T) {
	s, _ := newSession(t)
	c, peer := pair(t, s)
	_, err := peer.Write([]byte("last words"))
	require.NoError(t, err)
	b := make([]byte, 10)
	_, err = io.ReadFull(c, b)
	require.NoError(t, err)
	require.NoError(t, peer.SetLinger(0))
	require.NoError(t, peer.Close())
	_, err = c.Read(b)
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	var op *net.OpError
	require.ErrorAs(t, err, &op)
	require.Equal(t, "read", op.Op)
	_, err = c.Write(b)
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

// TestResetHeardByTheWriter: the kernel tells of a reset once. When a write hears of it, the read that follows just
// ends, and the harness must not take that for an orderly end.
func TestResetHeardByTheWriter(t *testing.T) {
	s, _ := newSession(t)
	for range 100 {
		c, peer := pair(t, s)
		var writing sync.WaitGroup
		writing.Go(func() {
			for b := make([]byte, 1000); ; {
				if _, err := c.Write(b); err != nil {
					return
				}
			}
		})
		_, err := io.ReadFull(peer, make([]byte, 10_000))
		require.NoError(t, err)
		require.NoError(t, peer.SetLinger(0))
		require.NoError(t, peer.Close())
		_, err = c.Read(make([]byte, 1))
		require.ErrorIs(t, err, syscall.ECONNRESET)
		writing.Wait()
	}
}

// TestResetWhileNothingIsRead: who only writes hears of a reset too, though what it did not read stands before it.
func TestResetWhileNothingIsRead(t *testing.T) {
	s, _ := newSession(t)
	c, peer := pair(t, s)
	sent := fill(t, peer)
	require.NoError(t, peer.SetLinger(0))
	require.NoError(t, peer.Close())
	for {
		if _, err := c.Write(make([]byte, 1000)); err != nil {
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
			break
		}
	}
	n, err := io.Copy(io.Discard, c)
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.Positive(t, n, "what came before the reset can be read")
	require.LessOrEqual(t, n, sent)
}

// fill writes until the other end has no room any more.
func fill(t testing.TB, c net.Conn) (n int64) {
	t.Helper()
	b := make([]byte, 64<<10)
	for {
		require.NoError(t, c.SetWriteDeadline(time.Now().Add(200*time.Millisecond)))
		k, err := c.Write(b)
		n += int64(k)
		if err != nil {
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.NoError(t, c.SetWriteDeadline(time.Now().Add(patience)))
			return n
		}
	}
}

func TestResetOfTheHarness(t *testing.T) {
	s, _ := newSession(t)
	t.Run("by linger 0", func(t *testing.T) {
		c, peer := pair(t, s)
		require.NoError(t, c.SetLinger(0))
		require.NoError(t, c.Close())
		_, err := peer.Read(make([]byte, 1))
		require.ErrorIs(t, err, syscall.ECONNRESET)
	})
	t.Run("by a close with data unread", func(t *testing.T) {
		c, peer := pair(t, s)
		_, err := peer.Write([]byte("12"))
		require.NoError(t, err)
		_, err = c.Read(make([]byte, 1))
		require.NoError(t, err)
		require.NoError(t, c.Close())
		_, err = peer.Read(make([]byte, 1))
		require.ErrorIs(t, err, syscall.ECONNRESET)
	})
	t.Run("by data after the close", func(t *testing.T) {
		c, peer := pair(t, s)
		require.NoError(t, c.Close())
		_, err := io.ReadAll(peer)
		require.NoError(t, err, "the close was orderly")
		for err == nil {
			_, err = peer.Write([]byte("too late"))
		}
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	})
	t.Run("while the agent cannot write", func(t *testing.T) {
		c, peer := pair(t, s)
		fill(t, c)
		require.NoError(t, c.SetLinger(0))
		require.NoError(t, c.Close())
		_, err := io.Copy(io.Discard, peer)
		require.ErrorIs(t, err, syscall.ECONNRESET)
	})
}

func TestCloseDeliversWhatWasWritten(t *testing.T) {
	s, _ := newSession(t)
	c, peer := pair(t, s)
	b := make([]byte, window/2)
	_, err := c.Write(b)
	require.NoError(t, err)
	require.NoError(t, c.Close())
	n, err := io.Copy(io.Discard, peer)
	require.NoError(t, err)
	require.Equal(t, int64(len(b)), n)
	_, err = c.Read(b)
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = c.Write(b)
	require.ErrorIs(t, err, net.ErrClosed)
	require.ErrorIs(t, c.Close(), net.ErrClosed)
}

func TestRefusedDial(t *testing.T) {
	s, _ := newSession(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	to := addrPortOf(l.Addr())
	require.NoError(t, l.Close())
	_, err = s.Dial(context.Background(), "tcp", to)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	_, local := net.Dial("tcp", to.String())
	require.EqualError(t, err, local.Error(), "as a local dial says it")
	_, err = s.Dial(context.Background(), "unix", to)
	require.ErrorAs(t, err, new(net.UnknownNetworkError))
}

func TestDialEndsWithItsContext(t *testing.T) {
	s, _ := newSession(t)
	to := deafListener(t)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := s.Dial(ctx, "tcp", to)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	var ne net.Error
	require.ErrorAs(t, err, &ne)
	require.True(t, ne.Timeout())

	ctx, cancel = context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err = s.Dial(ctx, "tcp", to)
	require.ErrorIs(t, err, context.Canceled)
	until(t, "the agent has given up too", func() bool { return s.mux.NumStreams() == 1 })
	_, err = s.Dial(ctx, "tcp", to)
	require.ErrorIs(t, err, context.Canceled)
}

// deafListener returns an address at which connecting takes for ever: its backlog is full, and SYNs are dropped.
func deafListener(t testing.TB) netip.AddrPort {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { syscall.Close(fd) })
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: loopback.As4()}))
	require.NoError(t, syscall.Listen(fd, 0))
	name, err := syscall.Getsockname(fd)
	require.NoError(t, err)
	to := netip.AddrPortFrom(loopback, uint16(name.(*syscall.SockaddrInet4).Port))
	for {
		c, err := net.DialTimeout("tcp4", to.String(), 300*time.Millisecond)
		if err != nil {
			var ne net.Error
			require.ErrorAs(t, err, &ne)
			require.True(t, ne.Timeout(), err)
			return to
		}
		t.Cleanup(func() { c.Close() })
	}
}

// until polls a condition that must come true.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for tick := time.NewTicker(time.Millisecond); !cond(); <-tick.C {
		require.False(t, time.Now().After(deadline), "it did not come: %s", what)
	}
}

func TestDeadlines(t *testing.T) {
	s, _ := newSession(t)
	c, peer := pair(t, s)
	b := make([]byte, 1)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	start := time.Now()
	_, err := c.Read(b)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.GreaterOrEqual(t, time.Since(start), 20*time.Millisecond)
	var ne net.Error
	require.ErrorAs(t, err, &ne)
	require.True(t, ne.Timeout())

	_, err = peer.Write([]byte("x"))
	require.NoError(t, err)
	_, err = c.Read(b)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "it holds until it is set anew")
	require.NoError(t, c.SetReadDeadline(time.Time{}))
	_, err = io.ReadFull(c, b)
	require.NoError(t, err, "no byte was lost by it")

	// Net/http ends a read of its own in this way.
	reading := make(chan error, 1)
	go func() {
		_, err := c.Read(b)
		reading <- err
	}()
	require.NoError(t, c.SetReadDeadline(time.Unix(1, 0)))
	require.ErrorIs(t, <-reading, os.ErrDeadlineExceeded)

	fill(t, c) // by write deadlines
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	go func() {
		_, err := c.Write(make([]byte, 1<<20))
		reading <- err
	}()
	require.NoError(t, c.Close())
	require.ErrorIs(t, <-reading, net.ErrClosed)
	require.ErrorIs(t, c.SetDeadline(time.Time{}), net.ErrClosed)
}

func TestAStalledReaderHoldsUpNobodyElse(t *testing.T) {
	s, _ := newSession(t)
	stalled, sleeping := pair(t, s)
	down := fill(t, sleeping) // nobody reads stalled
	up := fill(t, stalled)    // nor sleeping
	c, peer := pair(t, s)
	sum := make(chan int64, 1)
	go func() {
		n, _ := io.Copy(io.Discard, peer)
		sum <- n
	}()
	n, err := io.CopyN(c, zeros{}, 8<<20)
	require.NoError(t, err)
	require.NoError(t, c.CloseWrite())
	require.Equal(t, n, <-sum)

	// And when they wake up, all is there.
	require.NoError(t, stalled.CloseWrite())
	require.NoError(t, sleeping.CloseWrite())
	var reading sync.WaitGroup
	reading.Go(func() {
		if n, err := io.Copy(io.Discard, stalled); err != nil || n != down {
			t.Errorf("%d of %d bytes came down: %v", n, down, err)
		}
	})
	reading.Go(func() {
		if n, err := io.Copy(io.Discard, sleeping); err != nil || n != up {
			t.Errorf("%d of %d bytes went up: %v", n, up, err)
		}
	})
	reading.Wait()
	require.Less(t, down, int64(32<<20), "there is an upper bound")
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func TestManyConnectionsAtOnce(t *testing.T) {
	s, _ := newSession(t)
	to := service(t, func(c *net.TCPConn) {
		_, _ = io.Copy(c, c)
	})
	var running sync.WaitGroup
	for i := range 64 {
		running.Go(func() {
			if err := echoed(s, to, uint64(i), 200_000); err != nil {
				t.Errorf("connection %d: %v", i, err)
			}
		})
	}
	running.Wait()
	until(t, "every stream but that of calls has ended", func() bool { return s.mux.NumStreams() == 1 })
}

func TestABigTransferArrivesWhole(t *testing.T) {
	s, _ := newSession(t)
	to := service(t, func(c *net.TCPConn) {
		_, _ = io.Copy(c, c)
	})
	require.NoError(t, echoed(s, to, 1, 100<<20))
}

// echoed sends bytes that depend on seed, in writes of many sizes, and compares what comes back.
func echoed(s *Session, to netip.AddrPort, seed uint64, size int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	c, err := s.Dial(ctx, "tcp", to)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(3 * patience)); err != nil {
		return err
	}
	sent, got := sha256.New(), sha256.New()
	writing := make(chan error, 1)
	go func() {
		random := rand.NewChaCha8([32]byte{byte(seed)})
		b := make([]byte, 100_000)
		for left := size; left > 0; {
			n := min(left, 1+int64(random.Uint64())&0xffff)
			_, _ = random.Read(b[:n])
			sent.Write(b[:n])
			if _, err := c.Write(b[:n]); err != nil {
				writing <- err
				return
			}
			left -= n
		}
		writing <- c.(*tcpConn).CloseWrite()
	}()
	n, err := io.Copy(got, c)
	err = errors.Join(err, <-writing)
	if err == nil && (n != size || string(got.Sum(nil)) != string(sent.Sum(nil))) {
		err = errors.New("what came back is not what was sent")
	}
	return err
}

func TestDatagrams(t *testing.T) {
	s, _ := newSession(t)
	server, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	require.NoError(t, err)
	defer server.Close()
	require.NoError(t, server.SetDeadline(time.Now().Add(patience)))
	c := dial(t, s, "udp", addrPortOf(server.LocalAddr()))
	require.IsType(t, &net.UDPAddr{}, c.LocalAddr())
	_, err = c.(net.PacketConn).WriteTo(nil, c.RemoteAddr())
	require.ErrorIs(t, err, net.ErrWriteToConnected)
	b := make([]byte, maxDatagram)
	for _, n := range []int{0, 1, 1400, 0, maxDatagram} {
		_, err := c.Write(make([]byte, n))
		require.NoError(t, err)
		k, from, err := server.ReadFromUDP(b)
		require.NoError(t, err)
		require.Equal(t, n, k)
		require.Equal(t, c.LocalAddr().String(), from.String())
		_, err = server.WriteToUDP(b[:n], from)
		require.NoError(t, err)
		k, err = c.Read(b)
		require.NoError(t, err)
		require.Equal(t, n, k)
	}
	_, err = c.Write(make([]byte, maxDatagram+1))
	require.ErrorIs(t, err, syscall.EMSGSIZE)

	from := net.UDPAddrFromAddrPort(addrPortOf(c.LocalAddr()))
	for _, text := range []string{"first", "second"} {
		_, err = server.WriteToUDP([]byte(text), from)
		require.NoError(t, err)
	}
	n, err := c.Read(b[:3])
	require.NoError(t, err)
	require.Equal(t, "fir", string(b[:n]))
	n, err = c.Read(b)
	require.NoError(t, err)
	require.Equal(t, "second", string(b[:n]), "what did not fit is lost")
}

func TestDatagramsRefused(t *testing.T) {
	s, _ := newSession(t)
	server, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	require.NoError(t, err)
	at := server.LocalAddr().(*net.UDPAddr)
	require.NoError(t, server.Close())
	c := dial(t, s, "udp", addrPortOf(at))
	b := make([]byte, 10)
	for range 3 {
		_, err = c.Write([]byte("hello"))
		require.NoError(t, err)
		_, err = c.Read(b)
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
	}
	// As with a socket, that is not the end.
	server, err = net.ListenUDP("udp4", at)
	require.NoError(t, err)
	defer server.Close()
	require.NoError(t, server.SetDeadline(time.Now().Add(patience)))
	_, err = c.Write([]byte("again"))
	require.NoError(t, err)
	n, _, err := server.ReadFromUDP(b)
	require.NoError(t, err)
	require.Equal(t, "again", string(b[:n]))
}

func TestListen(t *testing.T) {
	s, _ := newSession(t)
	l, err := s.Listen(context.Background(), loopback)
	require.NoError(t, err)
	to := l.Addr().String()
	require.NotZero(t, addrPortOf(l.Addr()).Port())
	for range 3 {
		peer, err := net.Dial("tcp4", to)
		require.NoError(t, err)
		defer peer.Close()
		_, err = peer.Write([]byte("hello"))
		require.NoError(t, err)
		require.NoError(t, peer.(*net.TCPConn).CloseWrite())
		c, err := l.Accept()
		require.NoError(t, err)
		defer c.Close()
		require.Equal(t, peer.LocalAddr().String(), c.RemoteAddr().String())
		require.Equal(t, peer.RemoteAddr().String(), c.LocalAddr().String())
		got, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Equal(t, "hello", string(got))
	}
	waiting, err := net.Dial("tcp4", to) // nobody accepts it
	require.NoError(t, err)
	defer waiting.Close()
	require.NoError(t, waiting.SetDeadline(time.Now().Add(patience)))
	accepting := make(chan error, 1)
	until(t, "it is offered", func() bool { return len(l.(*listener).waiting) == 1 })
	require.NoError(t, l.Close())
	go func() {
		_, err := l.Accept()
		accepting <- err
	}()
	require.ErrorIs(t, <-accepting, net.ErrClosed)
	_, err = waiting.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET, "as of a listener that is closed")
	until(t, "the port is free", func() bool {
		c, err := net.Dial("tcp4", to)
		if err == nil {
			c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	_, err = s.Listen(context.Background(), netip.MustParseAddr("192.0.2.1"))
	require.ErrorIs(t, err, syscall.EADDRNOTAVAIL)
	require.Empty(t, s.listeners)
}

// TestMoreConnectionsThanTheBacklog: they wait in the kernel, and none is lost.
func TestMoreConnectionsThanTheBacklog(t *testing.T) {
	s, _ := newSession(t)
	l, err := s.Listen(context.Background(), loopback)
	require.NoError(t, err)
	defer l.Close()
	const n = 2 * backlog
	for range n {
		c, err := net.Dial("tcp4", l.Addr().String())
		require.NoError(t, err)
		defer c.Close()
	}
	seen := map[string]bool{}
	for range n {
		c, err := l.Accept()
		require.NoError(t, err)
		seen[c.RemoteAddr().String()] = true
		require.NoError(t, c.Close())
	}
	require.Len(t, seen, n)
}

func TestTheEndOfTheSession(t *testing.T) {
	s, end := newSession(t)
	c, peer := pair(t, s)
	blocked, sleeping := pair(t, s)
	fill(t, blocked)
	l, err := s.Listen(context.Background(), loopback)
	require.NoError(t, err)
	deaf := deafListener(t)
	errs := make(chan error, 4)
	go func() {
		_, err := c.Read(make([]byte, 1))
		errs <- err
	}()
	go func() {
		_, err := blocked.Write(make([]byte, 1<<20))
		errs <- err
	}()
	go func() {
		_, err := l.Accept()
		errs <- err
	}()
	go func() {
		_, err := s.Dial(context.Background(), "tcp", deaf)
		errs <- err
	}()
	until(t, "the dial is under way", func() bool { return s.mux.NumStreams() == 5 })
	start := time.Now()
	end()
	for range 4 {
		require.ErrorIs(t, <-errs, plane.ErrGone)
	}
	<-s.Done()
	t.Logf("everything had ended after %v", time.Since(start))
	require.ErrorIs(t, s.Err(), plane.ErrGone)
	_, err = s.Dial(context.Background(), "tcp", deaf)
	require.ErrorIs(t, err, plane.ErrGone)
	_, err = s.Listen(context.Background(), loopback)
	require.ErrorIs(t, err, plane.ErrGone)
	_, err = s.LiveSockets(context.Background(), loopback, nil)
	require.ErrorIs(t, err, plane.ErrGone)
	_, err = io.Copy(io.Discard, sleeping)
	require.ErrorIs(t, err, syscall.ECONNRESET, "the agent's ends are gone too")
	_, err = io.Copy(io.Discard, peer)
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestSomethingElseOnTheStandardOutput(t *testing.T) {
	theirIn, myOut := io.Pipe()
	myIn, theirOut := io.Pipe()
	go io.Copy(io.Discard, theirIn)
	s, err := NewSession(myOut, myIn)
	require.NoError(t, err)
	_, err = io.WriteString(theirOut, "exec /gauntlet-pod: exec format error\n")
	require.NoError(t, err)
	<-s.Done()
	require.ErrorIs(t, s.Err(), plane.ErrGone)
	require.ErrorContains(t, s.Err(), "writing to its standard output")
	require.NoError(t, s.Close())
}

func TestCallsToTheWrongAgent(t *testing.T) {
	s, _ := newSession(t)
	err := s.SetUpPlane(context.Background(), PlaneSetup{Addr: loopback})
	require.ErrorContains(t, err, "agent: setting up the plane: plane: it has no method")
}
