package clustertest

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// eachToxic checks every toxic but latency on a -> c: its effect and its heal, on live connections and on new ones.
func eachToxic(t *testing.T, top *topology) {
	ac := cluster.Link{From: "a", To: "c"}
	toxic := func(kind, stream, attributes string) cluster.Rule {
		return cluster.Rule{Toxic: &cluster.Toxic{Type: kind, Stream: stream, Toxicity: 1, Attributes: []byte(attributes), Seed: 1}}
	}
	// both runs f on a connection from before the toxic and on a new one.
	both := func(t *testing.T, ctx context.Context, live *talk, f func(*talk)) {
		f(live)
		f(top.dial(t, ctx, "a", "c:7000"))
	}
	answers := func(t *testing.T, k *talk, size int) time.Duration {
		text := strings.Repeat("t", size)
		got, took, err := k.ask("echo "+text, patience)
		require.NoError(t, err)
		require.True(t, got == text, "%d bytes came back of %d", len(got), size)
		return took
	}
	closed := func(t *testing.T, k *talk) {
		require.NoError(t, k.SetDeadline(time.Now().Add(patience)))
		_, err := io.Copy(io.Discard, k.r)
		require.NoError(t, err, "closed in order")
	}
	for _, stream := range []string{"upstream", "downstream"} {
		check(t, "bandwidth "+stream, 20*time.Second, func(t *testing.T, ctx context.Context) {
			live := top.dial(t, ctx, "a", "c:7000")
			live.alive(t, patience)
			id, undo := top.counted(t, ctx, toxic("bandwidth", stream, `{"rate": 100}`), ac)
			both(t, ctx, live, func(k *talk) { within(t, 200*time.Millisecond, answers(t, k, 20_000), "20 KB at 100 KB/s") })
			require.NotZero(t, top.acted(t, ctx, id))
			undo()
			both(t, ctx, live, func(k *talk) { require.Less(t, answers(t, k, 20_000), 100*time.Millisecond, "healed") })
		})
		check(t, "slow_close "+stream, 20*time.Second, func(t *testing.T, ctx context.Context) {
			ends := func(k *talk) time.Duration {
				begin := time.Now()
				_, err := fmt.Fprint(k, "count\n12345")
				require.NoError(t, err)
				require.NoError(t, k.Conn.(interface{ CloseWrite() error }).CloseWrite())
				k.hears(t, "5", patience)
				closed(t, k)
				return time.Since(begin)
			}
			live, kept := top.dial(t, ctx, "a", "c:7000"), top.dial(t, ctx, "a", "c:7000")
			kept.alive(t, patience)
			id, undo := top.counted(t, ctx, toxic("slow_close", stream, `{"delay": 150}`), ac)
			require.Less(t, kept.fastest(t, 5), 30*time.Millisecond, "data is not held")
			both(t, ctx, live, func(k *talk) { within(t, 150*time.Millisecond, ends(k), "the end") })
			require.NotZero(t, top.acted(t, ctx, id))
			undo()
			both(t, ctx, kept, func(k *talk) { require.Less(t, ends(k), 100*time.Millisecond, "healed") })
		})
		check(t, "timeout "+stream, 20*time.Second, func(t *testing.T, ctx context.Context) {
			live := top.dial(t, ctx, "a", "c:7000")
			live.alive(t, patience)
			id, undo := top.counted(t, ctx, toxic("timeout", stream, `{"timeout": 0}`), ac)
			var struck []*talk
			both(t, ctx, live, func(k *talk) {
				k.silent(t, "echo lost", mute)
				struck = append(struck, k)
			})
			require.NotZero(t, top.acted(t, ctx, id))
			undo()
			for _, k := range struck {
				closed(t, k) // its data is lost
			}
			live = top.dial(t, ctx, "a", "c:7000")
			live.alive(t, patience)
			undo = top.rule(t, ctx, toxic("timeout", stream, `{"timeout": 200}`), ac)
			both(t, ctx, live, func(k *talk) { closed(t, k) })
			undo()
			top.dial(t, ctx, "a", "c:7000").alive(t, patience)
		})
		check(t, "reset_peer "+stream, 20*time.Second, func(t *testing.T, ctx context.Context) {
			live, idle := top.dial(t, ctx, "a", "c:7000"), top.dial(t, ctx, "a", "c:7000")
			live.alive(t, patience)
			id, undo := top.counted(t, ctx, toxic("reset_peer", stream, `{"timeout": 100}`), ac)
			fresh := top.dial(t, ctx, "a", "c:7000")
			for _, k := range []*talk{live, idle, fresh} {
				require.NoError(t, k.wasReset(patience))
			}
			require.EqualValues(t, 3, top.acted(t, ctx, id))
			undo()
			top.dial(t, ctx, "a", "c:7000").alive(t, patience)
		})
		check(t, "slicer "+stream, 20*time.Second, func(t *testing.T, ctx context.Context) {
			live := top.dial(t, ctx, "a", "c:7000")
			live.alive(t, patience)
			id, undo := top.counted(t, ctx, toxic("slicer", stream, `{"average_size": 100, "size_variation": 50, "delay": 2000}`), ac)
			both(t, ctx, live, func(k *talk) {
				require.GreaterOrEqual(t, answers(t, k, 6000), 78*time.Millisecond, "40 pieces or more")
			})
			require.NotZero(t, top.acted(t, ctx, id))
			undo()
			both(t, ctx, live, func(k *talk) { require.Less(t, answers(t, k, 6000), 60*time.Millisecond, "healed") })
		})
		check(t, "limit_data "+stream, 20*time.Second, func(t *testing.T, ctx context.Context) {
			live, kept := top.dial(t, ctx, "a", "c:7000"), top.dial(t, ctx, "a", "c:7000")
			live.alive(t, patience)
			id, undo := top.counted(t, ctx, toxic("limit_data", stream, `{"bytes": 30}`), ac)
			both(t, ctx, live, func(k *talk) {
				k.alive(t, patience)
				_, err := fmt.Fprintln(k, "echo "+strings.Repeat("l", 100))
				require.NoError(t, err)
				require.NoError(t, k.SetDeadline(time.Now().Add(patience)))
				rest, err := io.ReadAll(k.r)
				require.NoError(t, err, "closed in order")
				if stream == "downstream" {
					require.Len(t, rest, 30-len("hello\n"), "what was let pass is delivered")
				}
			})
			kept.alive(t, patience)
			require.EqualValues(t, 2, top.acted(t, ctx, id))
			undo()
			both(t, ctx, kept, func(k *talk) { answers(t, k, 1000) })
		})
	}
	check(t, "a toxic with impossible values", 5*time.Second, func(t *testing.T, ctx context.Context) {
		for kind, attributes := range map[string]string{
			"bandwidth": `{"rate": 0}`, "slow_close": `{"delay": -1}`, "slicer": `{"average_size": 0}`, "limit_data": `{"bytes": -1}`,
			"timeout": `{"timeout": -1}`, "reset_peer": `{"timeout": -1}`, "latency": `{"latency": 1, "jitter": 2}`,
		} {
			_, err := top.Apply(ctx, []cluster.Link{ac}, toxic(kind, "upstream", attributes))
			require.Error(t, err, kind)
		}
		top.dial(t, ctx, "a", "c:7000").alive(t, patience)
	})
}
