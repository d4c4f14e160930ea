package scenarios

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/hasvc/gauntlet/assertions"
	"github.com/hasvc/gauntlet/faults"
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/topology"
)

// loaded reads a file with the real tables and its real topology.
func loaded(t testing.TB, file string, seed uint64) *plan.Plan {
	t.Helper()
	f, spec, err := Load(file, realTables(), topologyOf(t))
	require.NoError(t, err)
	p, err := Compile(f, spec, seed)
	require.NoError(t, err)
	return p
}

func topologyOf(t testing.TB) TopologyLoader {
	return func(path string) (*cluster.Spec, error) {
		return topology.Load(t.Context(), path, topology.Option{})
	}
}

func TestEveryScenarioCompiles(t *testing.T) {
	for _, file := range everyScenario(t) {
		if file == filepath.Join("testdata", "store-leader-kill.yaml") {
			continue // the example as it was first written down; its topology is that of the shipped one
		}
		t.Run(file, func(t *testing.T) {
			p := loaded(t, file, 1)
			again := loaded(t, file, 1)
			require.Equal(t, marshal(p), marshal(again), "the same seed makes the same plan")
			require.NotEqual(t, marshal(p), marshal(loaded(t, file, 2)), "another seed makes another plan")
			var back plan.Plan
			require.NoError(t, json.Unmarshal(marshal(p), &back))
			require.Equal(t, string(marshal(p)), string(marshal(&back)), "a plan survives the way through plan.json")
			if file != filepath.Join("testdata", "formats.yaml") {
				require.Empty(t, Unsupported(p, realTables()), "what ships can be run")
			}
			var b bytes.Buffer
			require.NoError(t, Explain(&b, p))
			require.Contains(t, b.String(), p.Name)
		})
	}
}

