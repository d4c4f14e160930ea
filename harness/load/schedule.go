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
	end    time.Duration // where the last stage ends and its rate begins to hold
	total  float64       // C(end)
	hold   float64       // requests per second from end on
}

// stretch is a stage in place: it begins at at, when before requests have come due. Moments are whole nanoseconds, so that
// one stretch ends exactly where the next one begins.
type stretch struct {
	at, length  time.Duration
	before      float64
	from, slope float64 // requests per second, and how much more of them each second
}

// area is how many requests come due in the first so much of the stretch.
func (g stretch) area(length time.Duration) float64 {
	x := length.Seconds()
	return g.from*x + g.slope/2*x*x
}

// rate is the number of requests a second so much after its beginning.
func (g stretch) rate(length time.Duration) float64 { return g.from + g.slope*length.Seconds() }

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
		if g.For.D() > math.MaxInt64-s.end {
			bad("it ends more than %v after the start", time.Duration(math.MaxInt64))
			break
		}
		if length := g.For.D(); length > 0 {
			s.stages = append(s.stages, stretch{at: s.end, before: s.total, length: length, from: g.From, slope: (g.To - g.From) / length.Seconds()})
			s.total = s.stages[len(s.stages)-1].after() // and no other sum: a rounding apart, a request would be due between the two
			s.end += length
		}
		s.hold = g.To
	}
	return s, errors.Join(errs...)
}

// Changed is the schedule with other rates from t on: those of planned, changed by c. What came due before t stays as it
// was, to the nanosecond. Changed by {Times: 1}, it is back at the plan.
func (s *Schedule) Changed(t time.Duration, planned *Schedule, c plan.RateChange) (*Schedule, error) {
	n := &Schedule{end: t, total: s.integral(t)}
	for _, g := range append(slices.Clip(s.stages), stretch{at: s.end, before: s.total, length: math.MaxInt64, from: s.hold}) {
		if g.at < t {
			g.length = min(g.length, t-g.at)
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
	if top := planned.max(t) * c.Times; !(c.Times >= 0) || top > maxRate {
		return nil, fmt.Errorf("%v times the planned rate is %v/s; at most %d a second", c.Times, top, maxRate)
	}
	n.append(planned, t, c.Times)
	return n, nil
}

// append goes on as o does from t on, with times its rates.
func (s *Schedule) append(o *Schedule, t time.Duration, times float64) {
	for _, g := range o.stages {
		skip := max(0, t-g.at)
		if g.length -= skip; g.length <= 0 {
			continue
		}
		g.from = g.rate(skip) * times
		g.slope *= times
		g.at, g.before = s.end, s.total
		s.stages = append(s.stages, g)
		s.end += g.length
		s.total += g.area(g.length)
	}
	s.hold = o.hold * times
}

// max is the highest rate from t on.
func (s *Schedule) max(t time.Duration) float64 {
	top := s.hold
	for _, g := range s.stages {
		if g.at+g.length > t {
			top = max(top, g.from, g.rate(g.length))
		}
	}
	return top
}

// Stages are the rates from t on.
func (s *Schedule) Stages(t time.Duration) []plan.Stage {
	n := &Schedule{}
	n.append(s, t, 1)
	var out []plan.Stage
	for _, g := range n.stages {
		out = append(out, plan.Stage{For: plan.Duration(g.length), From: g.from, To: g.rate(g.length)})
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
		return later(g.at, g.solve(x-g.before)), true
	}
	if s.hold == 0 {
		return 0, false
	}
	return later(s.end, (x-s.total)/s.hold), true
}

// solve returns the second of the stretch at which m requests have come due, for 0 <= m < area.
func (g stretch) solve(m float64) float64 {
	if g.slope == 0 { // by a division alone, as where the last rate holds: a stage that is cut moves no due time
		return math.Min(m/g.from, g.length.Seconds())
	}
	// The quadratic slope/2 t^2 + from t = m in the form that does not cancel.
	d := g.from + math.Sqrt(math.Max(0, g.from*g.from+2*g.slope*m))
	if d == 0 {
		return 0
	}
	return math.Min(2*m/d, g.length.Seconds())
}

// Rate is the number of requests a second at t.
func (s *Schedule) Rate(t time.Duration) float64 {
	for _, g := range s.stages {
		if t < g.at+g.length {
			return g.rate(t - g.at)
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
	for _, g := range s.stages {
		if t < g.at+g.length {
			return g.before + g.area(t-g.at)
		}
	}
	return s.total + s.hold*(t-s.end).Seconds()
}

// later is so many seconds after at, or the last moment there is.
func later(at time.Duration, seconds float64) time.Duration {
	if ns := math.Round(seconds * 1e9); ns < float64(math.MaxInt64-at) {
		return at + time.Duration(ns)
	}
	return math.MaxInt64
}
