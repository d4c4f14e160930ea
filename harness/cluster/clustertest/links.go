package clustertest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// mute is how long a test listens before it believes in silence.
const mute = 150 * time.Millisecond

// heal bounds how long a live connection may need after a heal: its retransmission timer backed off meanwhile.
const heal = 5 * time.Second

// links checks the packet rules: each has its effect and is gone after, on live connections and on new ones.
func links(t *testing.T, top *topology) {
	ab, ba := cluster.Link{From: "a", To: "b"}, cluster.Link{From: "b", To: "a"}
	for _, p := range pairs {
		there, back := cluster.Link{From: p.from, To: p.to}, cluster.Link{From: p.to, To: p.from}
		for _, way := range []struct {
			name  string
			links []cluster.Link
		}{{"there", []cluster.Link{there}}, {"back", []cluster.Link{back}}, {"both ways", []cluster.Link{there, back}}} {
			check(t, "drop/"+p.name+"/"+way.name, 20*time.Second, func(t *testing.T, ctx context.Context) {
				k := top.dial(t, ctx, p.from, p.to+":7000")
				k.alive(t, patience)
				id, undo := top.counted(t, ctx, cluster.Rule{Drop: true}, way.links...)
				before := top.acted(t, ctx, id) // the ends of earlier connections may still be on their way
				k.silent(t, "echo late", mute)
				require.Greater(t, top.acted(t, ctx, id), before, "the counter shows what was dropped")
				if p.name == "kernel" { // the core accepts by itself
					require.True(t, timedOut(top.refuses(t, ctx, mute, p.from, p.to+":7000")), "a new connection")
				}
				undo()
				k.hears(t, "late", heal)
				k.alive(t, patience)
				top.dial(t, ctx, p.from, p.to+":7000").alive(t, heal)
			})
		}
	}
	check(t, "drop is one way", 10*time.Second, func(t *testing.T, ctx context.Context) {
		for _, way := range []struct {
			link    cluster.Link
			arrives bool
		}{{ab, false}, {ba, true}} {
			c, err := top.Dial(ctx, "a", "udp", "b:7000")
			require.NoError(t, err)
			undo := top.rule(t, ctx, cluster.Rule{Drop: true}, way.link)
			before := decode[stats](t, ctx, top, "b", "/stats").Datagrams
			_, err = datagram(c, "hello", mute)
			require.True(t, timedOut(err), "%v dropped: %v", way.link, err)
			require.Equal(t, way.arrives, decode[stats](t, ctx, top, "b", "/stats").Datagrams > before, "%v dropped", way.link)
			undo()
			got, err := datagram(c, "again", patience)
			require.NoError(t, err)
			require.Equal(t, "again", got)
			require.NoError(t, c.Close())
		}
	})
	check(t, "drop leaves the others alone", 10*time.Second, func(t *testing.T, ctx context.Context) {
		undo := top.rule(t, ctx, cluster.Rule{Drop: true}, ab, ba)
		for _, l := range []cluster.Link{{From: "a", To: "c"}, {From: "c", To: "a"}, {From: "c", To: "b"}, {From: "b", To: "c"}, {From: cluster.Client, To: "b"}} {
			top.dial(t, ctx, l.From, l.To+":7000").alive(t, patience)
		}
		undo()
	})
	check(t, "reject", 10*time.Second, func(t *testing.T, ctx context.Context) {
		k, other := top.dial(t, ctx, "a", "b:7000"), top.dial(t, ctx, "c", "b:7000")
		k.alive(t, patience)
		other.alive(t, patience)
		u, err := top.Dial(ctx, "a", "udp", "b:7000")
		require.NoError(t, err)
		defer u.Close()
		id, undo := top.counted(t, ctx, cluster.Rule{Reject: true}, ab)
		begin := time.Now()
		require.ErrorIs(t, top.refuses(t, ctx, patience, "a", "b:7000"), syscall.ECONNREFUSED)
		require.Less(t, time.Since(begin), time.Second, "a rejected connection is refused at once")
		require.NotZero(t, top.acted(t, ctx, id))
		_, _, err = k.ask("echo hello", patience)
		require.ErrorIs(t, err, syscall.ECONNRESET, "the sender of a live connection")
		_, err = datagram(u, "hello", patience)
		require.ErrorIs(t, err, syscall.ECONNREFUSED, "UDP")
		other.alive(t, patience)
		undo()
		top.dial(t, ctx, "a", "b:7000").alive(t, patience)
		other.alive(t, patience)
		got, err := datagram(u, "again", patience)
		require.NoError(t, err)
		require.Equal(t, "again", got)
		// Only the sender knows: b's end of k is half open, and a reset must find it though a has no socket any more.
		n, err := top.Reset(ctx, []cluster.Link{ab, ba})
		require.NoError(t, err)
		require.Positive(t, n)
		require.NoError(t, other.Close())
		poll(t, ctx, patience, "b has no connection left", func() error {
			if s := decode[stats](t, ctx, top, "b", "/stats"); s.Open != 0 {
				return fmt.Errorf("it has %d", s.Open)
			}
			return nil
		})
	})
	for _, p := range pairs {
		check(t, "reset/"+p.name, 20*time.Second, func(t *testing.T, ctx context.Context) {
			top.resets(t, ctx, p.from, p.to)
		})
	}
	check(t, "a probe is reset and not counted", 20*time.Second, func(t *testing.T, ctx context.Context) {
		_, err := top.Reset(ctx, []cluster.Link{ab}) // what is left of earlier checks
		require.NoError(t, err)
		l, err := top.Listen(ctx, "b")
		require.NoError(t, err)
		defer l.Close()
		k := top.dial(t, ctx, "a", l.Addr().String())
		c, err := l.Accept()
		require.NoError(t, err)
		defer c.Close()
		n, err := top.Reset(ctx, []cluster.Link{ab})
		require.NoError(t, err)
		require.Zero(t, n)
		for _, end := range []net.Conn{k, c} {
			require.NoError(t, end.SetReadDeadline(time.Now().Add(patience)))
			_, err = end.Read(make([]byte, 1))
			require.ErrorIs(t, err, syscall.ECONNRESET)
		}
	})
	delays(t, top)
	check(t, "precedence", 20*time.Second, func(t *testing.T, ctx context.Context) {
		reject := top.rule(t, ctx, cluster.Rule{Reject: true}, ab)
		drop := top.rule(t, ctx, cluster.Rule{Drop: true}, ab)
		again := top.rule(t, ctx, cluster.Rule{Drop: true}, ab)
		slow := top.rule(t, ctx, cluster.Rule{Delay: &cluster.Delay{Time: 40 * time.Millisecond}}, ab)
		require.True(t, timedOut(top.refuses(t, ctx, mute, "a", "b:7000")), "drop wins over reject")
		drop()
		require.True(t, timedOut(top.refuses(t, ctx, mute, "a", "b:7000")), "the same rule twice holds until both are removed")
		again()
		require.ErrorIs(t, top.refuses(t, ctx, patience, "a", "b:7000"), syscall.ECONNREFUSED, "reject wins over delay")
		reject()
		k := top.dial(t, ctx, "a", "b:7000")
		require.GreaterOrEqual(t, k.fastest(t, 3), 40*time.Millisecond, "the delay was there all the time")
		slow()
		require.Less(t, k.fastest(t, 5), 30*time.Millisecond)
	})
	check(t, "partition", 20*time.Second, func(t *testing.T, ctx context.Context) {
		var cut []cluster.Link
		for _, n := range []string{"a", "c", "life", cluster.Client} {
			cut = append(cut, cluster.Link{From: n, To: "b"}, cluster.Link{From: "b", To: n})
		}
		lost := []*talk{top.dial(t, ctx, "a", "b:7000"), top.dial(t, ctx, "b", "c:7000")}
		kept := top.dial(t, ctx, "a", "life:7000")
		for _, k := range append(lost, kept) {
			k.alive(t, patience)
		}
		undo := top.rule(t, ctx, cluster.Rule{Drop: true}, cut...)
		for _, k := range lost {
			k.silent(t, "echo late", mute)
		}
		kept.alive(t, patience)
		top.dial(t, ctx, "c", "life:7000").alive(t, patience)
		require.True(t, timedOut(top.refuses(t, ctx, mute, "c", "b:7000")))
		require.True(t, timedOut(top.refuses(t, ctx, mute, "b", "a:7000")))
		d := inside[dialed](t, ctx, top, "b", "dial", "-timeout", "150ms", "tcp", top.addr(t, "a").String()+":7000", "hello")
		require.True(t, d.Timeout, "from inside: %+v", d)
		undo()
		for _, k := range lost {
			k.hears(t, "late", heal)
		}
		top.dial(t, ctx, "b", "a:7000").alive(t, patience)
	})
	check(t, "bad rules", 10*time.Second, func(t *testing.T, ctx context.Context) {
		var unknown *cluster.UnknownNodeError
		_, err := top.Apply(ctx, []cluster.Link{ab, {From: "a", To: "nobody"}}, cluster.Rule{Drop: true})
		require.ErrorAs(t, err, &unknown)
		top.dial(t, ctx, "a", "b:7000").alive(t, patience)
		_, err = top.Apply(ctx, []cluster.Link{ab}, cluster.Rule{})
		require.Error(t, err, "a rule that asks for nothing")
		_, err = top.Apply(ctx, []cluster.Link{ab}, cluster.Rule{Delay: &cluster.Delay{Time: -time.Second}})
		require.Error(t, err, "a negative delay")
		_, err = top.Apply(ctx, []cluster.Link{{From: "a", To: "c"}}, cluster.Rule{Toxic: &cluster.Toxic{Type: "no-such", Stream: "upstream", Toxicity: 1}})
		require.Error(t, err, "a toxic that does not exist")
		require.Error(t, top.Remove(ctx, 987654321), "a rule that does not exist")
		var none *cluster.UnknownRuleError
		_, err = top.Counters(ctx, 987654321)
		require.ErrorAs(t, err, &none, "counters of a rule that does not exist")
		id, err := top.Apply(ctx, []cluster.Link{ab}, cluster.Rule{Drop: true})
		require.NoError(t, err)
		require.NoError(t, top.Remove(ctx, id))
		_, err = top.Counters(ctx, id)
		require.ErrorAs(t, err, &none, "counters of a rule that was removed")
		_, err = top.Reset(ctx, []cluster.Link{{From: "a", To: "nobody"}})
		require.ErrorAs(t, err, &unknown)
	})
	check(t, "change under traffic", 30*time.Second, func(t *testing.T, ctx context.Context) {
		// No byte is lost where none was asked, whatever comes and goes on the link.
		k := top.dial(t, ctx, "a", "b:7000")
		stop := make(chan struct{})
		result := make(chan error, 1)
		go func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					result <- nil
					return
				default:
				}
				s, _, err := k.ask(fmt.Sprint("echo ", i), heal)
				if err == nil && s != fmt.Sprint(i) {
					err = fmt.Errorf("%d got the answer %q", i, s)
				}
				if err != nil {
					result <- err
					return
				}
			}
		}()
		var err error
		for i := 0; i < 100 && err == nil; i++ {
			r := cluster.Rule{Delay: &cluster.Delay{Time: time.Duration(i%3) * time.Millisecond, Jitter: time.Millisecond}}
			if i%10 == 0 {
				r = cluster.Rule{Drop: true}
			}
			var id cluster.RuleID
			if id, err = top.Apply(ctx, []cluster.Link{ab, ba}, r); err == nil {
				err = top.Remove(ctx, id)
			}
		}
		close(stop)
		require.NoError(t, errors.Join(err, <-result))
	})
}

