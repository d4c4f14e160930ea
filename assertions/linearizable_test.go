package assertions

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/hasvc/gauntlet/harness/record"
)

func TestLinearizable(t *testing.T) {
	op := func(kind, value string, call, ret time.Duration, out record.Outcome) record.Op {
		o := record.Op{Round: 1, Kind: kind, Key: "k", Value: value, Call: call, Return: ret, Outcome: out}
		if kind == "get" {
			o.Found = flag(value != "")
		}
		return o
	}
	cas := func(old, value string, call, ret time.Duration, out record.Outcome) record.Op {
		o := op("cas", value, call, ret, out)
		o.Old = old
		return o
	}
	const ok, failed, unknown = record.OK, record.Failed, record.Unknown
	for name, c := range map[string]struct {
		ops  []record.Op
		want Verdict
		says string
	}{
		"as it should be":                       {nil, Pass, "60 operations on 1 key are linearizable"},
		"a stale read":                          {[]record.Op{op("put", "a", 1, 2, ok), op("put", "b", 3, 4, ok), op("get", "a", 5, 6, ok)}, Fail, "the history of 1 key is not linearizable: k"},
		"a read at the time":                    {[]record.Op{op("put", "a", 1, 2, ok), op("put", "b", 3, 5, ok), op("get", "a", 5, 6, ok)}, Pass, ""},
		"a lost read":                           {[]record.Op{op("put", "a", 1, 2, ok), op("get", "", 3, 4, ok)}, Fail, "k"},
		"a read before":                         {[]record.Op{op("get", "", 1, 2, ok), op("put", "a", 3, 4, ok)}, Pass, ""},
		"a read of the future":                  {[]record.Op{op("get", "a", 1, 2, ok), op("put", "a", 3, 4, ok)}, Fail, "k"},
		"a read from nowhere":                   {[]record.Op{op("get", "z", 1, 2, ok)}, Fail, "k"},
		"a failed write read":                   {[]record.Op{op("put", "a", 1, 2, failed), op("get", "a", 3, 4, ok)}, Fail, "k"},
		"a failed write":                        {[]record.Op{op("put", "a", 1, 2, failed), op("get", "", 3, 4, ok)}, Pass, ""},
		"an unknown write read":                 {[]record.Op{op("put", "a", 1, 2, ok), op("put", "b", 3, 4, unknown), op("get", "a", 5, 6, ok), op("get", "b", 7, 8, ok)}, Pass, ""},
		"an unknown write read, then not":       {[]record.Op{op("put", "a", 1, 2, ok), op("put", "b", 3, 4, unknown), op("get", "b", 5, 6, ok), op("get", "a", 7, 8, ok)}, Fail, "k"},
		"an unknown write before its call":      {[]record.Op{op("get", "b", 1, 2, ok), op("put", "b", 3, 4, unknown)}, Fail, "k"},
		"an unanswered read":                    {[]record.Op{op("put", "a", 1, 2, ok), op("get", "", 3, 4, unknown)}, Pass, ""},
		"a swap":                                {[]record.Op{op("put", "a", 1, 2, ok), cas("a", "b", 3, 4, ok), op("get", "b", 5, 6, ok)}, Pass, ""},
		"a swap of another value":               {[]record.Op{op("put", "a", 1, 2, ok), op("put", "c", 3, 4, ok), cas("a", "b", 5, 6, ok)}, Fail, "k"},
		"two swaps of one value":                {[]record.Op{op("put", "a", 1, 2, ok), cas("a", "b", 3, 6, ok), cas("a", "c", 4, 5, ok)}, Fail, "k"},
		"a swap that failed":                    {[]record.Op{op("put", "a", 1, 2, ok), cas("x", "b", 3, 4, failed), op("get", "a", 5, 6, ok)}, Pass, ""},
		"a swap from nothing":                   {[]record.Op{cas("", "b", 3, 4, ok), op("get", "b", 5, 6, ok)}, Pass, ""},
		"a second swap from nothing":            {[]record.Op{cas("", "b", 3, 4, ok), cas("", "c", 5, 6, ok)}, Fail, "k"},
		"an unknown swap, done":                 {[]record.Op{op("put", "a", 1, 2, ok), cas("a", "b", 3, 4, unknown), op("get", "b", 5, 6, ok)}, Pass, ""},
		"an unknown swap, not done":             {[]record.Op{op("put", "a", 1, 2, ok), cas("a", "b", 3, 4, unknown), op("get", "a", 5, 6, ok)}, Pass, ""},
		"an unknown swap cannot have been done": {[]record.Op{op("put", "a", 1, 2, ok), cas("x", "b", 3, 4, unknown), op("get", "b", 5, 6, ok)}, Fail, "k"},
		"members may be stale": {[]record.Op{op("put", "a", 1, 2, ok), op("put", "b", 3, 4, ok),
			{Round: 1, Kind: "read", Verify: true, Member: "store-1", Key: "k", Value: "a", Found: flag(true), Call: 5, Return: 6, Outcome: ok}}, Pass, ""},
		"the service may not": {[]record.Op{op("put", "a", 1, 2, ok), op("put", "b", 3, 4, ok),
			{Round: 1, Kind: "read", Verify: true, Key: "k", Value: "a", Found: flag(true), Call: 5, Return: 6, Outcome: ok}}, Fail, "k"},
		"write-once keys are not its business": {[]record.Op{{Round: 1, Kind: "insert", Key: "k", Value: "v", Call: 1, Return: 2, Outcome: ok},
			{Round: 1, Kind: "read", Verify: true, Key: "k", Found: flag(true), Call: 5, Return: 6, Outcome: ok}}, Pass, "on 1 key"},
		"back in time": {[]record.Op{op("put", "a", 2, 1, ok)}, Invalid, "returned before it was called"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory()
			s.ask(t, "linearizable", Linearizable{Workload: "regs"})
			s.ops = append(s.ops, c.ops...)
			f := s.want(t, c.want, c.says)
			if c.want == Fail {
				require.Len(t, f.Evidence, 2)
				assert.Contains(t, f.Evidence[1].What, "key k: ")
				assert.NotEmpty(t, f.Evidence[1].Detail)
			}
		})
	}
	for name, match := range map[string]func(record.Op) bool{
		"no operations": func(o record.Op) bool { return true },
		"no reads":      func(o record.Op) bool { return o.Kind == "get" },
		"no writes":     func(o record.Op) bool { return o.Kind == "put" || o.Kind == "cas" || o.Kind == "get" },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory()
			s.ask(t, "linearizable", Linearizable{Workload: "regs"})
			s.ops = slices.DeleteFunc(s.ops, match)
			if name == "no writes" {
				s.ops = append(s.ops, op("get", "", 1, 2, ok))
			}
			s.want(t, Invalid, "nothing to compare")
		})
	}
}

