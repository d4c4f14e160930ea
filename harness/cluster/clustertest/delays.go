package clustertest

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// slack is what a busy machine may add to a delay; a delay is never short.
const slack = 60 * time.Millisecond

// delays checks packets that are held back.
func delays(t *testing.T, top *topology) {
	ab, ba := cluster.Link{From: "a", To: "b"}, cluster.Link{From: "b", To: "a"}
	delay := func(d time.Duration) cluster.Rule { return cluster.Rule{Delay: &cluster.Delay{Time: d}} }
	check(t, "delay", 20*time.Second, func(t *testing.T, ctx context.Context) {
		k := top.dial(t, ctx, "a", "b:7000")
		require.Less(t, k.fastest(t, 5), 30*time.Millisecond)
		id, undo := top.counted(t, ctx, delay(80*time.Millisecond), ab)
		within(t, 80*time.Millisecond, k.fastest(t, 3), "one way, on a live connection")
		require.NotZero(t, top.acted(t, ctx, id))
		begin := time.Now()
		fresh := top.dial(t, ctx, "a", "b:7000")
		require.GreaterOrEqual(t, time.Since(begin), 80*time.Millisecond, "a new connection's SYN is held back too")
		within(t, 80*time.Millisecond, fresh.fastest(t, 2), "on a new connection")
		require.Less(t, top.dial(t, ctx, "a", "life:7000").fastest(t, 5), 30*time.Millisecond, "another link")
		undo()
		require.Less(t, k.fastest(t, 5), 30*time.Millisecond, "healed")
		require.Less(t, fresh.fastest(t, 5), 30*time.Millisecond, "healed")
	})
	check(t, "delay adds up", 20*time.Second, func(t *testing.T, ctx context.Context) {
		k := top.dial(t, ctx, "a", "b:7000")
		first := top.rule(t, ctx, delay(40*time.Millisecond), ab)
		second := top.rule(t, ctx, delay(30*time.Millisecond), ab)
		both := top.rule(t, ctx, delay(20*time.Millisecond), ab, ba)
		within(t, 110*time.Millisecond, k.fastest(t, 3), "40 and 30 there, 20 there and back")
		first()
		within(t, 70*time.Millisecond, k.fastest(t, 3), "without the first")
		both()
		second()
		require.Less(t, k.fastest(t, 5), 30*time.Millisecond)
	})
	check(t, "delay jitter", 20*time.Second, func(t *testing.T, ctx context.Context) {
		u, err := top.Dial(ctx, "a", "udp", "b:7000")
		require.NoError(t, err)
		defer u.Close()
		undo := top.rule(t, ctx, cluster.Rule{Delay: &cluster.Delay{Time: 30 * time.Millisecond, Jitter: 20 * time.Millisecond, Seed: 7}}, ab)
		lo, hi := time.Hour, time.Duration(0)
		for range 20 {
			begin := time.Now()
			_, err := datagram(u, "hello", patience)
			require.NoError(t, err)
			took := time.Since(begin)
			lo, hi = min(lo, took), max(hi, took)
		}
		undo()
		require.GreaterOrEqual(t, lo, 10*time.Millisecond, "never under time - jitter")
		require.Greater(t, hi-lo, 10*time.Millisecond, "20 draws of +-20 ms differ")
		require.Less(t, lo, 30*time.Millisecond, "some are under the mean")
	})
	check(t, "delay and drop", 20*time.Second, func(t *testing.T, ctx context.Context) {
		k := top.dial(t, ctx, "a", "b:7000")
		slow := top.rule(t, ctx, delay(50*time.Millisecond), ab)
		drop := top.rule(t, ctx, cluster.Rule{Drop: true}, ba)
		k.silent(t, "echo late", mute)
		drop()
		k.hears(t, "late", heal)
		within(t, 50*time.Millisecond, k.fastest(t, 3), "the delay outlives the drop")
		slow()
		require.Less(t, k.fastest(t, 5), 30*time.Millisecond)
	})
}

// within says that a delay was not short, and not long by more than a busy machine explains.
func within(t *testing.T, want, got time.Duration, what string) {
	t.Helper()
	require.GreaterOrEqual(t, got, want, what)
	require.Less(t, got, want+slack, what)
}

