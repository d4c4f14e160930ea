package assertions

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
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
		"an unanswered read":                    {[]record.Op{op("put", "a", 1, 2, ok), op("get", "", 3, 4, unknown)}, Pass, "61 operations on 2 keys are linearizable"},
		"an unknown swap of an unknown write":   {[]record.Op{op("put", "a", 1, 2, ok), op("put", "b", 3, 4, unknown), cas("b", "c", 5, 6, unknown), op("get", "c", 7, 8, ok)}, Pass, ""},
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
		"nor are they when verify gets them": {[]record.Op{{Round: 1, Kind: "insert", Key: "k", Value: "v", Call: 1, Return: 2, Outcome: ok},
			{Round: 1, Kind: "get", Verify: true, Key: "k", Found: flag(true), Call: 5, Return: 6, Outcome: ok}}, Pass, "on 1 key"},
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
			if name == "as it should be" {
				assert.Equal(t, map[string]float64{"keys": 1, "reads": 20, "acknowledged writes": 40, "unknown writes": 0}, f.Evidence[0].Values)
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

// A finding shows the last of what can be put in an order, and what could be next by the time it returned and contradicts it.
func TestWhatCannotFollow(t *testing.T) {
	s := newStory()
	s.ask(t, "linearizable", Linearizable{Workload: "regs"})
	at := func(kind, value string, call, ret time.Duration) {
		s.ops = append(s.ops, record.Op{Round: 1, Kind: kind, Key: "k", Value: value, Call: call * ms, Return: ret * ms, Outcome: record.OK})
	}
	at("put", "a", 1, 2)
	at("put", "b", 3, 4)
	at("put", "c", 5, 6)
	at("put", "d", 7, 8)
	at("get", "b", 9, 30)
	at("get", "a", 10, 12)
	at("get", "c", 11, 13)
	at("get", "a", 14, 15)
	f := s.want(t, Fail, "the history of 1 key is not linearizable: k (68 operations on 2 keys)")
	assert.Equal(t, "key k: no order of its operations explains what was read", f.Evidence[1].What)
	assert.Equal(t, []string{
		`then 3ms..4ms client 0: put k = "b" ok`, `then 5ms..6ms client 0: put k = "c" ok`, `then 7ms..8ms client 0: put k = "d" ok`,
		`cannot follow: 10ms..12ms client 0: get k = "a" ok`, `cannot follow: 11ms..13ms client 0: get k = "c" ok`, `cannot follow: 14ms..15ms client 0: get k = "a" ok`,
	}, strings.Split(f.Evidence[1].Detail, "; "))

	s = newStory()
	s.ask(t, "linearizable", Linearizable{Workload: "regs"})
	at("put", "a", 1, 2)
	at("put", "b", 3, 4)
	at("get", "a", 5, 6)
	f = s.want(t, Fail)
	assert.Equal(t, `then 1ms..2ms client 0: put k = "a" ok; then 3ms..4ms client 0: put k = "b" ok; cannot follow: 5ms..6ms client 0: get k = "a" ok`, f.Evidence[1].Detail)

	s = newStory()
	s.ask(t, "linearizable", Linearizable{Workload: "regs"})
	for i := range maxDetails + 1 {
		at("get", "from nowhere", 1, 2)
		s.ops[len(s.ops)-1].Key = fmt.Sprint("x", i)
	}
	f = s.want(t, Fail, "the history of 11 keys is not linearizable: x0, x1, x10, x2, ")
	assert.NotContains(t, f.Summary, "x9")
	assert.Len(t, f.Evidence, 1+maxDetails)
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
		"nothing":             {[]*record.Op{get("", 1), put, get("n", 20)}, true, porcupine.Ok},
		"a value":             {[]*record.Op{get("old", 1), put, get("n", 20)}, true, porcupine.Ok},
		"a value, read twice": {[]*record.Op{get("old", 1), get("old", 3), put, get("n", 20)}, true, porcupine.Ok},
		"a value before it was written, though a swap expects it": {[]*record.Op{get("n", 1), put,
			{Kind: "cas", Key: "k", Old: "n", Value: "n2", Call: 20, Return: 21, Outcome: record.Unknown}}, true, porcupine.Illegal},
		"a value in the first round":   {[]*record.Op{get("old", 1), put, get("n", 20)}, false, porcupine.Illegal},
		"a value, after it was gone":   {[]*record.Op{put, get("old", 20)}, true, porcupine.Illegal},
		"two values":                   {[]*record.Op{get("old", 1), get("older", 3), put}, true, porcupine.Illegal},
		"a value and nothing":          {[]*record.Op{get("old", 1), get("", 3), put}, true, porcupine.Illegal},
		"a value nobody saw, swapped":  {[]*record.Op{swap, get("n2", 5)}, true, porcupine.Ok},
		"in the first round it cannot": {[]*record.Op{swap, get("n2", 5)}, false, porcupine.Illegal},
	} {
		t.Run(name, func(t *testing.T) {
			res := checkKey(context.Background(), c.ops, c.inherits)
			assert.Equal(t, c.want, res.state)
			if name == "two values" {
				assert.Equal(t, "a value was read that no write which may have taken effect wrote", res.why)
			}
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

// Writes of unknown outcome pile up in a long outage. Those that nobody saw must not make the search longer.
func TestUnknownWritesThatNobodySaw(t *testing.T) {
	s := newStory()
	s.ask(t, "linearizable", Linearizable{Workload: "regs"})
	op := func(kind, value string, call time.Duration, out record.Outcome) {
		s.ops = append(s.ops, record.Op{Round: 1, Kind: kind, Key: "k", Value: value, Call: call, Return: call + 1, Outcome: out})
	}
	for i := range 40 {
		op("put", fmt.Sprint("u", i), 1, record.Unknown)
	}
	op("put", "a", 1, record.OK)
	op("put", "b", 3, record.OK)
	op("get", "a", 5, record.OK)
	fs, _ := JudgeWithin(context.Background(), s.write(t), 5*time.Second)
	i := slices.IndexFunc(fs, func(f Finding) bool { return f.ID == "it" })
	assert.Equal(t, Fail.String(), fs[i].Verdict.String(), fs[i].Reason)
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
	// Nor is one for the illustration: the verdict stands without it.
	ops, err := r.History("regs")
	require.NoError(t, err)
	res := explain(ctx, register{}, timeline(registers(ops)["k"]))
	assert.Equal(t, porcupine.Illegal, res.state)
	assert.Empty(t, res.lines)
}
