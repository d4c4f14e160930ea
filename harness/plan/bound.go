package plan

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Unit says what the value of a Bound counts.
type Unit string

// The units of bounds.
const (
	Ratio   Unit = "ratio"      // written "99.9%"; the value is 0.999
	Seconds Unit = "seconds"    // written "100ms"; the value is 0.1
	PerSec  Unit = "per-second" // written "50/s"
	Count   Unit = "count"      // a bare number
	Times   Unit = "times"      // written "3x baseline" or "80% baseline": a multiple of the same figure in the baseline
)

// Bound is a comparison with a constant, such as ">= 99.9%", "<= 100ms", ">= 50/s", "= 0", "<= 3x baseline" or ">= 80% baseline".
type Bound struct {
	Op    string // one of <, <=, =, >=, >
	Value float64
	Unit  Unit
	text  string
}

// ParseBound reads a bound. A missing operator is an error.
func ParseBound(s string) (Bound, error) {
	t := strings.TrimSpace(s)
	b := Bound{text: t}
	for _, op := range []string{"<=", ">=", "<", ">", "="} {
		if rest, ok := strings.CutPrefix(t, op); ok {
			b.Op, t = op, strings.TrimSpace(rest)
			break
		}
	}
	if b.Op == "" {
		return Bound{}, fmt.Errorf("bound %q has no operator; write it as \">= 99.9%%\", \"<= 100ms\", \"<= 3x baseline\" or \"= 0\"", s)
	}
	num := func(x string) error {
		v, err := strconv.ParseFloat(strings.TrimSpace(x), 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
			return fmt.Errorf("bound %q: %q is not a number of zero or more", s, x)
		}
		b.Value = v
		return nil
	}
	switch {
	case strings.HasSuffix(t, "%"):
		b.Unit = Ratio
		if err := num(strings.TrimSuffix(t, "%")); err != nil {
			return Bound{}, err
		}
		// 99.9/100 is more than 0.999 in floating point, and 999 good answers of 1000 must meet "99.9%".
		b.Value = math.Round(b.Value*1e10) / 1e12
		if b.Value > 1 {
			return Bound{}, fmt.Errorf("bound %q: a share is at most 100%%", s)
		}
	case strings.HasSuffix(t, "baseline"):
		b.Unit = Times
		t = strings.TrimSpace(strings.TrimSuffix(t, "baseline"))
		x, times := strings.CutSuffix(t, "x")
		share, part := strings.CutSuffix(t, "%")
		if !times && !part {
			return Bound{}, fmt.Errorf("bound %q: a multiple of the baseline is written \"3x baseline\" or \"80%% baseline\"", s)
		}
		if part {
			x = share
		}
		if err := num(x); err != nil {
			return Bound{}, err
		}
		if part {
			b.Value = math.Round(b.Value*1e10) / 1e12
		}
	case strings.HasSuffix(t, "/s"):
		b.Unit = PerSec
		if err := num(strings.TrimSuffix(t, "/s")); err != nil {
			return Bound{}, err
		}
	default:
		if v, err := strconv.ParseFloat(t, 64); err == nil {
			if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
				return Bound{}, fmt.Errorf("bound %q: %q is not a number of zero or more", s, t)
			}
			b.Unit, b.Value = Count, v
			break
		}
		d, err := time.ParseDuration(t)
		if err != nil || d < 0 {
			return Bound{}, fmt.Errorf("bound %q: %q is no share (99.9%%), time (100ms), rate (50/s), number or multiple (3x baseline)", s, t)
		}
		b.Unit, b.Value = Seconds, d.Seconds()
	}
	return b, nil
}

// Holds reports whether v satisfies the bound. For Times, v is a ratio to the baseline.
func (b Bound) Holds(v float64) bool {
	switch b.Op {
	case "<":
		return v < b.Value
	case "<=":
		return v <= b.Value
	case "=":
		return v == b.Value
	case ">=":
		return v >= b.Value
	case ">":
		return v > b.Value
	}
	return false
}

// Always reports whether every value satisfies the bound, none of those that Ratio, Times and the others count being less than zero: it
// asks for nothing.
func (b Bound) Always() bool {
	return b.Op == ">=" && b.Value == 0 || b.Op == "<=" && b.Unit == Ratio && b.Value == 1
}

// IsZero reports whether the bound was left out.
func (b Bound) IsZero() bool { return b.Op == "" }

func (b Bound) String() string { return b.text }

// MarshalJSON writes the bound as it was written.
func (b Bound) MarshalJSON() ([]byte, error) { return json.Marshal(b.text) }

// UnmarshalJSON reads a bound; the empty string is the zero Bound.
func (b *Bound) UnmarshalJSON(j []byte) error {
	var s string
	if err := json.Unmarshal(j, &s); err != nil {
		return fmt.Errorf("a bound is a string such as \">= 99.9%%\": %w", err)
	}
	if s == "" {
		*b = Bound{}
		return nil
	}
	v, err := ParseBound(s)
	if err != nil {
		return err
	}
	*b = v
	return nil
}
