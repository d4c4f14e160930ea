package plane

import (
	"math"
	"testing"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/stretchr/testify/require"
)

// TestJitterHasItsDistribution compares mean and spread of many draws with those of the distribution.
func TestJitterHasItsDistribution(t *testing.T) {
	const n = 200_000
	for _, c := range []struct {
		distribution string
		sd, least    float64 // in units of jitter; mean is 0
	}{
		{"", 1 / math.Sqrt(3), -1}, {"uniform", 1 / math.Sqrt(3), -1}, {"normal", 1, -4}, {"pareto", 0.83, -2.0 / 3},
	} {
		d := cluster.Delay{Time: 100 * time.Millisecond, Jitter: 10 * time.Millisecond, Distribution: c.distribution}
		var sum, squares, least float64
		for i := uint64(0); i < n; i++ {
			v := float64(delayOf(d, 7, i)-d.Time) / float64(d.Jitter)
			sum, squares, least = sum+v, squares+v*v, min(least, v)
		}
		mean := sum / n
		require.InDelta(t, 0, mean, 0.05, c.distribution)
		require.InDelta(t, c.sd, math.Sqrt(squares/n-mean*mean), 0.06, c.distribution)
		require.GreaterOrEqual(t, least, c.least-1e-6, c.distribution)
	}
}

func TestJitterIsPureAndNeverNegative(t *testing.T) {
	d := cluster.Delay{Time: time.Millisecond, Jitter: 5 * time.Millisecond, Distribution: "normal"}
	differ := 0
	for i := uint64(0); i < 1000; i++ {
		require.Equal(t, delayOf(d, 1, i), delayOf(d, 1, i))
		require.GreaterOrEqual(t, delayOf(d, 1, i), time.Duration(0))
		if delayOf(d, 1, i) != delayOf(d, 2, i) {
			differ++
		}
	}
	require.Greater(t, differ, 500, "another seed draws otherwise")
}

func TestADelayIsValidated(t *testing.T) {
	require.NoError(t, validateDelay(cluster.Delay{Time: time.Millisecond}))
	for _, d := range []cluster.Delay{{}, {Time: -1}, {Time: 1, Jitter: -1}, {Time: maxDelay + 1}, {Time: 1, Distribution: "gauss"}} {
		require.Error(t, validateDelay(d), "%+v", d)
	}
}
