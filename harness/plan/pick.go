package plan

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Pick says which nodes of a selection are meant: all (the zero value), N, N..M (drawn when the plan is made), N%,
// leader, follower (one), majority or minority.
type Pick string

// Words of Pick.
const (
	PickAll      Pick = "all"
	PickLeader   Pick = "leader"
	PickFollower Pick = "follower"
	PickMajority Pick = "majority"
	PickMinority Pick = "minority"
)

// Range returns the ends of N..M, or N twice for N; ok is false for the other forms.
func (p Pick) Range() (lo, hi int, ok bool) {
	a, b, ranged := strings.Cut(string(p), "..")
	lo, err := strconv.Atoi(strings.TrimSpace(a))
	if err != nil {
		return 0, 0, false
	}
	hi = lo
	if ranged {
		if hi, err = strconv.Atoi(strings.TrimSpace(b)); err != nil {
			return 0, 0, false
		}
	}
	return lo, hi, true
}

// Percent returns the share of N% in (0,1].
func (p Pick) Percent() (float64, bool) {
	s, ok := strings.CutSuffix(string(p), "%")
	if !ok {
		return 0, false
	}
	v, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	return v / 100, err == nil
}

// Validate says what is wrong with the form.
func (p Pick) Validate() error {
	switch p {
	case "", PickAll, PickLeader, PickFollower, PickMajority, PickMinority:
		return nil
	}
	if lo, hi, ok := p.Range(); ok {
		if lo < 1 || hi < lo {
			return fmt.Errorf("pick %q: at least 1, and the smaller number first", p)
		}
		return nil
	}
	if v, ok := p.Percent(); ok {
		if !(v > 0 && v <= 1) {
			return fmt.Errorf("pick %q: more than 0%% and at most 100%%", p)
		}
		return nil
	}
	return fmt.Errorf("pick %q: one of all, leader, follower, majority, minority, a number (2), a range (1..3), a share (50%%)", p)
}

// UnmarshalJSON reads a string or a bare number.
func (p *Pick) UnmarshalJSON(b []byte) error {
	var n int
	if json.Unmarshal(b, &n) == nil {
		*p = Pick(strconv.Itoa(n))
		return nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("pick is a word, a number or a range: %w", err)
	}
	*p = Pick(s)
	return nil
}