// The catalogue of formats uses every form there is.
func TestFormats(t *testing.T) {
	p := loaded(t, filepath.Join("testdata", "formats.yaml"), 7)
	require.Len(t, p.Rounds, 60)
	assert.Equal(t, []string{"mydb"}, p.Fresh)
	assert.Equal(t, plan.Duration(5*time.Minute), p.Timeout)
	assert.Equal(t, []plan.Program{{Name: "mydbload", Go: "./mydbload"}, {Name: "mydbctl", Exec: "./bin/mydbctl"}}, p.Programs, "in the order of the file")
	require.Len(t, p.Workloads, 1)
	assert.Equal(t, "exec", p.Workloads[0].Kind)
	assert.Equal(t, "client", p.Workloads[0].In)
	require.Len(t, p.Loads, 3)
	assert.Equal(t, plan.Duration(800*time.Millisecond), p.Loads[2].Idle)
	assert.Zero(t, p.Loads[0].Idle)
	assert.True(t, p.Loads[2].HTTP2)
	assert.Equal(t, &plan.GRPC{}, p.Loads[1].GRPC)
	assert.Equal(t, &plan.Stream{Send: 5, Pause: plan.Duration(20 * time.Millisecond)}, p.Loads[1].Requests[2].Stream)
	assert.Equal(t, []plan.Stage{{For: plan.Duration(2 * time.Second), From: 50, To: 50}, {For: plan.Duration(5 * time.Second), From: 50, To: 400}}, p.Loads[0].Stages)
	assert.False(t, p.Loads[0].KeepAlive)
	assert.Equal(t, filepath.Join("testdata", "targets.http"), p.Loads[0].Targets, "relative to the scenario")
	assert.Equal(t, plan.Duration(DefaultLoadTimeout), p.Loads[0].Timeout)
	require.NotNil(t, p.Baseline.Until)
	assert.Equal(t, "writes", p.Baseline.Until.Workload.Workload)
	assert.Equal(t, plan.Duration(30*time.Second), p.Baseline.Timeout)
	require.Len(t, p.Require, 2)
	assert.Equal(t, plan.PhaseBaseline, p.Require[0].At)
	assert.Equal(t, "mydb-2", p.Require[0].Condition.In)
	assert.Equal(t, "end", p.Require[1].By)
	assert.Equal(t, "$cut.target", p.Require[1].Condition.Log.Node)
	require.Len(t, p.Abort, 1)
	require.Len(t, p.Controls, 3)
	assert.Equal(t, "MYDB_VERSION=v1.0.0", p.Controls[0].Name)
	assert.Equal(t, "mydb --ack-before-write", p.Controls[1].Name)
	assert.Equal(t, plan.Control{Name: "no-fault", NoFault: true}, p.Controls[2], "what has faults has a control without")
	assert.JSONEq(t, `{"exec":["mydbload","check"],"in":"client"}`, string(p.Assert[4].Params))

	byID := map[string]plan.Fault{}
	for _, f := range p.Rounds[0].Faults {
		byID[f.ID] = f
	}
	loop := byID["loop"]
	assert.True(t, loop.Repeated)
	assert.Equal(t, 1.0, loop.AtMost)
	assert.Greater(t, len(loop.Occurrences), 2)
	assert.Len(t, byID["hup"].Occurrences, 20)
	assert.Equal(t, plan.Duration(9500*time.Millisecond), byID["hup"].Occurrences[19].Offset)
	assert.Equal(t, &plan.EventRef{Fault: "compact", Event: plan.Started}, byID["crash"].At.After)
	assert.Equal(t, "writes", byID["cut"].At.When.Workload.Workload)
	assert.Equal(t, plan.Duration(10*time.Second), byID["cut"].At.Timeout)
	assert.Equal(t, "$cut.target", byID["cut"].Until.When.Log.Node)
	assert.True(t, byID["primary"].Held)
	// cut may begin 10 s late and last a minute: a minute from the start would end a healthy run.
	assert.Equal(t, plan.Duration(130*time.Second), byID["primary"].At.Timeout)
	assert.NotEqual(t, marshal(p.Rounds[0].Faults), marshal(p.Rounds[1].Faults), "each round draws afresh")

	why := strings.Join(Unsupported(p, realTables()), "\n")
	assert.Contains(t, why, "at-most")
}

func TestExplainFormats(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, Explain(&b, loaded(t, filepath.Join("testdata", "formats.yaml"), 7)))
	golden := filepath.Join("testdata", "formats.explain.txt")
	if *update {
		require.NoError(t, os.WriteFile(golden, b.Bytes(), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), b.String(), "look at the difference; if it is meant, run go test ./scenarios -run TestExplainFormats -update")
}

func TestDefaults(t *testing.T) {
	f, err := Parse("dir/min.yaml", []byte("version: 1\ntopology: t.yaml\nworkloads: {w: {kind: registers, to: gateway}}\nload: {l: {to: gateway, rate: 5/s, requests: [{path: /}]}}\n"), fakeTables())
	require.NoError(t, err)
	p, err := Compile(f, reference(), 3)
	require.NoError(t, err)
	assert.Equal(t, "min", p.Name)
	assert.Equal(t, "dir/t.yaml", p.Topology)
	assert.Equal(t, plan.Duration(DefaultBaseline), p.Baseline.AtLeast)
	assert.Equal(t, plan.Duration(DefaultRecovery), p.Recovery)
	assert.Equal(t, plan.Duration(130*time.Second), p.Timeout)
	assert.Equal(t, plan.Duration(DefaultWarmup), p.Warmup)
	assert.Len(t, p.Rounds, 1)
	assert.Empty(t, p.Rounds[0].Faults)
	assert.Empty(t, p.Controls, "without faults there is nothing to leave out")
	w := p.Workloads[0]
	assert.Equal(t, []any{DefaultClients, DefaultKeys, float64(DefaultRate), plan.Duration(DefaultLoadTimeout)}, []any{w.Clients, w.Keys, w.Rate, w.Timeout})
	l := p.Loads[0]
	assert.True(t, l.KeepAlive)
	assert.Equal(t, []plan.Stage{{From: 5, To: 5}}, l.Stages)
	assert.Equal(t, []plan.Request{{ID: "GET /", Weight: 1, Method: "GET", Path: "/"}}, l.Requests)
}

