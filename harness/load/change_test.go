package load

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/hasvc/gauntlet/harness/cluster/replicas/replicastest"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// Whatever changes when: what was due before stays due then, due times never go back, and a load that is given back runs at the
// rate of its plan.
func TestAChangeTouchesOnlyWhatFollows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Float64Range(0.1, 300)
		stage := rapid.Custom(func(t *rapid.T) plan.Stage {
			return plan.Stage{For: sec(rapid.Float64Range(0.1, 3).Draw(t, "for")), From: rate.Draw(t, "from"), To: rate.Draw(t, "to")}
		})
		planned, err := NewSchedule(rapid.SliceOfN(stage, 1, 4).Draw(t, "stages"))
		require.NoError(t, err)
		s, at := planned, time.Duration(0)
		for range rapid.IntRange(1, 5).Draw(t, "changes") {
			at += time.Duration(rapid.Int64Range(1, 4e9).Draw(t, "after"))
			c := plan.RateChange{Times: rapid.SampledFrom([]float64{0, 0.5, 1, 3}).Draw(t, "times")}
			if rapid.Bool().Draw(t, "staged") {
				c = plan.RateChange{Stages: rapid.SliceOfN(stage, 1, 3).Draw(t, "rates")}
			}
			n, err := s.Changed(at, planned, c)
			require.NoError(t, err)
			before := s.Count(at)
			require.Equal(t, before, n.Count(at))
			for i := range before {
				old, _ := s.Due(i)
				now, ok := n.Due(i)
				require.True(t, ok)
				require.Equal(t, old, now, "request %d", i)
			}
			last := at
			for i := before; i < before+50; i++ {
				due, ok := n.Due(i)
				if !ok {
					break
				}
				require.GreaterOrEqual(t, due, last)
				last = due
			}
			x := at + time.Duration(rapid.Int64Range(0, 5e9).Draw(t, "then"))
			if c.Stages == nil {
				require.InDelta(t, c.Times*planned.Rate(x), n.Rate(x), 1e-6)
			} else {
				want, _ := NewSchedule(c.Stages)
				require.InDelta(t, want.Rate(x-at), n.Rate(x), 1e-6)
			}
			s = n
		}
	})
}

// At 27 ns, 12 and 15 ns after one another: as seconds their sum is a rounding more, and the rate that has ended would go on.
func TestAChangeAtOnceIsTheRateAtOnce(t *testing.T) {
	planned, err := NewSchedule(constant(1))
	require.NoError(t, err)
	s, err := planned.Changed(12, planned, plan.RateChange{})
	require.NoError(t, err)
	assert.Zero(t, s.Rate(12))
	s, err = s.Changed(27, planned, plan.RateChange{Times: 1})
	require.NoError(t, err)
	assert.InDelta(t, 1, s.Rate(27), 1e-9)
	assert.Zero(t, s.Rate(26))
}

func TestAChangeBeyondWhatCanBeSent(t *testing.T) {
	s, err := NewSchedule(constant(500_000))
	require.NoError(t, err)
	_, err = s.Changed(time.Second, s, plan.RateChange{Times: 3})
	assert.ErrorContains(t, err, "at most 1000000 a second")
	_, err = s.Changed(time.Second, s, plan.RateChange{Stages: []plan.Stage{{From: -1, To: 2}}})
	assert.ErrorContains(t, err, "a rate of -1/s")
}

func TestALoadIsChangedAndGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := replicastest.New(t)
		top.Service("api", 1, answer(200, ""))
		mem := newMemory()
		g, err := New(web(10), Env{Cluster: top, Record: mem, RunID: "run7"})
		require.NoError(t, err)
		g.alarm = plainAlarm
		_, err = g.Change(plan.RateChange{Times: 3})
		require.ErrorContains(t, err, "not running")
		done := make(chan error)
		go func() { done <- g.Run(withTimeout(t, 4*time.Second-1)) }()

		time.Sleep(time.Second - time.Millisecond) // within the wait for the request that is due at 1 s
		back, err := g.Change(plan.RateChange{Times: 10})
		require.NoError(t, err)
		_, err = g.Change(plan.RateChange{Times: 2})
		require.ErrorContains(t, err, "already")
		time.Sleep(time.Second)
		synctest.Wait()
		p := g.Progress()
		assert.InDelta(t, 100, p.Rate, 1e-9)
		assert.InDelta(t, 10, p.PlannedRate, 1e-9)
		assert.EqualValues(t, 20, p.Planned)
		assert.Equal(t, p.Due, p.Sent, "the load sends what is due")
		require.NoError(t, back())
		require.Error(t, back(), "once")
		require.NoError(t, <-done)
		time.Sleep(3 * time.Second)
		p = g.Progress()
		assert.True(t, p.Ended)
		assert.Equal(t, plan.Duration(4*time.Second-1), p.At, "its time stands still")
		assert.EqualValues(t, 130, p.Due)
		assert.Equal(t, p.Due, p.Sent, "nothing is due after the end")
		_, err = g.Change(plan.RateChange{Times: 2})
		require.ErrorContains(t, err, "not running")

		perSecond := map[time.Duration]int{}
		for _, r := range mem.reqs {
			perSecond[(r.Due+time.Millisecond)/time.Second]++
			require.Equal(t, r.Due, r.Sent, "a load that was asleep for the old rate wakes for the new one")
		}
		assert.Equal(t, map[time.Duration]int{0: 10, 1: 100, 2: 10, 3: 10}, perSecond)
		require.Len(t, mem.evs, 3)
		var up, down record.RateChange
		require.Equal(t, record.LoadRate, mem.evs[0].Kind)
		require.NoError(t, json.Unmarshal(mem.evs[0].Data, &up))
		require.NoError(t, json.Unmarshal(mem.evs[1].Data, &down))
		assert.Equal(t, record.RateChange{At: time.Second - time.Millisecond, Before: 10, Stages: constant(100), Planned: constant(10)}, up)
		assert.Equal(t, constant(10), down.Stages)
		assert.Contains(t, mem.evs[0].Evidence, "from 10/s to 100/s")
	})
}