// resets ends idle and busy connections between two nodes, both ends of each, and no other.
func (top *topology) resets(t *testing.T, ctx context.Context, from, to string) {
	t.Helper()
	poll(t, ctx, patience, "connections of earlier subtests end", func() error {
		for _, n := range []string{from, to} {
			if s := decode[stats](t, ctx, top, n, "/stats"); s.Open != 0 {
				return fmt.Errorf("%s has %d open", n, s.Open)
			}
		}
		return nil
	})
	before := decode[stats](t, ctx, top, to, "/stats").Resets
	const idle, busy, reverse = 20, 3, 2
	var all []*talk
	for range idle {
		k := top.dial(t, ctx, from, to+":7000")
		k.alive(t, patience)
		all = append(all, k)
	}
	for range busy {
		k := top.dial(t, ctx, from, to+":7000")
		_, err := fmt.Fprintln(k, "flood")
		require.NoError(t, err)
		_, err = k.r.ReadByte()
		require.NoError(t, err)
		all = append(all, k)
	}
	for range reverse {
		k := top.dial(t, ctx, to, from+":7000")
		k.alive(t, patience)
		all = append(all, k)
	}
	other := top.dial(t, ctx, "life", to+":7000")
	other.alive(t, patience)
	n, err := top.Reset(ctx, []cluster.Link{{From: from, To: to}, {From: to, To: from}})
	require.NoError(t, err)
	require.GreaterOrEqual(t, n, len(all), "connections found")
	for _, k := range all {
		require.NoError(t, k.wasReset(patience))
	}
	poll(t, ctx, patience, "the other ends are reset too", func() error {
		s := decode[stats](t, ctx, top, to, "/stats")
		if got := s.Resets - before; got < idle+busy || s.Open != 1 {
			return fmt.Errorf("%d of %d, %d open", got, idle+busy, s.Open)
		}
		return nil
	})
	other.alive(t, patience)
	require.NoError(t, other.Close())
	top.dial(t, ctx, from, to+":7000").alive(t, patience)
	top.dial(t, ctx, to, from+":7000").alive(t, patience)
	n, err = top.Reset(ctx, []cluster.Link{{From: from, To: "web-1"}})
	require.NoError(t, err)
	require.Zero(t, n, "there was nothing to reset")
}
