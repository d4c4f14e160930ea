package assertions

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// NoLostWrites compares what was acknowledged with what verify read back.
//
// An acknowledged insert (a write-once key) must be found with its value. The last put or compare-and-swap of a key that
// verify read must be found, or one that may have come after it: not a value that an acknowledged write had replaced before
// that write was called. The service's own answer decides where there is one, else it is enough that one member has it:
// members that differ are the business of members-agree.
//
// What had an unknown outcome may be there or not. What was reported as failed must not be there: such a write
// (a phantom) fails the finding too, because whoever was told "failed" does it again. What could not be read, or what a member
// may have that could not be asked, is INVALID, never lost.
type NoLostWrites struct {
	Workload string `json:"workload" jsonschema:"required" desc:"The workload whose history is judged."`
}

// Validate returns every error.
func (a *NoLostWrites) Validate(s Scope) error { return workloadNamed(a.Workload, s) }

func (a *NoLostWrites) history() string { return a.Workload }

// kept is what became of the writes of a history.
type kept struct {
	acked, found, lost, unread, phantom, unknown, unknownFound int
	details                                                    []Evidence
}

// Judge compares.
func (a *NoLostWrites) Judge(_ context.Context, _ *plan.Plan, r *record.Round) Finding {
	ops, err := r.History(a.Workload)
	if err != nil {
		return invalid("%v", err)
	}
	file := record.HistoryFile(a.Workload)
	inserts, puts := map[string][]*record.Op{}, map[string][]*record.Op{}
	for i := range ops {
		switch o := &ops[i]; o.Kind {
		case "insert":
			inserts[o.Key] = append(inserts[o.Key], o)
		case "put", "cas":
			puts[o.Key] = append(puts[o.Key], o)
		}
	}
	read := answersOf(ops)
	k := kept{}
	note := func(what string, lines ...*record.Op) {
		if len(k.details) < maxDetails {
			var s []string
			for _, o := range lines {
				s = append(s, describe(o))
			}
			k.details = append(k.details, detail(what, file, strings.Join(s, "; ")))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(inserts)) {
		k.insert(inserts[key], read.of(key), read.silent(key), note)
	}
	for _, key := range slices.Sorted(maps.Keys(puts)) {
		// Keys that are overwritten need not be read back; those of which it was tried are judged.
		if read.read[key] != nil || read.tried[key] != nil {
			k.register(puts[key], read.of(key), read.silent(key), note)
		}
	}
	f := Finding{Evidence: append([]Evidence{{
		What: "writes and what verify read", File: file, Count: k.acked,
		Values: map[string]float64{
			"acknowledged": float64(k.acked), "found": float64(k.found), "lost": float64(k.lost), "unread": float64(k.unread),
			"phantom": float64(k.phantom), "unknown": float64(k.unknown), "unknown found": float64(k.unknownFound), "answers": float64(read.n),
		},
	}}, k.details...)}
	f.Summary = fmt.Sprintf("%d of %s found, %d lost, %d not read; %d of %d with unknown outcome found",
		k.found, plural(k.acked, "acknowledged write"), k.lost, k.unread, k.unknownFound, k.unknown)
	if k.phantom > 0 {
		f.Summary += fmt.Sprintf("; %s there", plural(k.phantom, "failed write"))
	}
	switch {
	case k.lost > 0 || k.phantom > 0:
		f.Verdict = Fail
	case read.n == 0:
		f.Reason = "verify read nothing"
	case k.acked == 0:
		f.Reason = "no write was acknowledged"
	case k.unread > 0:
		f.Reason = fmt.Sprintf("%s could not be read", plural(k.unread, "acknowledged write"))
	default:
		f.Verdict = Pass
	}
	return f
}

// outcomes sorts writes by what is known of them.
func outcomes(writes []*record.Op) (acked, unknown, failed []*record.Op) {
	for _, w := range writes {
		switch w.Outcome {
		case record.OK:
			acked = append(acked, w)
		case record.Failed:
			failed = append(failed, w)
		default:
			unknown = append(unknown, w)
		}
	}
	return acked, unknown, failed
}

// insert judges the attempts to write a key once. Several with one value are one write that was tried again; of several values the one
// that was acknowledged must be there. silent: not every member answered.
func (k *kept) insert(writes, answers []*record.Op, silent bool, note func(string, ...*record.Op)) {
	acked, unknown, failed := outcomes(writes)
	right := acked
	if len(acked) == 0 {
		right = unknown
	}
	var there, phantom, other *record.Op // an answer with a right value; one with a value that had failed; one with another
	for _, a := range answers {
		wrote := func(ws []*record.Op) bool {
			return slices.ContainsFunc(ws, func(w *record.Op) bool { return a.Value == "" || w.Value == "" || w.Value == a.Value })
		}
		switch {
		case !found(a):
		case wrote(right):
			there = a
		case wrote(failed) && !wrote(unknown):
			phantom = a
		default:
			other = a
		}
	}
	if phantom != nil {
		k.phantom++
		note("a write that had failed and is there", append(slices.Clone(failed), phantom)...)
	}
	switch {
	case len(acked) > 0:
		k.acked++
		switch {
		case len(answers) == 0:
			k.unread++
			note("an acknowledged write that verify could not read", acked[0])
		case there != nil:
			k.found++
		case phantom != nil: // one finding for one value
		case other != nil:
			k.lost++
			note("an acknowledged write that was replaced by another value", acked[0], other)
		case silent:
			k.unread++
			note("an acknowledged write that is not there, but for a member that could not be read", append([]*record.Op{acked[0]}, answers...)...)
		default:
			k.lost++
			note("an acknowledged write that is not there", append([]*record.Op{acked[0]}, answers...)...)
		}
	case len(unknown) > 0:
		k.unknown++
		if there != nil {
			k.unknownFound++
		}
	}
}

// register judges a key that is written again and again: what is read must be a write that nothing acknowledged is
// known to have replaced. silent: not every member answered.
func (k *kept) register(writes, answers []*record.Op, silent bool, note func(string, ...*record.Op)) {
	acked, unknown, failed := outcomes(writes)
	k.unknown += len(unknown)
	var phantom *record.Op
	for _, a := range answers {
		wrote := func(ws []*record.Op) bool {
			return slices.ContainsFunc(ws, func(w *record.Op) bool { return found(a) && w.Value == a.Value })
		}
		if wrote(failed) && !wrote(acked) && !wrote(unknown) {
			phantom = a
			note("a write that had failed and is there", a)
		}
	}
	if phantom != nil {
		k.phantom++
	}
	if len(acked) == 0 {
		return
	}
	// The last write is the one acknowledged write that is sure not to have been replaced by another. A history is in the order of calls.
	last := acked[len(acked)-1]
	k.acked++
	if len(answers) == 0 {
		k.unread++
		note("an acknowledged write that verify could not read", last)
		return
	}
	for _, a := range answers {
		if found(a) && k.current(a, acked, unknown) {
			k.found++
			return
		}
	}
	if phantom != nil {
		return // one finding for one value
	}
	if silent {
		k.unread++
		note("the last acknowledged write of a key is not there, but for a member that could not be read", append([]*record.Op{last}, answers...)...)
		return
	}
	k.lost++
	note("the last acknowledged write of a key is not there", append([]*record.Op{last}, answers...)...)
}

// current reports whether the answer may be the latest value.
func (k *kept) current(a *record.Op, acked, unknown []*record.Op) bool {
	if a.Value == "" {
		return true // the workload does not tell values
	}
	for _, u := range unknown {
		if u.Value == a.Value {
			k.unknownFound++
			return true // it may take effect at any time after its call
		}
	}
	for _, w := range acked {
		if w.Value != a.Value {
			continue
		}
		if !slices.ContainsFunc(acked, func(later *record.Op) bool { return later.Call > w.Return }) {
			return true
		}
	}
	return false
}