// Volumes persist between rounds: a later one may begin with what an earlier one left, but with one value only.
func TestWhatARoundInherits(t *testing.T) {
	get := func(v string, at time.Duration) *record.Op {
		return &record.Op{Kind: "get", Key: "k", Value: v, Found: flag(v != ""), Call: at, Return: at + 1, Outcome: record.OK}
	}
	put := &record.Op{Kind: "put", Key: "k", Value: "n", Call: 10, Return: 11, Outcome: record.OK}
	swap := &record.Op{Kind: "cas", Key: "k", Old: "old", Value: "n2", Call: 3, Return: 4, Outcome: record.Unknown}
	for name, c := range map[string]struct {
		ops      []*record.Op
		inherits bool
		want     porcupine.CheckResult
	}{
		"nothing":                      {[]*record.Op{get("", 1), put, get("n", 20)}, true, porcupine.Ok},
		"a value":                      {[]*record.Op{get("old", 1), put, get("n", 20)}, true, porcupine.Ok},
		"a value in the first round":   {[]*record.Op{get("old", 1), put, get("n", 20)}, false, porcupine.Illegal},
		"a value, after it was gone":   {[]*record.Op{put, get("old", 20)}, true, porcupine.Illegal},
		"two values":                   {[]*record.Op{get("old", 1), get("older", 3), put}, true, porcupine.Illegal},
		"a value and nothing":          {[]*record.Op{get("old", 1), get("", 3), put}, true, porcupine.Illegal},
		"a value nobody saw, swapped":  {[]*record.Op{swap, get("n2", 5)}, true, porcupine.Ok},
		"in the first round it cannot": {[]*record.Op{swap, get("n2", 5)}, false, porcupine.Illegal},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, checkKey(context.Background(), c.ops, c.inherits).state)
		})
	}
}

