package scenarios

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/hasvc/gauntlet/harness/plan"
)

// Rate is a number per second, written "200/s".
type Rate float64

// UnmarshalJSON reads "200/s".
func (r *Rate) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("a rate has a unit, such as 200/s")
	}
	num, ok := strings.CutSuffix(strings.TrimSpace(s), "/s")
	v, err := strconv.ParseFloat(strings.TrimSpace(num), 64)
	if !ok || err != nil || math.IsNaN(v) || v < 0 || v > maxRate {
		return fmt.Errorf("%q is no rate; write it as 200/s, at most %d/s", s, maxRate)
	}
	*r = Rate(v)
	return nil
}

// MarshalJSON writes what UnmarshalJSON reads.
func (r Rate) MarshalJSON() ([]byte, error) { return json.Marshal(r.String()) }

func (r Rate) String() string { return strconv.FormatFloat(float64(r), 'g', -1, 64) + "/s" }

// maxRate is beyond what one machine can send and keep a record of.
const maxRate = 1_000_000

// Share is a part of a whole in (0,1], written "30%".
type Share float64

// UnmarshalJSON reads "30%".
func (p *Share) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("a share is written with %%, such as 50%%")
	}
	num, ok := strings.CutSuffix(strings.TrimSpace(s), "%")
	v, err := strconv.ParseFloat(strings.TrimSpace(num), 64)
	if !ok || err != nil || !(v > 0 && v <= 100) {
		return fmt.Errorf("%q is no share; more than 0%% and at most 100%%", s)
	}
	*p = Share(v / 100)
	return nil
}

// MarshalJSON writes what UnmarshalJSON reads.
func (p Share) MarshalJSON() ([]byte, error) { return json.Marshal(p.String()) }

func (p Share) String() string {
	return strconv.FormatFloat(float64(p)*100, 'g', 10, 64) + "%"
}

// Lasting is how long a fault holds: a time, a range of times, or "end".
type Lasting struct {
	End  bool
	Span plan.Span
}

// UnmarshalJSON reads "2s", "0s..2s" or "end".
func (l *Lasting) UnmarshalJSON(b []byte) error {
	if string(b) == `"end"` {
		*l = Lasting{End: true}
		return nil
	}
	*l = Lasting{}
	if err := l.Span.UnmarshalJSON(b); err != nil {
		return fmt.Errorf("%w, or end", err)
	}
	return nil
}

// MarshalJSON writes what UnmarshalJSON reads.
func (l Lasting) MarshalJSON() ([]byte, error) {
	if l.End {
		return []byte(`"end"`), nil
	}
	return l.Span.MarshalJSON()
}

// Statuses are HTTP statuses: one, or a list.
type Statuses []int

// UnmarshalJSON reads a number or a list of numbers.
func (s *Statuses) UnmarshalJSON(b []byte) error {
	var one int
	if json.Unmarshal(b, &one) == nil {
		*s = Statuses{one}
		return nil
	}
	var many []int
	if err := json.Unmarshal(b, &many); err != nil || len(many) == 0 {
		return fmt.Errorf("a status is a number such as 201, or a list of them")
	}
	*s = many
	return nil
}

// Codes are names of gRPC statuses: one, or a list.
type Codes []string

// UnmarshalJSON reads a name or a list of names.
func (c *Codes) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*c = Codes{one}
		return nil
	}
	var many []string
	if err := json.Unmarshal(b, &many); err != nil || len(many) == 0 {
		return fmt.Errorf("a gRPC status is a name such as UNAVAILABLE, or a list of them")
	}
	*c = many
	return nil
}

// parseEvent reads ID.EVENT; ids have no dots.
func parseEvent(s string) (plan.EventRef, bool) {
	id, event, ok := strings.Cut(s, ".")
	return plan.EventRef{Fault: id, Event: plan.FaultEvent(event)}, ok && id != ""
}

// parseTargetRef reads $ID.target.
func parseTargetRef(s string) (id string, ok bool) {
	s, ok = strings.CutPrefix(s, "$")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(s, ".target")
}

// faultEvents are the words for the steps of a fault's life.
var faultEvents = []plan.FaultEvent{plan.Started, plan.InEffect, plan.Undone, plan.Gone}
