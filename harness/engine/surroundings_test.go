package engine

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/record"
)

// metered is a cluster whose node has waited a second more at each reading; some fail, and the last ends the watching.
type metered struct {
	cluster.Cluster
	n, last int
	fails   map[int]bool
	end     context.CancelFunc
}

func (m *metered) Usage(ctx context.Context) (map[string]cluster.Usage, error) {
	m.n++
	if m.n == m.last {
		m.end()
		return nil, ctx.Err()
	}
	if m.fails[m.n] {
		return nil, errors.New("one of them cannot be read")
	}
	return map[string]cluster.Usage{"a-1": {CPU: time.Duration(m.n) * time.Minute, Waited: time.Duration(m.n) * time.Second},
		cluster.Engine: {CPU: time.Duration(m.n) * time.Hour}}, nil
}

// Moments at which nothing could be read take none of the time between away: the sample after them goes back to the one before.
func TestTheWatchGoesOnAfterAnError(t *testing.T) {
	p := planOf()
	w, err := record.Create(t.TempDir()+"/run", record.Meta{Tool: "test"}, p)
	require.NoError(t, err)
	rd := newRound(Job{Plan: p, Record: w}, p.Rounds[0])
	w.SetRound(1)
	w.Event(record.Event{Kind: record.RoundBegin})
	ctx, end := context.WithCancel(t.Context())
	defer end()
	rd.cluster = &metered{last: 6, fails: map[int]bool{1: true, 3: true}, end: end}
	rd.watchSurroundings(ctx)
	require.NoError(t, w.Close())
	run, err := record.Open(w.Dir())
	require.NoError(t, err)
	rows, err := run.Rounds[0].Surroundings()
	require.NoError(t, err)
	require.Len(t, rows, 2)
	require.Equal(t, 2*time.Second, rows[0].Waited, "from the second reading to the fourth")
	require.Greater(t, rows[0].For, surroundEvery)
	require.Equal(t, time.Second, rows[1].Waited)
	require.InDelta(t, time.Minute, rows[1].Own, float64(30*time.Second), "the engine's time is not the run's")
	require.Zero(t, rows[1].Busy, "nor that of others")
	require.Equal(t, "what the machine did beside the run could not be read at 2 of 5 moments: one of them cannot be read", has(run, record.Warning).Evidence)
}

func TestBusyTime(t *testing.T) {
	got, err := busyTime("cpu  100 2 30 1200 34 0 5 0 0 0\ncpu0 1 1 1 1 1 0 0 0 0 0\n")
	require.NoError(t, err)
	require.Equal(t, 137*10*time.Millisecond, got, "without idle and iowait")
	for _, bad := range []string{"", "intr 1 2 3 4 5\n", "cpu 1 2 3 x 5 6 7 8\n"} {
		_, err := busyTime(bad)
		require.Error(t, err, bad)
	}
	got, err = BusyTime()
	require.NoError(t, err)
	require.NotZero(t, got)
}