// bruteForce tries every order of every subset that holds all acknowledged operations.
func bruteForce(ops []*record.Op) bool {
	var try func(state register, left []*record.Op) bool
	try = func(state register, left []*record.Op) bool {
		done := true
		for _, o := range left {
			done = done && o.Outcome != record.OK
		}
		if done {
			return true
		}
		for i, o := range left {
			first := true // nothing that is still to come returned before o was called
			for _, p := range left {
				if p != o && p.Outcome == record.OK && p.Return < o.Call {
					first = false
				}
			}
			if !first {
				continue
			}
			next := state
			ok := true
			switch o.Kind {
			case "put":
				next = register{true, o.Value}
			case "cas":
				if ok = state.is(o.Old); ok {
					next = register{true, o.Value}
				}
			default:
				ok = state.there == *o.Found && state.value == o.Value
			}
			if ok && try(next, slices.Delete(slices.Clone(left), i, i+1)) {
				return true
			}
		}
		return false
	}
	var left []*record.Op
	for _, o := range ops {
		if o.Outcome != record.Failed && (o.Outcome == record.OK || o.Kind != "get") {
			left = append(left, o)
		}
	}
	return try(register{}, left)
}

func TestLinearizableAgainstBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var ops []record.Op
		for range rapid.IntRange(1, 7).Draw(t, "n") {
			call := time.Duration(rapid.IntRange(0, 12).Draw(t, "call"))
			o := record.Op{
				Kind: rapid.SampledFrom([]string{"put", "get", "get", "cas"}).Draw(t, "kind"), Key: "k",
				Value: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "value"),
				Call:  call, Return: call + time.Duration(rapid.IntRange(0, 5).Draw(t, "took")),
				Outcome: rapid.SampledFrom([]record.Outcome{record.OK, record.OK, record.OK, record.Unknown, record.Failed}).Draw(t, "outcome"),
			}
			switch o.Kind {
			case "cas":
				o.Old = rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "old")
			case "get":
				o.Found = flag(rapid.Bool().Draw(t, "found"))
				if !*o.Found {
					o.Value = ""
				}
			}
			ops = append(ops, o)
		}
		var all []*record.Op
		for i := range ops {
			all = append(all, &ops[i])
		}
		want := porcupine.Illegal
		if bruteForce(all) {
			want = porcupine.Ok
		}
		got := keyResult{state: porcupine.Ok}
		if of := registers(ops)["k"]; of != nil {
			got = checkKey(context.Background(), of, false)
		}
		if got.state != want {
			t.Fatalf("got %s (%s), want %s", got.state, got.why, want)
		}
	})
}

