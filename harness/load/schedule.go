package load

import (
	"errors"
	"fmt"
	"math"
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
	at, before     float64
	length         float64 // seconds
	from, to, area float64
}

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
			if math.IsNaN(r) || r < 0 || r > 1e6 {
				bad("a rate of %v/s; it is from 0 to 1,000,000 a second", r)
			}
		}
		if g.For < 0 || (g.For == 0 && !last) {
			bad("it lasts %v; only the last stage may leave out how long it lasts", g.For)
		}
		length := g.For.D().Seconds()
		area := (g.From + g.To) / 2 * length
		s.stages = append(s.stages, stretch{at: at.Seconds(), before: s.total, length: length, from: g.From, to: g.To, area: area})
		s.total += area
		at += g.For.D()
		s.hold = g.To
	}
	s.end = at.Seconds()
	return s, errors.Join(errs...)
}

// Due is when request n is due, as an offset from the start of the load. ok is false when it never is: the last rate
// is zero.
func (s *Schedule) Due(n uint64) (t time.Duration, ok bool) {
	x := float64(n)
	i := sort.Search(len(s.stages), func(i int) bool { return s.stages[i].before+s.stages[i].area > x })
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
	a := (g.to - g.from) / g.length
	// The quadratic a/2 t^2 + from t = m in the form that does not cancel; with a = 0 it is m / from.
	d := g.from + math.Sqrt(math.Max(0, g.from*g.from+2*a*m))
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
			return g.from + (g.to-g.from)*(x-g.at)/g.length
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
			return g.before + g.from*y + (g.to-g.from)/g.length*y*y/2
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
