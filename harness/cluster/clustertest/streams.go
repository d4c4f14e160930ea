package clustertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// pairs are links of both kinds: by the kernel alone, and through the link core.
var pairs = []struct{ name, from, to string }{{"kernel", "a", "b"}, {"core", "a", "c"}}

// streams checks TCP and UDP over links on which nothing was asked.
func streams(t *testing.T, top *topology) {
	for _, p := range pairs {
		to := p.to + ":7000"
		check(t, p.name+"/tcp", 10*time.Second, func(t *testing.T, ctx context.Context) {
			k := top.dial(t, ctx, p.from, to)
			k.alive(t, patience)
			d := inside[dialed](t, ctx, top, p.from, "dial", "tcp", to, "echo from inside")
			require.Equal(t, "from inside", d.Answer, d.Error)
			long := strings.Repeat("x", 1<<20)
			got, _, err := k.ask("echo "+long, patience)
			require.NoError(t, err)
			require.True(t, got == long, "a megabyte came back changed: %d bytes", len(got))
		})
		check(t, p.name+"/source address kept", 10*time.Second, func(t *testing.T, ctx context.Context) {
			d := inside[dialed](t, ctx, top, p.from, "dial", "tcp", to, "peer")
			require.Equal(t, d.Local, d.Answer, "what the server sees is what the client has: %s", d.Error)
			host, _, err := net.SplitHostPort(d.Answer)
			require.NoError(t, err)
			require.Equal(t, top.addr(t, p.from).String(), host)
			require.Equal(t, top.addr(t, p.to).String()+":7000", d.Remote)
		})
		check(t, p.name+"/half-close by the client", 10*time.Second, func(t *testing.T, ctx context.Context) {
			k := top.dial(t, ctx, p.from, to)
			body := strings.Repeat("y", 300_000)
			_, err := fmt.Fprint(k, "count\n"+body)
			require.NoError(t, err)
			require.NoError(t, k.Conn.(interface{ CloseWrite() error }).CloseWrite())
			k.hears(t, fmt.Sprint(len(body)), patience)
			_, err = k.r.ReadByte()
			require.ErrorIs(t, err, io.EOF)
		})
		check(t, p.name+"/half-close by the server", 10*time.Second, func(t *testing.T, ctx context.Context) {
			k := top.dial(t, ctx, p.from, to)
			_, _, err := k.ask("bye", patience)
			require.NoError(t, err)
			_, err = k.r.ReadByte()
			require.ErrorIs(t, err, io.EOF)
			text := strings.Repeat("z", 100_000+len(p.name)) // the server's end is closed; ours still carries
			_, err = fmt.Fprint(k, text)
			require.NoError(t, err)
			require.NoError(t, k.Close())
			poll(t, ctx, patience, "all arrives", func() error {
				if got := decode[stats](t, ctx, top, p.to, "/stats").Received; got != int64(len(text)) {
					return fmt.Errorf("%d of %d bytes", got, len(text))
				}
				return nil
			})
		})
		check(t, p.name+"/udp", 10*time.Second, func(t *testing.T, ctx context.Context) {
			d := inside[dialed](t, ctx, top, p.from, "dial", "udp", to, "peer")
			require.Equal(t, d.Local, d.Answer, d.Error)
			big := strings.Repeat("u", 1400)
			require.Equal(t, big, inside[dialed](t, ctx, top, p.from, "dial", "udp", to, big).Answer)
		})
	}
	check(t, "refused stays refused", 10*time.Second, func(t *testing.T, ctx context.Context) {
		d := inside[dialed](t, ctx, top, "a", "dial", "tcp", "b:7001", "hello")
		require.Equal(t, syscall.ECONNREFUSED.Error(), d.Errno, "%+v", d)
		require.Less(t, d.Took, time.Second)
		u := inside[dialed](t, ctx, top, "a", "dial", "udp", "b:7001", "hello")
		require.Equal(t, syscall.ECONNREFUSED.Error(), u.Errno, "UDP: %+v", u)
	})
	check(t, "refused through the core", 10*time.Second, func(t *testing.T, ctx context.Context) {
		// A link with a toxic accepts before the peer does, and resets then: the one thing that is not as without it.
		d := inside[dialed](t, ctx, top, "a", "dial", "tcp", "c:7001", "hello")
		require.Contains(t, []string{syscall.ECONNREFUSED.Error(), syscall.ECONNRESET.Error(), syscall.EPIPE.Error()}, d.Errno, "%+v", d)
		require.Less(t, d.Took, time.Second)
	})
	check(t, "to itself", 10*time.Second, func(t *testing.T, ctx context.Context) {
		for _, addr := range []string{"a:7000", "127.0.0.1:7000", "localhost:7000"} {
			d := inside[dialed](t, ctx, top, "a", "dial", "tcp", addr, "echo me")
			require.Equal(t, "me", d.Answer, "%s: %s", addr, d.Error)
		}
	})
	check(t, "many at once", 20*time.Second, func(t *testing.T, ctx context.Context) {
		const n = 200
		errs := make(chan error, n)
		for i := range n {
			go func() {
				from, to := []string{"a", "b", "c", "client"}[i%4], []string{"web-1", "web-2", "c"}[i%3]
				c, err := top.Dial(ctx, from, "tcp", to+":7000")
				if err == nil {
					k := newTalk(c)
					var s string
					if s, _, err = k.ask(fmt.Sprint("echo ", i), patience); err == nil && s != fmt.Sprint(i) {
						err = fmt.Errorf("%d got the answer %q", i, s)
					}
					err = errors.Join(err, c.Close())
				}
				errs <- err
			}()
		}
		var all error
		for range n {
			all = errors.Join(all, <-errs)
		}
		require.NoError(t, all)
	})
}
