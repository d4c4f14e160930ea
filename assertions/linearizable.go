package assertions

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// Linearizable checks each key by itself as a register with put, get and compare-and-swap: linearizability is local
// (Herlihy and Wing 1990), so that a history is linearizable if, and only if, that of each key is.
//
// An operation with an unknown outcome may take effect at any time after its call, or never. One that failed took
// none. A get that was not answered says nothing. What verify read from a single member is left out: members may
// serve reads of their own that promise less. Inserts are the business of no-lost-writes.
//
// The search is exponential at worst: when its time is over, the finding is INVALID.
type Linearizable struct {
	Workload string `json:"workload" jsonschema:"required" desc:"The workload whose history is judged."`
}

// Validate returns every error.
func (a *Linearizable) Validate(s Scope) error { return workloadNamed(a.Workload, s) }

func (a *Linearizable) history() string { return a.Workload }

func (a *Linearizable) wholeHistory() string { return a.Workload }

// Judge checks key by key, as many at once as there are cores.
func (a *Linearizable) Judge(ctx context.Context, _ *plan.Plan, r *record.Round) Finding {
	ops, err := r.History(a.Workload)
	if err != nil {
		return invalid("%v", err)
	}
	file := record.HistoryFile(a.Workload)
	byKey := registers(ops)
	keys := slices.Sorted(maps.Keys(byKey))
	results := make([]keyResult, len(keys))
	var wg sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i, key := range keys {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			defer func() {
				if p := recover(); p != nil {
					results[i] = keyResult{state: porcupine.Unknown, why: fmt.Sprintf("the checker panicked: %v", p)}
				}
			}()
			// Later rounds may find what an earlier one left: volumes persist unless the scenario wants them fresh.
			results[i] = checkKey(ctx, byKey[key], r.N > 1)
		})
	}
	wg.Wait()

	var reads, writes, unknown int
	for _, key := range keys {
		for _, o := range byKey[key] {
			switch {
			case o.Kind == "get" || o.Kind == "read":
				reads++
			case o.Outcome == record.OK:
				writes++
			default:
				unknown++
			}
		}
	}
	f := Finding{Evidence: []Evidence{{What: "operations on registers", File: file, Count: reads + writes + unknown, Values: map[string]float64{
		"keys": float64(len(keys)), "reads": float64(reads), "acknowledged writes": float64(writes), "unknown writes": float64(unknown),
	}}}}
	var bad, open []string
	var why string
	for i, key := range keys {
		switch res := results[i]; res.state {
		case porcupine.Illegal:
			bad = append(bad, key)
			if len(f.Evidence) <= maxDetails {
				f.Evidence = append(f.Evidence, detail("key "+key+": "+res.why, file, strings.Join(res.lines, "; ")))
			}
		case porcupine.Unknown:
			open = append(open, key)
			why = res.why
		}
	}
	what := fmt.Sprintf("%s on %s", plural(reads+writes+unknown, "operation"), plural(len(keys), "key"))
	switch {
	case len(bad) > 0:
		f.Verdict = Fail
		f.Summary = fmt.Sprintf("the history of %s is not linearizable: %s (%s)", plural(len(bad), "key"), list(bad[:min(len(bad), maxDetails)]), what)
	case len(open) > 0:
		f.Reason = fmt.Sprintf("%s not decided: %s", plural(len(open), "key"), why)
	case reads == 0 || writes == 0:
		f.Reason = fmt.Sprintf("%s answered and %s: nothing to compare", plural(reads, "read"), plural(writes, "acknowledged write"))
	default:
		f.Verdict = Pass
		f.Summary = what + " are linearizable"
	}
	if f.Verdict == Invalid {
		f.Summary = f.Reason
	}
	return f
}

// registers returns, by key, the operations that say something about a register.
func registers(ops []record.Op) map[string][]*record.Op {
	byKey := map[string][]*record.Op{}
	written := map[string]bool{}
	for i := range ops {
		switch o := &ops[i]; o.Kind {
		case "put", "cas":
			written[o.Key] = true
			if o.Outcome != record.Failed {
				byKey[o.Key] = append(byKey[o.Key], o)
			}
		case "get", "read":
			if o.Outcome == record.OK && o.Member == "" {
				byKey[o.Key] = append(byKey[o.Key], o)
			}
		}
	}
	for key := range byKey {
		if !written[key] && !slices.ContainsFunc(byKey[key], func(o *record.Op) bool { return o.Kind == "get" && !o.Verify }) {
			delete(byKey, key) // a write-once key that verify read
		}
	}
	return byKey
}

// keyResult is what the checker says of one key.
type keyResult struct {
	state porcupine.CheckResult
	why   string
	lines []string
}

// register is the state of a key.
type register struct {
	there bool
	value string
}

// is reports whether the register has the value that a compare-and-swap expects; none is written as "".
func (s register) is(old string) bool { return s.value == old && (s.there || old == "") }

// registerModel is the sequential specification. Inputs are operations; there is no output beside them.
func registerModel(initial register) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return initial },
		Step: func(state, input, _ any) (bool, any) {
			s, o := state.(register), input.(*record.Op)
			switch o.Kind {
			case "put":
				return true, register{true, o.Value}
			case "cas":
				if s.is(o.Old) {
					return true, register{true, o.Value}
				}
				return o.Outcome != record.OK, s // an unknown one may have found another value
			}
			if !found(o) {
				return !s.there, s
			}
			return s.there && s.value == o.Value, s
		},
	}
}

