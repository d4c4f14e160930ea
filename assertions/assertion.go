// Package assertions judges a record: one file per assertion, one table of all (Table). It sees plans and records and
// nothing else, dials nothing, and gives the same findings for the same run directory every time.
package assertions

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// Verdict of a finding or a run. The zero value is the one that must not pass for success.
type Verdict int

// The verdicts.
const (
	Invalid Verdict = iota // nothing was shown either way
	Pass
	Fail
)

func (v Verdict) String() string {
	switch v {
	case Pass:
		return "PASS"
	case Fail:
		return "FAIL"
	}
	return "INVALID"
}

// MarshalJSON writes the verdict's word.
func (v Verdict) MarshalJSON() ([]byte, error) { return json.Marshal(v.String()) }

// UnmarshalJSON reads the verdict's word.
func (v *Verdict) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	for _, x := range []Verdict{Invalid, Pass, Fail} {
		if x.String() == s {
			*v = x
			return nil
		}
	}
	return fmt.Errorf("no verdict is called %q", s)
}

// Worst merges verdicts: FAIL over INVALID over PASS. Of none it is INVALID.
func Worst(vs ...Verdict) Verdict {
	w := Invalid
	for i, v := range vs {
		if i == 0 || v == Fail || (v == Invalid && w == Pass) {
			w = v
		}
	}
	return w
}

// Class says what a kind of finding rests on.
type Class string

// The classes. Service findings need a punctual generator, a steady baseline and proved faults, and are INVALID
// without them. Safety findings rest on the history alone. Premise findings are those assumptions themselves.
const (
	Service Class = "service"
	Safety  Class = "safety"
	Premise Class = "premise"
)

// Finding is the result of one assertion in one round.
type Finding struct {
	ID      string  `json:"id"`
	Kind    string  `json:"kind"`
	Class   Class   `json:"class"`
	Round   int     `json:"round"`
	Verdict Verdict `json:"verdict"`
	// Summary is one sentence with the figures that decided, such as "success 71.3 % of 800 requests, wanted >= 60 %".
	Summary string `json:"summary"`
	// Reason says why an INVALID finding is that.
	Reason   string     `json:"reason,omitempty"`
	Evidence []Evidence `json:"evidence,omitempty"`

	// proven is set on the FAIL of a service finding that rests on the history alone, as that of a safety finding does.
	proven bool
}

// Said is the summary and, where it says something else, the reason.
func (f Finding) Said() string {
	switch {
	case f.Reason == "" || f.Reason == f.Summary: // the same, of a premise
		return f.Summary
	case f.Summary == "":
		return f.Reason
	}
	return f.Summary + ": " + f.Reason
}

// Evidence is what a finding rests on, so that a reader can compute it again.
type Evidence struct {
	What   string             `json:"what"`           // "requests of orders due in fault", "operation", ...
	File   string             `json:"file,omitempty"` // in the run directory
	Window *Window            `json:"window,omitempty"`
	Count  int                `json:"count,omitempty"` // samples
	Nodes  []string           `json:"nodes,omitempty"`
	Values map[string]float64 `json:"values,omitempty"` // seconds, ratios, rates: figures by name
	Detail string             `json:"detail,omitempty"` // a line that shows it, such as the operations that contradict each other
}

// MarshalJSON writes evidence without the figures that JSON has no number for.
func (e Evidence) MarshalJSON() ([]byte, error) {
	type plain Evidence
	e.Values = Finite(e.Values)
	return json.Marshal(plain(e))
}

// Finite leaves out what JSON has no number for: NaN, and a ratio to nothing, which is infinite and is judged as that.
func Finite(values map[string]float64) map[string]float64 {
	finite := maps.Clone(values)
	maps.DeleteFunc(finite, func(_ string, x float64) bool { return x-x != 0 })
	return finite
}

// Window is a stretch of the run, offsets from its start.
type Window struct {
	From time.Duration `json:"from"`
	To   time.Duration `json:"to"`
}

// Kind is a row of the table.
type Kind struct {
	Name  string // the key in a scenario file
	Doc   string
	Class Class
	New   func() Params // a pointer to zero parameters; json tags are the keys in a scenario file
	// Unsupported, when not empty, says why this version cannot judge it, though it knows it.
	Unsupported string
}

// Params are the decoded parameters of one assertion.
type Params interface {
	// Validate returns every error, joined. Scope has the names that exist.
	Validate(s Scope) error
	// Judge looks at one round. Verdict, Summary, Reason and Evidence are its to fill; the caller fills the rest, and
	// turns a panic or a timeout into INVALID. What takes more than linear time gives up when ctx is done.
	Judge(ctx context.Context, p *plan.Plan, r *record.Round) Finding
}

// Scope is what a scenario and its topology define.
type Scope struct {
	Plan     *plan.Plan
	Services []string
	Groups   []string
	Leaders  []string // groups that have a leader
	Metrics  MetricScope
}