// A warm-up is for loads: without one there is none, and 0s turns it off.
func TestWarmup(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"warmup: 0s\nload: {l: {to: gateway, rate: 5/s, requests: [{path: /}]}}": 0,
		"warmup: 2s\nload: {l: {to: gateway, rate: 5/s, requests: [{path: /}]}}": 2 * time.Second,
		"workloads: {w: {kind: registers, to: gateway}}":                         0,
	} {
		f, err := Parse("x.yaml", []byte("version: 1\ntopology: t.yaml\n"+text+"\n"), fakeTables())
		require.NoError(t, err)
		p, err := Compile(f, reference(), 3)
		require.NoError(t, err, text)
		assert.Equal(t, plan.Duration(want), p.Warmup, text)
	}
	f, err := Parse("x.yaml", []byte("version: 1\ntopology: t.yaml\nwarmup: 2s\nworkloads: {w: {kind: registers, to: gateway}}\n"), fakeTables())
	require.NoError(t, err)
	_, err = Compile(f, reference(), 3)
	require.ErrorContains(t, err, "3:1: a warm-up without a load has nothing to warm the service with")
}

func TestCompileRefusesWhatValidateRefuses(t *testing.T) {
	f, err := Parse("x.yaml", []byte(strings.Replace(good, "group: store", "group: stroe", 1)), fakeTables())
	require.NoError(t, err)
	_, err = Compile(f, reference(), 1)
	require.EqualError(t, err, f.Validate(reference()).Error())
}

func TestControlsHaveDifferentNames(t *testing.T) {
	f, err := Parse("x.yaml", []byte(good+"  - {defect: ack-early, service: orders, must-fail: [steady]}\n  - {defect: ack-early, must-fail: [steady]}\n"), fakeTables())
	require.NoError(t, err)
	p, err := Compile(f, reference(), 1)
	require.NoError(t, err)
	var names []string
	for _, c := range p.Controls {
		names = append(names, c.Name)
	}
	require.Equal(t, []string{"ack-early in orders", "ack-early in orders#2", "ack-early", "no-fault"}, names)
}

func TestUnsupported(t *testing.T) {
	src := strings.Replace(good, "delay: {from: client, to: gateway, time: 50ms}", "loss: {from: client, to: gateway, share: 5%}", 1)
	src = strings.Replace(src, "no-lost-writes: {workload: registers}", "autoscale: {service: orders}", 1)
	src = strings.Replace(src, "  - id: second\n", "  - id: second\n    at-most: 50%\n", 1)
	f, err := Parse("x.yaml", []byte(src), realTables())
	require.NoError(t, err)
	p, err := Compile(f, reference(), 1)
	require.NoError(t, err, "what this version knows but cannot do is valid")
	why := Unsupported(p, realTables())
	require.Len(t, why, 3)
	for i, want := range []string{"loss", "assertion kept", "at-most"} {
		require.Contains(t, why[i], want)
	}
	require.JSONEq(t, `{"from":"client","to":"gateway","share":"5%"}`, string(p.Rounds[0].Faults[1].Occurrences[0].Params), "kept for a version that can")
}

// drawnFaults are the faults of a scenario's first round, by id.
func drawnFaults(t require.TestingT, faults string, seed uint64) map[string]plan.Fault {
	f, err := Parse("x.yaml", []byte("version: 1\ntopology: t.yaml\nrounds: {count: 2}\nfaults:\n"+faults), fakeTables())
	require.NoError(t, err)
	p, err := Compile(f, mydb(), seed)
	require.NoError(t, err)
	out := map[string]plan.Fault{}
	for _, r := range p.Rounds {
		for _, x := range r.Faults {
			out[x.ID+string(rune('0'+r.N))] = x
		}
	}
	return out
}

