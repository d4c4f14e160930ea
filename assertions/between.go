package assertions

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/hasvc/gauntlet/harness/plan"
)

// between judges a value of which only lo <= value <= hi is known: INVALID when the bound lies between them.
func between(b plan.Bound, lo, hi float64) Verdict {
	if b.Op == "=" {
		switch {
		case b.Value < lo || b.Value > hi:
			return Fail
		case lo == hi:
			return Pass
		}
		return Invalid
	}
	switch l, h := b.Holds(lo), b.Holds(hi); {
	case l && h:
		return Pass
	case !l && !h:
		return Fail
	}
	return Invalid
}

// unbounded is the upper end of what never came.
var unbounded = math.Inf(1)

// part is the verdict on one of the figures that an assertion was asked for, in one node.
type part struct {
	name    string // of the figure: the key in the scenario
	node    string
	verdict Verdict
	text    string  // a sentence with the figures
	value   float64 // the higher, the worse, among parts with the same verdict
}

// merge makes a finding of parts: of each figure the node where it is worst speaks. FAIL over INVALID over PASS.
func merge(parts []part) Finding {
	rank := func(v Verdict) int { return map[Verdict]int{Pass: 0, Invalid: 1, Fail: 2}[v] }
	worst := map[string]part{}
	var names []string
	for _, p := range parts {
		w, known := worst[p.name]
		if !known {
			names = append(names, p.name)
		}
		if !known || cmp.Or(cmp.Compare(rank(p.verdict), rank(w.verdict)), cmp.Compare(p.value, w.value)) > 0 {
			worst[p.name] = p
		}
	}
	f := Finding{}
	var said, why []string
	var verdicts []Verdict
	for _, n := range names {
		p := worst[n]
		verdicts = append(verdicts, p.verdict)
		said = append(said, p.text)
		if p.verdict == Invalid {
			why = append(why, p.text)
		}
	}
	f.Verdict = Worst(verdicts...)
	f.Summary = strings.Join(said, "; ")
	if f.Verdict == Invalid {
		f.Reason = strings.Join(slices.Compact(why), "; ")
		if f.Reason == "" {
			f.Reason = "there was nothing to judge"
			f.Summary = f.Reason
		}
	}
	return f
}