// checkKey decides whether the operations of one key are linearizable. Where the register may hold something at the
// beginning, it is linearizable if it is so for one of the values it may have held.
func checkKey(ctx context.Context, ops []*record.Op, inherits bool) keyResult {
	for _, o := range ops {
		if o.Return < o.Call && o.Outcome == record.OK {
			return keyResult{state: porcupine.Unknown, why: "an operation returned before it was called: " + describe(o)}
		}
	}
	written := map[string]bool{}
	for _, o := range ops {
		if o.Kind == "put" || o.Kind == "cas" {
			written[o.Value] = true
		}
	}
	// What was seen and not written in this round was there before it, or came from nowhere.
	var foreign []string
	var seen *record.Op
	for _, o := range ops {
		v, saw := sees(o)
		if !saw || written[v] || slices.Contains(foreign, v) {
			continue
		}
		foreign = append(foreign, v)
		seen = o
		if !inherits || len(foreign) > 1 {
			return keyResult{state: porcupine.Illegal, why: "a value was read that no write which may have taken effect wrote", lines: []string{describe(seen)}}
		}
	}
	initial := []register{{}}
	for _, v := range foreign {
		initial = append(initial, register{true, v})
	}
	if inherits {
		for _, o := range ops {
			// What one that was answered expected was seen: that leaves the unknown ones.
			if o.Old != "" && !written[o.Old] && !slices.Contains(foreign, o.Old) {
				foreign = append(foreign, o.Old)
				initial = append(initial, register{true, o.Old})
			}
		}
	}
	history := timeline(ops)
	var last keyResult
	for _, s := range initial {
		left, ok := timeLeft(ctx)
		if !ok {
			return keyResult{state: porcupine.Unknown, why: "the time of the checker is over"}
		}
		switch porcupine.CheckOperationsTimeout(registerModel(s), history, left) {
		case porcupine.Ok:
			return keyResult{state: porcupine.Ok}
		case porcupine.Unknown:
			return keyResult{state: porcupine.Unknown, why: "the time of the checker is over"}
		}
		if last.state == "" {
			last = explain(ctx, s, history)
		}
	}
	return last
}

// timeLeft returns how long the checker may take, in porcupine's words: 0 is no limit. ok is false when none is left.
func timeLeft(ctx context.Context) (left time.Duration, ok bool) {
	if ctx.Err() != nil {
		return 0, false
	}
	d, limited := ctx.Deadline()
	if !limited {
		return 0, true
	}
	left = time.Until(d)
	return left, left > 0
}

// sees returns the value that an operation shows to have been in the register.
func sees(o *record.Op) (string, bool) {
	switch {
	case o.Outcome != record.OK:
		return "", false
	case o.Kind == "cas":
		return o.Old, o.Old != ""
	case o.Kind == "put":
		return "", false
	}
	return o.Value, found(o)
}

// timeline turns a key's operations into porcupine's. An unknown write returns at the end of time. One whose value
// nobody saw is left out: with or without it the rest is linearizable, and each one doubles the search.
func timeline(ops []*record.Op) []porcupine.Operation {
	shown := map[string]bool{}
	for _, o := range ops {
		if v, ok := sees(o); ok {
			shown[v] = true
		}
		shown[o.Old] = true // an unknown compare-and-swap saw it, if it took effect
	}
	var history []porcupine.Operation
	for _, o := range ops {
		ret := int64(o.Return)
		if o.Outcome != record.OK {
			if !shown[o.Value] {
				continue
			}
			ret = math.MaxInt64
		}
		history = append(history, porcupine.Operation{ClientId: max(0, o.Client), Input: o, Call: int64(o.Call), Return: ret})
	}
	return history
}

// explain shows where the longest partial order ends: its last operations, and those that could not follow.
func explain(ctx context.Context, initial register, history []porcupine.Operation) keyResult {
	res := keyResult{state: porcupine.Illegal, why: "no order of its operations explains what was read"}
	left, ok := timeLeft(ctx)
	if !ok {
		return res // the verdict stands without its illustration
	}
	_, info := porcupine.CheckOperationsVerbose(registerModel(initial), history, left)
	var longest []porcupine.Operation
	for _, part := range info.PartialLinearizationsOperations() {
		for _, seq := range part {
			if len(seq) > len(longest) {
				longest = seq
			}
		}
	}
	placed := map[*record.Op]bool{}
	for _, o := range longest {
		placed[o.Input.(*record.Op)] = true
	}
	for _, o := range longest[max(0, len(longest)-3):] {
		res.lines = append(res.lines, "then "+describe(o.Input.(*record.Op)))
	}
	stuck := slices.Clone(history)
	slices.SortStableFunc(stuck, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	n := 0
	for _, o := range stuck {
		if op := o.Input.(*record.Op); !placed[op] && n < 3 {
			n++
			res.lines = append(res.lines, "cannot follow: "+describe(op))
		}
	}
	return res
}
