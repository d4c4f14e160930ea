package httpwire

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// relay carries connections from its own address to a server's, past a Reader, and a Proxy when choose is set: as the
// link core does, next to the server.
type relay struct {
	t      testing.TB
	l      net.Listener
	server string
	choose func(Request) *Answer
	life   context.Context

	mu       sync.Mutex
	calls    []Call
	injected []Call
	why      []string
	conns    int
	running  sync.WaitGroup
}

func newRelay(t testing.TB, server string, choose func(Request) *Answer) *relay {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	r := &relay{t: t, l: l, server: server, choose: choose}
	var end context.CancelFunc
	r.life, end = context.WithCancel(context.Background())
	r.running.Go(r.accept)
	t.Cleanup(func() {
		l.Close()
		end() // a client may have dialled once more than it needed, and keeps that connection
		r.running.Wait()
	})
	return r
}

func (r *relay) addr() string { return r.l.Addr().String() }

var start = time.Now()

func now() time.Duration { return time.Since(start) }

func (r *relay) accept() {
	for {
		c, err := r.l.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		r.conns++
		r.mu.Unlock()
		r.running.Go(func() { r.serve(c.(*net.TCPConn)) })
	}
}

func (r *relay) serve(client *net.TCPConn) {
	c, err := net.Dial("tcp4", r.server)
	if err != nil {
		client.Close()
		return
	}
	server := c.(*net.TCPConn)
	defer client.Close()
	defer server.Close()
	reader := NewReader(now, func(c Call) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.calls = append(r.calls, c)
	})
	abort := func() {
		client.SetLinger(0)
		server.SetLinger(0)
		client.Close()
		server.Close()
	}
	stop := context.AfterFunc(r.life, abort)
	defer stop()
	up, down := func(b []byte) []byte { return b }, func(b []byte) []byte { return b }
	upEnd, downEnd := func() []byte { return nil }, func() []byte { return nil }
	var wakes sync.WaitGroup
	defer wakes.Wait()
	var upMu, downMu sync.Mutex
	toServer := func(b []byte) error {
		if b = up(b); len(b) == 0 {
			return nil
		}
		reader.Request(b)
		_, err := server.Write(b)
		return err
	}
	toClient := func(b []byte) error {
		reader.Response(b)
		if b = down(b); len(b) == 0 {
			return nil
		}
		_, err := client.Write(b)
		return err
	}
	locked := func(mu *sync.Mutex, f func([]byte) error) func([]byte) error {
		return func(b []byte) error {
			mu.Lock()
			defer mu.Unlock()
			return f(b)
		}
	}
	toServer, toClient = locked(&upMu, toServer), locked(&downMu, toClient)
	if r.choose != nil {
		p := NewProxy(Config{Now: now, Choose: r.choose, Reset: func() { wakes.Go(abort) },
			Injected: func(c Call) {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.injected = append(r.injected, c)
			},
			WakeUp:   func() { wakes.Go(func() { toServer(nil) }) },
			WakeDown: func() { wakes.Go(func() { toClient(nil) }) },
			EndUp:    func() { client.CloseRead() },
		})
		up, down, upEnd, downEnd = p.Up, p.Down, p.UpEnd, p.DownEnd
	}
	var how [2]string
	pump := func(i int, src *net.TCPConn, put func([]byte) error, end func() error) {
		buf := make([]byte, 8<<10)
		for {
			n, err := src.Read(buf)
			if n > 0 {
				if e := put(buf[:n]); e != nil {
					err = e
				}
			}
			if err == nil {
				continue
			}
			how[i] = Closed
			if errors.Is(err, io.EOF) && end() == nil {
				return
			}
			how[i] = Reset
			abort()
			return
		}
	}
	var both sync.WaitGroup
	both.Go(func() {
		pump(0, client, toServer, func() error {
			upMu.Lock()
			defer upMu.Unlock()
			if b := upEnd(); len(b) > 0 {
				reader.Request(b)
				server.Write(b)
			}
			return server.CloseWrite()
		})
	})
	both.Go(func() {
		pump(1, server, toClient, func() error {
			downMu.Lock()
			defer downMu.Unlock()
			client.Write(downEnd())
			reader.ResponseEnd()
			return client.CloseWrite()
		})
	})
	both.Wait()
	end := Closed
	if how[0] == Reset || how[1] == Reset {
		end = Reset
	}
	reader.End(end)
	if why := reader.Unreadable(); why != "" {
		r.mu.Lock()
		r.why = append(r.why, why)
		r.mu.Unlock()
	}
}

// seen waits until so many calls were reported, and returns them.
func (r *relay) seen(n int) []Call {
	r.t.Helper()
	var cs []Call
	require.Eventually(r.t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		cs = append(cs[:0], r.calls...)
		return len(cs) >= n
	}, 20*time.Second, time.Millisecond, "%d calls", n)
	require.Len(r.t, cs, n)
	for _, c := range cs {
		require.LessOrEqual(r.t, c.Begin, c.End)
	}
	return cs
}

func (r *relay) readable() {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	require.Empty(r.t, r.why)
}