// hard is a history on which the search explodes: many unknown writes at once, all of them seen, and a read that
// cannot be explained at the end.
func hard() []record.Op {
	var ops []record.Op
	for i := range 40 {
		v := fmt.Sprint("v", i)
		ops = append(ops, record.Op{Round: 1, Kind: "put", Key: "k", Value: v, Call: 1, Return: time.Second, Outcome: record.OK})
		ops = append(ops, record.Op{Round: 1, Kind: "get", Key: "k", Value: v, Found: flag(true), Call: 1, Return: time.Second, Outcome: record.OK})
	}
	return append(ops,
		record.Op{Round: 1, Kind: "get", Key: "k", Value: "v1", Found: flag(true), Call: 2 * time.Second, Return: 3 * time.Second, Outcome: record.OK},
		record.Op{Round: 1, Kind: "get", Key: "k", Value: "v2", Found: flag(true), Call: 4 * time.Second, Return: 5 * time.Second, Outcome: record.OK})
}

func TestASearchThatTakesTooLongIsInvalid(t *testing.T) {
	s := newStory()
	s.ask(t, "linearizable", Linearizable{Workload: "regs"})
	s.ops = append(s.ops, hard()...)
	fs, v := JudgeWithin(context.Background(), s.write(t), 100*ms)
	assert.Equal(t, Invalid, v)
	for _, f := range fs {
		if f.ID == "it" {
			assert.Equal(t, Invalid, f.Verdict)
			assert.Contains(t, f.Reason, "1 key not decided: the time of the checker is over")
		}
	}
}

// concurrent is a history of clients on a register that is linearizable by its making: each operation takes effect at
// a moment between its call and its return.
func concurrent(n, keys, clients int) []record.Op {
	rnd := rand.New(rand.NewPCG(1, 2))
	var ops []record.Op
	state := map[string]string{}
	for i := range n {
		key := fmt.Sprint("r", rnd.IntN(keys))
		at := time.Duration(i) * ms
		o := record.Op{Round: 1, Client: i % clients, Key: key, Call: at - time.Duration(rnd.Int64N(int64(clients)*int64(ms)/2)), Return: at + time.Duration(rnd.Int64N(int64(clients)*int64(ms)/2)), Outcome: record.OK}
		if rnd.IntN(2) == 0 {
			o.Kind, o.Value = "put", fmt.Sprint("v", i)
			state[key] = o.Value
		} else {
			o.Kind, o.Value, o.Found = "get", state[key], flag(state[key] != "")
		}
		ops = append(ops, o)
	}
	return ops
}

// BenchmarkLinearizable and its peer are P11: 10,000 operations on 16 keys.
func BenchmarkLinearizable(b *testing.B) {
	s := newStory()
	s.ops = concurrent(10_000, 16, 8)
	r := s.write(b).Rounds[0]
	b.Run("ours", func(b *testing.B) {
		for b.Loop() {
			f := (&Linearizable{Workload: "regs"}).Judge(context.Background(), nil, r)
			require.Equal(b, Pass, f.Verdict, f.Reason)
		}
	})
	b.Run("porcupine on the whole history", func(b *testing.B) {
		ops, err := r.History("regs")
		require.NoError(b, err)
		var history []porcupine.Operation
		for i := range ops {
			history = append(history, porcupine.Operation{ClientId: ops[i].Client, Input: &ops[i], Call: int64(ops[i].Call), Return: int64(ops[i].Return)})
		}
		m := registerModel(register{})
		m.Partition = func(history []porcupine.Operation) [][]porcupine.Operation {
			byKey := map[string][]porcupine.Operation{}
			for _, o := range history {
				k := o.Input.(*record.Op).Key
				byKey[k] = append(byKey[k], o)
			}
			var out [][]porcupine.Operation
			for _, h := range byKey {
				out = append(out, h)
			}
			return out
		}
		for b.Loop() {
			require.True(b, porcupine.CheckOperations(m, history))
		}
	})
}

func TestACancelledSearchIsNotBegun(t *testing.T) {
	s := newStory()
	s.ops = hard()
	r := s.write(t).Rounds[0]
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	f := (&Linearizable{Workload: "regs"}).Judge(ctx, nil, r)
	assert.Equal(t, Invalid, f.Verdict)
	assert.Contains(t, f.Reason, "the time of the checker is over")
}
