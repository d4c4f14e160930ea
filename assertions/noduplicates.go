package assertions

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// NoDuplicates looks at how often verify found what was inserted once. It needs a workload that tells it: count in
// its answers. Without, it is INVALID.
type NoDuplicates struct {
	Workload string `json:"workload" jsonschema:"required" desc:"The workload whose history is judged."`
}

// Validate returns every error.
func (a *NoDuplicates) Validate(s Scope) error { return workloadNamed(a.Workload, s) }

func (a *NoDuplicates) history() string { return a.Workload }

// Judge counts.
func (a *NoDuplicates) Judge(_ context.Context, _ *plan.Plan, r *record.Round) Finding {
	ops, err := r.History(a.Workload)
	if err != nil {
		return invalid("%v", err)
	}
	file := record.HistoryFile(a.Workload)
	read := answersOf(ops)
	var there, twice, uncounted, unread int
	var details []Evidence
	for _, key := range slices.Sorted(maps.Keys(read.read)) {
		counted := true
		var worst *record.Op
		for _, member := range slices.Sorted(maps.Keys(read.read[key])) { // every reader: one duplicate is one too many
			o := read.read[key][member]
			if !found(o) {
				continue
			}
			counted = counted && o.Count > 0
			if worst == nil || o.Count > worst.Count {
				worst = o
			}
		}
		if worst == nil {
			continue
		}
		there++
		switch {
		case worst.Count > 1:
			twice++
			if len(details) < maxDetails {
				details = append(details, detail("a write that is there more than once", file, describe(worst)))
			}
		case !counted:
			uncounted++
		}
	}
	acked := map[string]bool{}
	for i := range ops {
		if o := &ops[i]; o.Kind == "insert" && o.Outcome == record.OK && !acked[o.Key] {
			acked[o.Key] = true
			if len(read.read[o.Key]) == 0 {
				unread++
			}
		}
	}
	f := Finding{
		Summary: fmt.Sprintf("%d of %s found more than once; %s not read", twice, plural(there, "key"), plural(unread, "acknowledged write")),
		Evidence: append([]Evidence{{What: "keys that verify found", File: file, Count: there, Values: map[string]float64{
			"found": float64(there), "more than once": float64(twice), "not counted": float64(uncounted), "unread": float64(unread),
		}}}, details...),
	}
	switch {
	case twice > 0:
		f.Verdict = Fail
	case there == 0:
		f.Reason = "verify found nothing"
	case uncounted > 0:
		f.Reason = fmt.Sprintf("verify did not say how often %s stands in the store (count)", plural(uncounted, "key"))
	case unread > 0:
		f.Reason = fmt.Sprintf("%s could not be read", plural(unread, "acknowledged write"))
	default:
		f.Verdict = Pass
	}
	return f
}
