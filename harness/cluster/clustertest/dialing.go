package clustertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// dialling checks the one way into a topology.
func dialling(t *testing.T, top *topology) {
	check(t, "from every node", 10*time.Second, func(t *testing.T, ctx context.Context) {
		for _, from := range []string{cluster.Client, "a", "web-1"} {
			k := top.dial(t, ctx, from, "b:7000")
			got, _, err := k.ask("peer", patience)
			require.NoError(t, err)
			require.Equal(t, k.LocalAddr().String(), got, "the server sees the address that the harness has")
			if from != cluster.Client {
				host, _, err := net.SplitHostPort(got)
				require.NoError(t, err)
				require.Equal(t, top.addr(t, from).String(), host)
			}
			require.Equal(t, top.addr(t, "b").String()+":7000", k.RemoteAddr().String())
		}
	})
	check(t, "by address", 5*time.Second, func(t *testing.T, ctx context.Context) {
		top.dial(t, ctx, cluster.Client, top.addr(t, "b").String()+":7000").alive(t, patience)
	})
	check(t, "by service", 10*time.Second, func(t *testing.T, ctx context.Context) {
		seen := map[string]bool{}
		for range 20 {
			seen[top.dial(t, ctx, cluster.Client, "web:7000").RemoteAddr().String()] = true
		}
		require.Len(t, seen, 2, "a service's name stands for all of its nodes")
	})
	check(t, "unknown names", 5*time.Second, func(t *testing.T, ctx context.Context) {
		var unknown *cluster.UnknownNodeError
		_, err := top.Dial(ctx, "nobody", "tcp", "b:7000")
		require.ErrorAs(t, err, &unknown)
		_, err = top.Dial(ctx, cluster.Client, "tcp", "nowhere:7000")
		require.ErrorAs(t, err, &unknown)
		require.Equal(t, "nowhere", unknown.Name)
		_, err = top.DialPlane(ctx, "tcp", "nowhere:7000")
		require.ErrorAs(t, err, &unknown)
		_, err = top.Dial(ctx, cluster.Client, "tcp", "b")
		require.Error(t, err, "an address without a port")
		_, err = top.Dial(ctx, cluster.Client, "sctp", "b:7000")
		require.Error(t, err, "a network that is not known")
	})
	check(t, "refused", 5*time.Second, func(t *testing.T, ctx context.Context) {
		for range 70 { // more than a pool of sockets holds
			require.ErrorIs(t, top.refuses(t, ctx, patience, cluster.Client, "b:7001"), syscall.ECONNREFUSED)
		}
		_, err := top.DialPlane(ctx, "tcp", "b:7001")
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
	})
	check(t, "deadlines", 10*time.Second, func(t *testing.T, ctx context.Context) {
		k := top.dial(t, ctx, cluster.Client, "b:7000")
		require.NoError(t, k.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
		begin := time.Now()
		_, err := k.r.ReadByte()
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.GreaterOrEqual(t, time.Since(begin), 49*time.Millisecond)
		k.alive(t, patience)
	})
	check(t, "udp", 5*time.Second, func(t *testing.T, ctx context.Context) {
		c, err := top.Dial(ctx, "a", "udp", "b:7000")
		require.NoError(t, err)
		defer c.Close()
		got, err := datagram(c, "peer", patience)
		require.NoError(t, err)
		require.Equal(t, c.LocalAddr().String(), got)
		require.NoError(t, c.SetReadDeadline(time.Now().Add(30*time.Millisecond)))
		_, err = c.Read(make([]byte, 10))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	})
	check(t, "listen", 10*time.Second, func(t *testing.T, ctx context.Context) {
		l, err := top.Listen(ctx, "b")
		require.NoError(t, err)
		defer l.Close()
		addr, err := netip.ParseAddrPort(l.Addr().String())
		require.NoError(t, err)
		require.Equal(t, top.addr(t, "b"), addr.Addr())
		k := top.dial(t, ctx, "a", addr.String())
		c, err := l.Accept()
		require.NoError(t, err)
		defer c.Close()
		require.Equal(t, k.LocalAddr().String(), c.RemoteAddr().String())
		undo := top.rule(t, ctx, cluster.Rule{Drop: true}, cluster.Link{From: "a", To: "b"})
		require.True(t, timedOut(top.refuses(t, ctx, mute, "a", addr.String())), "the rules of the link apply")
		undo()
		var unknown *cluster.UnknownNodeError
		_, err = top.Listen(ctx, "nobody")
		require.ErrorAs(t, err, &unknown)
	})
	check(t, "probes are counted apart", 20*time.Second, func(t *testing.T, ctx context.Context) {
		ab, ba, ac := cluster.Link{From: "a", To: "b"}, cluster.Link{From: "b", To: "a"}, cluster.Link{From: "a", To: "c"}
		slow := cluster.Delay{Time: 5 * time.Millisecond, Seed: 1}
		for _, r := range []struct {
			rule  cluster.Rule
			links []cluster.Link
		}{
			{cluster.Rule{Delay: &slow}, []cluster.Link{ab, ba}},
			{cluster.Rule{Toxic: &cluster.Toxic{Type: "latency", Stream: "upstream", Toxicity: 1, Attributes: []byte(`{"latency": 5}`), Seed: 1}}, []cluster.Link{ac}},
		} {
			id, undo := top.counted(t, ctx, r.rule, r.links...)
			counters := func() []cluster.Counter {
				cs, err := top.Counters(ctx, id)
				require.NoError(t, err)
				return cs
			}
			l, err := top.Listen(ctx, r.links[0].To)
			require.NoError(t, err)
			k := top.dial(t, ctx, "a", l.Addr().String())
			c, err := l.Accept()
			require.NoError(t, err)
			_, err = fmt.Fprint(k, "p")
			require.NoError(t, err)
			_, err = io.ReadFull(c, make([]byte, 1))
			require.NoError(t, err)
			for _, n := range counters() {
				require.NotZero(t, n.Probes, n.Link)
				require.Zero(t, n.Packets+n.Bytes, n.Link)
			}
			require.NoError(t, errors.Join(k.Close(), c.Close(), l.Close()))
			before := counters()
			top.dial(t, ctx, "a", r.links[0].To+":7000").alive(t, patience)
			for i, n := range counters() {
				require.Greater(t, n.Packets, before[i].Packets, n.Link)
				require.Equal(t, before[i].Probes, n.Probes, n.Link)
			}
			undo()
		}
	})
	check(t, "http", 10*time.Second, func(t *testing.T, ctx context.Context) {
		tr := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return top.Dial(ctx, cluster.Client, network, addr)
		}}
		defer tr.CloseIdleConnections()
		for range 20 {
			res, err := (&http.Client{Transport: tr, Timeout: patience}).Get("http://web:8080/healthz")
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, res.Body)
			require.NoError(t, errors.Join(err, res.Body.Close()))
			require.Equal(t, http.StatusOK, res.StatusCode)
		}
	})
	check(t, "cancelled", 10*time.Second, func(t *testing.T, ctx context.Context) {
		undo := top.rule(t, ctx, cluster.Rule{Drop: true}, cluster.Link{From: cluster.Client, To: "b"})
		cancelled, cancel := context.WithCancel(ctx)
		time.AfterFunc(50*time.Millisecond, cancel)
		begin := time.Now()
		_, err := top.Dial(cancelled, cluster.Client, "tcp", "b:7000")
		require.ErrorIs(t, err, context.Canceled)
		require.Less(t, time.Since(begin), time.Second)
		_, err = top.Dial(cancelled, cluster.Client, "tcp", "b:7000")
		require.ErrorIs(t, err, context.Canceled, "with a context that had ended before")
		require.True(t, timedOut(top.refuses(t, ctx, 100*time.Millisecond, cluster.Client, "b:7000")), "a deadline is a timeout")
		undo()
	})
	check(t, "from the plane past the rules", 10*time.Second, func(t *testing.T, ctx context.Context) {
		var all []cluster.Link
		for _, n := range []string{"a", "c", "life", "web-1", "web-2", cluster.Client} {
			all = append(all, cluster.Link{From: n, To: "b"}, cluster.Link{From: "b", To: n})
		}
		undo := top.rule(t, ctx, cluster.Rule{Drop: true}, all...)
		top.mustGet(t, ctx, "b", "/healthz")
		c, err := top.DialPlane(ctx, "udp", "b:7000")
		require.NoError(t, err)
		defer c.Close()
		got, err := datagram(c, "hello", patience)
		require.NoError(t, err)
		require.Equal(t, "hello", got)
		undo()
	})
}