const ranged = "  - {id: a, at: 0s..3s, for: 0s..2s, repeat: {every: 500ms..4500ms, for: 12s}, kill: {group: mydb, pick: 1..3}}\n"

func TestAFaultDrawsIndependentlyOfTheOthers(t *testing.T) {
	other := "  - {id: b, at: 0s..3s, for: 1s..2s, delay: {from: client, to: mydb, time: 10ms..90ms}}\n"
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		alone := drawnFaults(t, ranged, seed)
		for _, both := range []string{ranged + other, other + ranged} {
			with := drawnFaults(t, both, seed)
			for _, k := range []string{"a1", "a2"} {
				require.Equal(t, string(marshal(alone[k])), string(marshal(with[k])))
			}
		}
	})
}

func TestDrawnValuesAreWithinTheirRanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawnFaults(t, ranged, rapid.Uint64().Draw(t, "seed"))["a1"]
		require.LessOrEqual(t, a.At.Offset, plan.Duration(3*time.Second))
		require.GreaterOrEqual(t, a.At.Offset, plan.Duration(0))
		require.Zero(t, a.Occurrences[0].Offset, "every parts the starts: the first is at once")
		for k, o := range a.Occurrences {
			require.Greater(t, o.For, plan.Duration(0), "0 would mean the end of the phase")
			require.LessOrEqual(t, o.For, plan.Duration(2*time.Second))
			require.Less(t, o.Offset, plan.Duration(12*time.Second))
			if k > 0 {
				step := o.Offset - a.Occurrences[k-1].Offset
				require.GreaterOrEqual(t, step, plan.Duration(500*time.Millisecond))
				require.LessOrEqual(t, step, plan.Duration(4500*time.Millisecond))
			}
			var target plan.Target
			require.NoError(t, json.Unmarshal(o.Params, &target))
			lo, hi, ok := target.Pick.Range()
			require.True(t, ok)
			require.Equal(t, lo, hi, "drawn")
			require.True(t, lo >= 1 && lo <= 3)
		}
		last := a.Occurrences[len(a.Occurrences)-1].Offset
		require.Greater(t, last+plan.Duration(4500*time.Millisecond), plan.Duration(7500*time.Millisecond), "repeats go on until the window ends")
	})
}

func TestSpans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lo := rapid.Int64Range(0, int64(time.Hour)).Draw(t, "lo")
		width := rapid.SampledFrom([]int64{0, 1, 7, 999, 1000, 20_000, 21_001, 1_000_000, 20_000_000, 3_000_000_001}).Draw(t, "width")
		x := plan.Span{Lo: plan.Duration(lo), Hi: plan.Duration(lo + width)}
		s := source{seed: rapid.Uint64().Draw(t, "seed"), name: rapid.StringN(0, 8, 8).Draw(t, "name")}
		d := s.span(x)
		require.True(t, d >= x.Lo && d <= x.Hi, "%v within %v", d, x)
		require.Equal(t, d, s.span(x), "a source draws its value, whenever it is asked")
		if x.Hi > 0 {
			l := s.lasting(x)
			require.True(t, l > 0 && l >= x.Lo && l <= x.Hi, "%v within %v", l, x)
		}
	})
}

// Both ends of a range are drawn, and what lies between: a generator stuck at one end would pass the tests above.
func TestDrawsSpread(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(300) {
		for _, o := range drawnFaults(t, ranged, seed)["a1"].Occurrences {
			var target plan.Target
			require.NoError(t, json.Unmarshal(o.Params, &target))
			seen[string(target.Pick)]++
			seen[[]string{"short", "middle", "long", "long"}[int(o.For/plan.Duration(700*time.Millisecond))]]++
		}
	}
	for _, k := range []string{"1", "2", "3", "short", "middle", "long"} {
		require.Greater(t, seen[k], 300, "%v", seen)
	}
}