// toxics checks the link core, whose toxics sit in the stream of a -> c, alone and together with packet rules.
func toxics(t *testing.T, top *topology) {
	ac, ca := cluster.Link{From: "a", To: "c"}, cluster.Link{From: "c", To: "a"}
	latency := func(stream string, d time.Duration, toxicity float64) cluster.Rule {
		attrs, err := json.Marshal(map[string]int64{"latency": d.Milliseconds(), "jitter": 0})
		if err != nil {
			panic(err) // a map of numbers
		}
		return cluster.Rule{Toxic: &cluster.Toxic{Type: "latency", Stream: stream, Toxicity: toxicity, Attributes: attrs, Seed: 1}}
	}
	for _, stream := range []string{"upstream", "downstream"} {
		check(t, "latency "+stream, 20*time.Second, func(t *testing.T, ctx context.Context) {
			k := top.dial(t, ctx, "a", "c:7000")
			require.Less(t, k.fastest(t, 5), 30*time.Millisecond)
			id, undo := top.counted(t, ctx, latency(stream, 80*time.Millisecond, 1), ac)
			within(t, 80*time.Millisecond, k.fastest(t, 3), "on a live connection")
			require.NotZero(t, top.acted(t, ctx, id))
			fresh := top.dial(t, ctx, "a", "c:7000")
			within(t, 80*time.Millisecond, fresh.fastest(t, 3), "on a new connection")
			require.Less(t, top.dial(t, ctx, "c", "a:7000").fastest(t, 5), 30*time.Millisecond, "connections the other way are another link's")
			got, _, err := fresh.ask("peer", patience)
			require.NoError(t, err)
			require.Equal(t, fresh.LocalAddr().String(), got, "the source address is kept")
			undo()
			require.Less(t, k.fastest(t, 5), 30*time.Millisecond, "healed")
			require.Less(t, fresh.fastest(t, 5), 30*time.Millisecond, "healed")
		})
	}
	check(t, "several toxics", 20*time.Second, func(t *testing.T, ctx context.Context) {
		k := top.dial(t, ctx, "a", "c:7000")
		up := top.rule(t, ctx, latency("upstream", 40*time.Millisecond, 1), ac)
		down := top.rule(t, ctx, latency("downstream", 50*time.Millisecond, 1), ac)
		within(t, 90*time.Millisecond, k.fastest(t, 3), "one each way")
		up()
		within(t, 50*time.Millisecond, k.fastest(t, 3), "without the first")
		down()
		require.Less(t, k.fastest(t, 5), 30*time.Millisecond)
	})
	check(t, "both layers", 30*time.Second, func(t *testing.T, ctx context.Context) {
		k := top.dial(t, ctx, "a", "c:7000")
		toxic := top.rule(t, ctx, latency("downstream", 60*time.Millisecond, 1), ac)
		slow := top.rule(t, ctx, cluster.Rule{Delay: &cluster.Delay{Time: 50 * time.Millisecond}}, ac)
		within(t, 110*time.Millisecond, k.fastest(t, 3), "a toxic and a delay on one link")
		drop := top.rule(t, ctx, cluster.Rule{Drop: true}, ac, ca)
		k.silent(t, "echo late", mute+110*time.Millisecond)
		drop()
		k.hears(t, "late", heal)
		slow()
		within(t, 60*time.Millisecond, k.fastest(t, 3), "the toxic alone")
		toxic()
		require.Less(t, k.fastest(t, 5), 30*time.Millisecond)
	})
	check(t, "toxicity", 20*time.Second, func(t *testing.T, ctx context.Context) {
		undo := top.rule(t, ctx, latency("downstream", 60*time.Millisecond, 0.5), ac)
		slow, fast := 0, 0
		for range 24 { // the chance of all alike is 1 in 8 million, and the seed fixes the draw
			if top.dial(t, ctx, "a", "c:7000").alive(t, patience) >= 60*time.Millisecond {
				slow++
			} else {
				fast++
			}
		}
		undo()
		require.NotZero(t, slow, "%d fast", fast)
		require.NotZero(t, fast, "%d slow", slow)
	})
	check(t, "a toxic comes and goes under traffic", 30*time.Second, func(t *testing.T, ctx context.Context) {
		k := top.dial(t, ctx, "a", "c:7000")
		for i := range 50 {
			undo := top.rule(t, ctx, latency([]string{"upstream", "downstream"}[i%2], time.Duration(i%4)*time.Millisecond, 1), ac)
			got, _, err := k.ask(fmt.Sprint("echo ", i), patience)
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint(i), got)
			undo()
		}
	})
	eachToxic(t, top)
}
