package role

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
)

const posted = "POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\n\r\n"

// client is a connection of a client.
type client struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func dial(t *testing.T, addr net.Addr) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr.String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(soon)))
	return &client{c, t, bufio.NewReader(c)}
}

func (c *client) send(what string) {
	c.t.Helper()
	_, err := io.WriteString(c, what)
	require.NoError(c.t, err)
}

// answered reads an answer and says whether it ends the connection.
func (c *client) answered() (last bool) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	require.NoError(c.t, err)
	defer resp.Body.Close()
	require.Equal(c.t, http.StatusOK, resp.StatusCode)
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(c.t, err)
	return resp.Close
}

func (c *client) closed() {
	c.t.Helper()
	_, err := c.r.ReadByte()
	require.ErrorIs(c.t, err, io.EOF)
}

func bound(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := listen("127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func answering(t *testing.T) (s *httpServer, addr net.Addr) {
	t.Helper()
	return serving(t, config.Config{Deadline: soon}, func(http.ResponseWriter, *http.Request) {})
}

func serving(t *testing.T, cfg config.Config, h http.HandlerFunc) (s *httpServer, addr net.Addr) {
	t.Helper()
	l := bound(t)
	s, err := serveHTTP(l, h, cfg, zap.NewNop(), func(err error) { t.Error(err) })
	require.NoError(t, err)
	t.Cleanup(s.abort)
	return s, l.Addr()
}

// count tells of how many connections something is true.
func (s *httpServer) count(is func(*conn) bool) (n int) {
	s.conns.mu.Lock()
	defer s.conns.mu.Unlock()
	for c := range s.conns.open {
		if is(c) {
			n++
		}
	}
	return n
}

// Whoever is told to leave is answered for as long as he does not know it, also when the server has read nothing but the beginning of his
// request.
func TestDepartAndFinish(t *testing.T) {
	s, addr := answering(t)
	idle, late, begun := dial(t, addr), dial(t, addr), dial(t, addr)
	for _, c := range []*client{idle, late, begun} {
		c.send(posted)
		require.False(t, c.answered())
	}
	eventually(t, func() bool { return s.count(func(c *conn) bool { return c.idle.Load() }) == 3 }, "the connections are not idle")
	s.depart()
	late.send(posted)
	assert.True(t, late.answered(), "and is told that his connection ends")
	late.closed()
	other := dial(t, addr)
	other.send(posted)
	assert.True(t, other.answered())
	begun.send(posted[:1])
	eventually(t, func() bool { return s.count(func(c *conn) bool { return c.begun.Load() }) == 1 }, "the beginning of a request is not read")
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	finished := make(chan error, 1)
	go func() { finished <- s.finish(ctx) }()
	idle.closed()
	begun.send(posted[1:])
	assert.True(t, begun.answered())
	begun.closed()
	require.NoError(t, <-finished)
	_, err := net.Dial("tcp", addr.String())
	require.Error(t, err)
}

// Who connects and says nothing does not hold up the end, for he has nothing in flight; who says something soon is answered.
func TestFinishParts(t *testing.T) {
	s, addr := answering(t)
	silent, slow := dial(t, addr), dial(t, addr)
	eventually(t, func() bool { return s.count(func(*conn) bool { return true }) == 2 }, "the connections are not accepted")
	ctx, cancel := context.WithTimeout(t.Context(), headerTimeout/2)
	defer cancel()
	finished := make(chan error, 1)
	go func() { finished <- s.finish(ctx) }()
	eventually(t, s.conns.leaving.Load, "it does not leave")
	slow.send(posted[:1])
	silent.closed()
	slow.send(posted[1:])
	assert.False(t, slow.answered(), "nobody told it to leave")
	slow.closed()
	require.NoError(t, <-finished)
}

// What follows an answer and becomes no request, such as an empty line, is waited for as headers are, and not as long as a connection may
// be idle.
func TestFinishAfterStrayBytes(t *testing.T) {
	for name, leavesFirst := range map[string]bool{"read before it leaves": false, "read after": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			release := make(chan struct{})
			s, addr := serving(t, config.Config{Deadline: soon}, func(http.ResponseWriter, *http.Request) { <-release })
			ctx, cancel := context.WithTimeout(t.Context(), headerTimeout+3*time.Second)
			defer cancel()
			finished := make(chan error, 1)
			finish := func() {
				go func() { finished <- s.finish(ctx) }()
				eventually(t, s.conns.leaving.Load, "it does not leave")
			}
			c := dial(t, addr)
			c.send(posted)
			eventually(t, func() bool { return s.count(func(c *conn) bool { return c.used.Load() }) == 1 }, "the request is not read")
			if leavesFirst {
				finish()
				c.send("\r\n")
				close(release)
				require.False(t, c.answered())
			} else {
				close(release)
				require.False(t, c.answered())
				eventually(t, func() bool { return s.count(func(c *conn) bool { return c.idle.Load() }) == 1 }, "the connection is not idle")
				c.send("\r\n")
				eventually(t, func() bool { return s.count(func(c *conn) bool { return c.begun.Load() }) == 1 }, "the line is not read")
				finish()
			}
			require.NoError(t, <-finished)
		})
	}
}

func TestFinishDoesNotWaitForEver(t *testing.T) {
	s, addr := answering(t)
	c := dial(t, addr)
	c.send(posted[:1])
	eventually(t, func() bool { return s.count(func(c *conn) bool { return c.begun.Load() }) == 1 }, "the beginning of a request is not read")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.finish(ctx), context.DeadlineExceeded)
	_, err := c.r.ReadByte()
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}

// Who is in the middle of something is not sent away.
func TestLeaveClosesWhatIsIdle(t *testing.T) {
	for _, test := range []struct {
		name   string
		state  http.ConnState
		send   string
		read   int // bytes of it
		closed bool
	}{
		{name: "idle", state: http.StateIdle, closed: true},
		{name: "a request has come", state: http.StateIdle, send: posted},
		{name: "a request has begun to come", state: http.StateIdle, send: "P", read: 1},
		{name: "a request is answered", state: http.StateActive},
		{name: "new", state: http.StateNew},
	} {
		for _, before := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/before %v", test.name, before), func(t *testing.T) {
				l := newConns(bound(t), 0)
				cl := dial(t, l.Addr())
				nc, err := l.Accept()
				require.NoError(t, err)
				cl.send(test.send)
				if test.send != "" {
					eventually(t, func() bool { return readable(nc.(*conn).TCPConn) }, "nothing comes")
				}
				if before {
					l.leave()
				}
				l.state(nc, test.state)
				if test.read > 0 {
					_, err := io.ReadFull(nc, make([]byte, test.read))
					require.NoError(t, err)
				}
				if !before {
					l.leave()
				}
				_, err = nc.Write([]byte("x"))
				require.Equal(t, test.closed, err != nil)
				if !test.closed {
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
					defer cancel()
					require.Error(t, l.gone(ctx), "it is waited for")
					require.NoError(t, nc.Close())
				}
				require.NoError(t, l.gone(t.Context()))
			})
		}
	}
}

// A client that the kernel has let in, and that is not accepted yet, does not know that nobody does.
func TestLeaveAcceptsWhatWaits(t *testing.T) {
	l := newConns(bound(t), 0)
	for range 3 {
		dial(t, l.Addr()).send(posted)
	}
	l.leave()
	for range 3 {
		_, err := l.Accept()
		require.NoError(t, err)
	}
	_, err := l.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = net.Dial("tcp", l.Addr().String())
	require.Error(t, err)
	l.cut()
}
