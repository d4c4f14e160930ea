package load

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/hasvc/gauntlet/harness/plan"
)

func sec(s float64) plan.Duration { return plan.Duration(s * 1e9) }

func TestConstantRateIsExact(t *testing.T) {
	s, err := NewSchedule([]plan.Stage{{From: 200, To: 200}})
	require.NoError(t, err)
	for _, n := range []uint64{0, 1, 199, 200, 1_000_000, 72_000_003} {
		d, ok := s.Due(n)
		require.True(t, ok)
		require.Equal(t, time.Duration(n)*5*time.Millisecond, d, "request %d", n)
	}
	require.EqualValues(t, 1000, s.Count(5*time.Second), "the request due at 5 s is not before it")
	require.EqualValues(t, 1001, s.Count(5*time.Second+1))
}

func TestStagesFollowOneAnother(t *testing.T) {
	// 100 requests in the first stage, 50..400/s over 5 s are 1125, then 400/s.
	s, err := NewSchedule([]plan.Stage{{For: sec(2), From: 50, To: 50}, {For: sec(5), From: 50, To: 400}})
	require.NoError(t, err)
	at := func(n uint64) time.Duration {
		d, ok := s.Due(n)
		require.True(t, ok)
		return d
	}
	assert.Equal(t, 2*time.Second, at(100))
	assert.Equal(t, 7*time.Second, at(1225))
	assert.Equal(t, 7*time.Second+2500*time.Microsecond, at(1226), "the last rate holds")
	assert.InDelta(t, 225, s.Rate(4500*time.Millisecond), 1e-9)
	// Half way up the ramp by area: 50 t + 35 t^2 = 562.5
	assert.InDelta(t, 2+(-50+math.Sqrt(2500+4*35*562.5))/70, (at(662)+at(663)).Seconds()/2, 1e-3)
}

func TestSilenceBeforeAndAfter(t *testing.T) {
	s, err := NewSchedule([]plan.Stage{{For: sec(3)}, {For: sec(1), From: 10, To: 10}, {}})
	require.NoError(t, err)
	d, ok := s.Due(0)
	require.True(t, ok)
	assert.Equal(t, 3*time.Second, d)
	d, ok = s.Due(9)
	require.True(t, ok)
	assert.Equal(t, 3900*time.Millisecond, d)
	_, ok = s.Due(10)
	assert.False(t, ok, "the last rate is zero")
	assert.EqualValues(t, 10, s.Count(time.Hour))
}

// Where one stage ends the next one begins, to the last bit: a request between the two would be due in a stage in which none is.
func TestSilenceAfterARampThatDoesNotAddUpExactly(t *testing.T) {
	s, err := NewSchedule([]plan.Stage{{For: sec(1.1), From: 20, To: 80}, {For: sec(5)}, {From: 50, To: 50}})
	require.NoError(t, err)
	var last time.Duration
	for n := range uint64(100) {
		d, ok := s.Due(n)
		require.True(t, ok)
		require.GreaterOrEqual(t, d, last, "request %d", n)
		last = d
	}
	d, _ := s.Due(55)
	require.InDelta(t, 6.1, d.Seconds(), 1e-6)
	require.EqualValues(t, 55, s.Count(6*time.Second))
}

func TestBadStages(t *testing.T) {
	for name, g := range map[string][]plan.Stage{
		"none":                 nil,
		"negative rate":        {{From: -1, To: 5}},
		"not a number":         {{From: 1, To: math.NaN()}},
		"infinite":             {{From: 1, To: math.Inf(1)}},
		"endless but not last": {{From: 1, To: 1}, {From: 2, To: 2}},
		"negative length":      {{For: sec(-1), From: 1, To: 1}},
		"beyond all time":      {{For: math.MaxInt64, From: 1, To: 1}, {For: 1, From: 1, To: 1}},
	} {
		_, err := NewSchedule(g)
		assert.Error(t, err, name)
	}
	_, err := NewSchedule([]plan.Stage{{From: -1, To: 1}, {From: 1, To: -1}})
	assert.ErrorContains(t, err, "stage 1")
	assert.ErrorContains(t, err, "stage 2", "all errors at once")
}

func TestScheduleProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// As people write them, too: sums of such numbers are whole but for a rounding.
		whole := rapid.Map(rapid.IntRange(1, 200), func(n int) float64 { return float64(n) })
		rate := rapid.OneOf(rapid.Just(0.0), rapid.Float64Range(0.01, 20_000), whole)
		length := rapid.OneOf(rapid.Int64Range(1, 20e9), rapid.Map(rapid.Int64Range(1, 200), func(n int64) int64 { return n * 1e8 }))
		var stages []plan.Stage
		for range rapid.IntRange(1, 5).Draw(t, "stages") {
			from, to := rate.Draw(t, "from"), rate.Draw(t, "to")
			if rapid.Bool().Draw(t, "constant") {
				to = from
			}
			stages = append(stages, plan.Stage{For: plan.Duration(length.Draw(t, "for")), From: from, To: to})
		}
		s, err := NewSchedule(stages)
		require.NoError(t, err)
		sum := 0.0
		for _, g := range s.stages {
			require.Equal(t, sum, g.before, "to the last bit")
			sum = g.after()
		}
		require.Equal(t, sum, s.total)

		var last time.Duration
		n := rapid.Uint64Range(0, 400_000).Draw(t, "n")
		for k := n; k < n+50; k++ {
			d, ok := s.Due(k)
			if !ok {
				require.Zero(t, stages[len(stages)-1].To)
				break
			}
			require.GreaterOrEqual(t, d, last, "request %d is due before the one before it", k)
			last = d
		}
		// What is due before t is the rate integrated to t, numerically and by trapezoids of our own.
		var end time.Duration
		for _, g := range stages {
			end += g.For.D()
		}
		at := time.Duration(rapid.Int64Range(1, int64(end)*2).Draw(t, "t"))
		var area, x float64
		for _, g := range stages {
			len := math.Min(g.For.D().Seconds(), math.Max(0, at.Seconds()-x))
			to := g.From + (g.To-g.From)*len/g.For.D().Seconds()
			area += (g.From + to) / 2 * len
			x += g.For.D().Seconds()
		}
		area += math.Max(0, at.Seconds()-x) * stages[len(stages)-1].To
		require.InDelta(t, math.Ceil(area), float64(s.Count(at)), 1.001)
	})
}
