package load

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
)

// Schedule says when each request of a load is due: a pure function of its stages. With C(t) the rate integrated from
// the start to t, request n (from 0) is due at the first moment after which C exceeds n.
type Schedule struct {
	stages []stretch
	end    float64 // seconds: where the last stage ends and its rate begins to hold
	total  float64 // C(end)
	hold   float64 // requests per second from end on
}

// stretch is a stage in place: it begins at second at, when before requests have come due.
type stretch struct {
	at, before  float64
	length      float64 // seconds
	from, slope float64 // requests per second, and how much more of them each second
}

// area is how many requests come due in the first so many seconds of the stretch.
func (g stretch) area(length float64) float64 { return g.from*length + g.slope/2*length*length }

// after is how many requests have come due when it ends.
func (g stretch) after() float64 { return g.before + g.area(g.length) }

// maxRate is beyond what one machine can send and keep a record of.
const maxRate = 1_000_000

// NewSchedule checks the stages, each error of each stage.
func NewSchedule(stages []plan.Stage) (*Schedule, error) {
	if len(stages) == 0 {
		return nil, errors.New("a load needs a rate or stages")
	}
	var errs []error
	s := &Schedule{}
	var at time.Duration // summed as whole nanoseconds, so that long runs do not drift
	for i, g := range stages {
		last := i == len(stages)-1
		bad := func(format string, a ...any) {
			errs = append(errs, fmt.Errorf("stage %d: %s", i+1, fmt.Sprintf(format, a...)))
		}
		for _, r := range []float64{g.From, g.To} {
			if math.IsNaN(r) || r < 0 || r > maxRate {
				bad("a rate of %v/s; it is from 0 to 1,000,000 a second", r)
			}
		}
		if g.For < 0 || (g.For == 0 && !last) {
			bad("it lasts %v; only the last stage may leave out how long it lasts", g.For)
		}
		if length := g.For.D().Seconds(); length > 0 {
			s.stages = append(s.stages, stretch{at: at.Seconds(), before: s.total, length: length, from: g.From, slope: (g.To - g.From) / length})
			s.total = s.stages[len(s.stages)-1].after() // and no other sum: a rounding apart, a request would be due between the two
		}
		at += g.For.D()
		s.hold = g.To
	}
	s.end = at.Seconds()
	return s, errors.Join(errs...)
}

// Changed is the schedule with other rates from t on: those of planned, changed by c. What came due before t stays as it
// was, to the nanosecond. Changed by {Times: 1}, it is back at the plan.
func (s *Schedule) Changed(t time.Duration, planned *Schedule, c plan.RateChange) (*Schedule, error) {
	x := t.Seconds()
	n := &Schedule{end: x, total: s.integral(t)}
	for _, g := range append(slices.Clip(s.stages), stretch{at: s.end, before: s.total, length: math.Inf(1), from: s.hold}) {
		if g.at < x {
			g.length = min(g.length, x-g.at)
			n.stages = append(n.stages, g)
		}
	}
	if len(c.Stages) > 0 {
		next, err := NewSchedule(c.Stages)
		if err != nil {
			return nil, err
		}
		n.append(next, 0, 1)
		return n, nil
	}
	if top := planned.max(x) * c.Times; !(c.Times >= 0) || top > maxRate {
		return nil, fmt.Errorf("%v times the planned rate is %v/s; at most %d a second", c.Times, top, maxRate)
	}
	n.append(planned, x, c.Times)
	return n, nil
}

// append goes on as o does from second x of it, with times its rates.
func (s *Schedule) append(o *Schedule, x, times float64) {
	for _, g := range o.stages {
		skip := max(0, x-g.at)
		if g.length -= skip; g.length <= 0 {
			continue
		}
		g.from = (g.from + g.slope*skip) * times
		g.slope *= times
		g.at, g.before = s.end, s.total
		s.stages = append(s.stages, g)
		s.end += g.length
		s.total += g.area(g.length)
	}
	s.hold = o.hold * times
}

// max is the highest rate from second x on.
func (s *Schedule) max(x float64) float64 {
	top := s.hold
	for _, g := range s.stages {
		if g.at+g.length > x {
			top = max(top, g.from, g.from+g.slope*g.length)
		}
	}
	return top
}

// Stages are the rates from t on.
func (s *Schedule) Stages(t time.Duration) []plan.Stage {
	n := &Schedule{}
	n.append(s, t.Seconds(), 1)
	var out []plan.Stage
	for _, g := range n.stages {
		out = append(out, plan.Stage{For: plan.Duration(seconds(g.length)), From: g.from, To: g.from + g.slope*g.length})
	}
	return append(out, plan.Stage{From: n.hold, To: n.hold})
}

// Due is when request n is due, as an offset from the start of the load. ok is false when it never is: the last rate
// is zero.
func (s *Schedule) Due(n uint64) (t time.Duration, ok bool) {
	x := float64(n)
	i := sort.Search(len(s.stages), func(i int) bool { return s.stages[i].after() > x })
	if i < len(s.stages) {
		g := s.stages[i]
		return seconds(g.at + g.solve(x-g.before)), true
	}
	if s.hold == 0 {
		return 0, false
	}
	return seconds(s.end + (x-s.total)/s.hold), true
}

// solve returns the second of the stretch at which m requests have come due, for 0 <= m < area.
func (g stretch) solve(m float64) float64 {
	if g.slope == 0 { // by a division alone, as where the last rate holds: a stage that is cut moves no due time
		return math.Min(m/g.from, g.length)
	}
	// The quadratic slope/2 t^2 + from t = m in the form that does not cancel.
	d := g.from + math.Sqrt(math.Max(0, g.from*g.from+2*g.slope*m))
	if d == 0 {
		return 0
	}
	return math.Min(2*m/d, g.length)
}

// Rate is the number of requests a second at t.
func (s *Schedule) Rate(t time.Duration) float64 {
	x := t.Seconds()
	for _, g := range s.stages {
		if x < g.at+g.length {
			return g.from + g.slope*(x-g.at)
		}
	}
	return s.hold
}

// Count is how many requests are due before t.
func (s *Schedule) Count(t time.Duration) uint64 {
	// Start from the integral and correct by Due itself, so that the two never disagree by a rounding.
	n := uint64(math.Max(0, s.integral(t)))
	before := func(n uint64) bool { d, ok := s.Due(n); return ok && d < t }
	for before(n) {
		n++
	}
	for n > 0 && !before(n-1) {
		n--
	}
	return n
}

func (s *Schedule) integral(t time.Duration) float64 {
	x := t.Seconds()
	for _, g := range s.stages {
		if y := x - g.at; y < g.length {
			return g.before + g.area(y)
		}
	}
	return s.total + s.hold*(x-s.end)
}

func seconds(s float64) time.Duration {
	if s >= math.MaxInt64/1e9 {
		return math.MaxInt64
	}
	return time.Duration(math.Round(s * 1e9))
}