// Drawing must not change the file's own parameters: the next round draws from them again.
func TestDrawingLeavesTheFileAlone(t *testing.T) {
	k := &faults.Kill{Target: plan.Target{Group: "mydb", Pick: "1..3"}}
	row, ok := faults.ByName("kill")
	require.True(t, ok)
	drawn(k, row, source{seed: 1})
	require.Equal(t, plan.Pick("1..3"), k.Pick)
	d := &faults.Delay{Time: plan.Span{Lo: 1, Hi: 100}}
	c := reflect.New(reflect.TypeOf(*d)).Elem()
	c.Set(reflect.ValueOf(*d))
	source{seed: 1}.params(c)
	require.Equal(t, plan.Span{Lo: 1, Hi: 100}, d.Time)
	require.Equal(t, c.Interface().(faults.Delay).Time.Lo, c.Interface().(faults.Delay).Time.Hi)
}

// What an assertion was validated as is what it is judged as: its parameters go through the plan's JSON, whatever their form in the
// file was.
func TestParametersOfAssertionsSurviveThePlan(t *testing.T) {
	for _, k := range assertions.Table {
		if k.Unsupported != "" {
			continue // unread
		}
		full := k.New()
		fill(t, reflect.ValueOf(full).Elem())
		for _, p := range []assertions.Params{k.New(), full} {
			back := k.New()
			require.NoError(t, json.Unmarshal(marshal(p), back), k.Name)
			require.Equal(t, p, back, k.Name)
		}
	}
	for _, file := range everyScenario(t) {
		f, err := Parse(file, must(os.ReadFile(file)), realTables())
		require.NoError(t, err)
		for _, a := range f.Assert {
			back := a.row.New()
			require.NoError(t, json.Unmarshal(marshal(a.Params), back), "%s: %s", file, a.ID)
			require.Equal(t, a.Params, back, "%s: %s", file, a.ID)
		}
	}
}

// fill gives every field a value that is not its zero one.
func fill(t *testing.T, v reflect.Value) {
	switch x := v.Addr().Interface().(type) {
	case *plan.Bound:
		*x = must(plan.ParseBound("<= 150ms"))
		return
	case *plan.Duration:
		*x = plan.Duration(1500 * time.Millisecond)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(t, v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	case reflect.String:
		v.SetString("a < b & \"c\"")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int:
		v.SetInt(503)
	case reflect.Float64:
		v.SetFloat(0.1)
	default:
		t.Fatalf("a parameter of type %s", v.Type())
	}
}

// The file's forms are wider than JSON's: a number for a text, 0 for a time.
func TestParametersThatOnlyTheFileMayHave(t *testing.T) {
	src := `version: 1
topology: t.yaml
load: {web: {to: gateway, rate: 9/s, requests: [{id: 404, path: /}]}}
faults: [{id: cut, for: 1s, drop: {from: gateway, to: orders}}]
assert:
  - {id: mine, exec: [check, --clients, 8, true]}
  - {id: back, recovers: {load: web, after: cut.undone, within: 2s, window: 0, success: ">= 99%"}}
  - {id: opened, breaker: {of: orders, in: gateway, fault: cut, opens: "<= 2s", settle: 0}}
  - {id: some, slo: {load: web, request: 404, success: ">= 99%"}}
`
	f, err := Parse("x.yaml", []byte(src), realTables())
	require.NoError(t, err)
	p, err := Compile(f, reference(), 1)
	require.NoError(t, err)
	for i, a := range p.Assert {
		k, ok := assertions.ByName(a.Kind)
		require.True(t, ok)
		back := k.New()
		require.NoError(t, json.Unmarshal(a.Params, back), "%s", a.Params)
		require.Equal(t, f.Assert[i].Params, back)
	}
}