// rule puts a rule on links and returns what removes it; the end of the subtest removes it too.
func (top *topology) rule(t *testing.T, ctx context.Context, r cluster.Rule, links ...cluster.Link) (undo func()) {
	t.Helper()
	_, undo = top.counted(t, ctx, r, links...)
	return undo
}

// counted is rule, with the rule's name for its counters.
func (top *topology) counted(t *testing.T, ctx context.Context, r cluster.Rule, links ...cluster.Link) (cluster.RuleID, func()) {
	t.Helper()
	id, err := top.Apply(ctx, links, r)
	require.NoError(t, err, "apply %+v to %v", r, links)
	gone := false
	undo := func() {
		if !gone {
			gone = true
			require.NoError(t, top.Remove(ctx, id), "remove %+v from %v", r, links)
		}
	}
	t.Cleanup(func() { // after a failure, so that the next subtest finds the links as they were
		if !gone {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := top.Remove(ctx, id); err != nil {
				t.Errorf("remove %+v from %v: %v", r, links, err)
			}
		}
	})
	return id, undo
}

// acted is what a rule acted on, over all of its links.
func (top *topology) acted(t *testing.T, ctx context.Context, id cluster.RuleID) uint64 {
	t.Helper()
	cs, err := top.Counters(ctx, id)
	require.NoError(t, err)
	var n uint64
	for _, c := range cs {
		n += c.Packets
	}
	return n
}

func show(v ...any) string {
	s := fmt.Sprintln(v...)
	return s[:len(s)-1]
}
