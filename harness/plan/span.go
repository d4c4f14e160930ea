package plan

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Span is a duration, or a range of durations from which one is drawn when the plan is made: "2s" or "500ms..4500ms".
type Span struct {
	Lo, Hi Duration // equal once drawn
}

// ParseSpan reads a Span.
func ParseSpan(s string) (Span, error) {
	lo, hi, ranged := strings.Cut(s, "..")
	a, err := time.ParseDuration(strings.TrimSpace(lo))
	if err != nil {
		return Span{}, fmt.Errorf("%q is no time; write it as 2s, 150ms or 0s..2s", s)
	}
	b := a
	if ranged {
		if b, err = time.ParseDuration(strings.TrimSpace(hi)); err != nil {
			return Span{}, fmt.Errorf("%q is no range of times; write it as 0s..2s", s)
		}
	}
	if a < 0 || b < a {
		return Span{}, fmt.Errorf("%q: a time is not negative and a range goes from the smaller to the larger", s)
	}
	return Span{Duration(a), Duration(b)}, nil
}

// D is the drawn value, the lower end of a range that was not drawn.
func (s Span) D() time.Duration { return time.Duration(s.Lo) }

func (s Span) String() string {
	if s.Lo == s.Hi {
		return s.Lo.String()
	}
	return s.Lo.String() + ".." + s.Hi.String()
}

// MarshalJSON writes "2s" or "500ms..4.5s".
func (s Span) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// UnmarshalJSON reads what MarshalJSON writes.
func (s *Span) UnmarshalJSON(b []byte) error {
	var t string
	if err := json.Unmarshal(b, &t); err != nil {
		return fmt.Errorf("a time is a string such as \"1.5s\": %w", err)
	}
	v, err := ParseSpan(t)
	if err != nil {
		return err
	}
	*s = v
	return nil
}
