package assertions

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// around samples a machine of two cores twice a second from 0 to 12 s: run and others in cores, waited in threads.
func (s *story) around(run, others, waited float64) {
	d := func(x float64) time.Duration { return time.Duration(x * 0.5 * float64(time.Second)) }
	for t := 500 * ms; t <= 12*time.Second; t += 500 * ms {
		s.machine = append(s.machine, record.Surroundings{Round: 1, T: t, For: 500 * ms, Cores: 2, Busy: d(run + others), Own: d(run), Waited: d(waited)})
	}
}

// A service that fails while others take the machine is not shown to be wrong; one that fails by itself is, and what holds in spite of
// its surroundings holds.
func TestSurroundings(t *testing.T) {
	spoilt := func(s *story) {
		for i := range s.reqs {
			if q := &s.reqs[i]; q.Due > 4*time.Second && q.Due < 6*time.Second {
				broken(q)
			}
		}
	}
	for name, c := range map[string]struct {
		spoil          func(*story)
		it, premise    Verdict // premise Fail: there is none
		run            Verdict
		run_, oth, wai float64
		says           string
	}{
		"starved and broken":              {spoilt, Invalid, Invalid, Invalid, 0.9, 1.0, 4, "other programs took 50 % of the machine, and its threads waited 4.4 times"},
		"starved and whole":               {nil, Pass, Pass, Pass, 0.9, 1.0, 4, ""},
		"broken by its own load":          {spoilt, Fail, Pass, Fail, 1.9, 0.1, 20, ""},
		"beside one busy half of a core":  {spoilt, Fail, Pass, Fail, 1.4, 0.5, 5, ""},
		"beside another run":              {spoilt, Invalid, Invalid, Invalid, 1.4, 0.6, 7.5, "other programs took 30 % of the machine, and its threads waited 5.4 times"},
		"it fills the machine itself":     {spoilt, Fail, Pass, Fail, 1.5, 0.4, 12, ""},
		"others take much, nothing waits": {spoilt, Fail, Pass, Fail, 0.5, 1.0, 0.6, ""},
		"not known":                       {spoilt, Fail, Fail, Fail, 0, 0, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory()
			s.ask(t, "slo", SLO{Source: Source{Load: "orders"}, Bounds: Bounds{Success: bound(t, ">= 99%")}})
			if c.spoil != nil {
				c.spoil(s)
			}
			if c.premise != Fail {
				s.around(c.run_, c.oth, c.wai)
			}
			f := s.want(t, c.it, c.says)
			fs, v := s.judge(t)
			assert.Equal(t, c.run.String(), v.String())
			p, ok := fs["surroundings"]
			require.Equal(t, c.premise != Fail, ok)
			if ok {
				assert.Equal(t, c.premise.String(), p.Verdict.String())
				assert.Contains(t, p.Summary, "of the machine")
				assert.InDelta(t, c.oth/2, p.Evidence[0].Values["others"], 1e-9)
			}
			if c.it == Invalid {
				assert.Contains(t, f.Reason, "it would be FAIL")
			}
		})
	}
}

// Findings about safety do not rest on how fast anything was, and samples outside the time under load do not count.
func TestSurroundingsExcuseNoLoss(t *testing.T) {
	s := newStory()
	s.ask(t, "unique-leader", UniqueLeader{Group: "store"})
	s.polls = append(s.polls, record.LeaderPoll{T: 11999 * ms, Round: 1, Group: "store", Member: "store-3", Term: 2, Claims: true, Leader: "store-3"})
	s.around(0.9, 1.0, 40)
	s.want(t, Fail, "store-1, store-3")

	s = newStory()
	s.around(1, 0, 1)
	for _, at := range []time.Duration{13 * time.Second, 14 * time.Second} {
		s.machine = append(s.machine, record.Surroundings{Round: 1, T: at, For: time.Second, Cores: 2, Busy: 2 * time.Second, Waited: 99 * time.Second})
	}
	fs, _ := s.judge(t)
	assert.Equal(t, "other programs took 0 % of the machine under load", fs["surroundings"].Summary, fmt.Sprint(fs["surroundings"].Evidence))
}

// A service was starved by a wait of starvedWait or more behind others that took more than foreignShare, in samples that lie within the time under load. Where a sample
// says nothing of that nobody is excused.
func TestTheBoundsOfStarvation(t *testing.T) {
	second := func(from, others, waited time.Duration) record.Surroundings {
		return record.Surroundings{Round: 1, T: from + time.Second, For: time.Second, Cores: 2, Busy: time.Second + others, Own: time.Second, Waited: waited}
	}
	look := func(s *story, rows ...record.Surroundings) (string, *Evidence) {
		s.machine = rows
		return surroundings(s.write(t).Rounds[0])
	}
	for _, c := range []struct {
		others, waited time.Duration
		starved        bool
	}{
		{time.Second, 2400 * ms, true}, {time.Second - 1, 2400 * ms, false}, {time.Second, 2400*ms - 1, false}, {500 * ms, 9 * time.Second, false}, {500*ms + 1, 9 * time.Second, true},
	} {
		why, seen := look(newStory(), second(time.Second, c.others, c.waited))
		require.Equal(t, c.starved, why != "", "%v", c)
		require.NotNil(t, seen)
	}
	// The baseline begins 1 ns after the round.
	_, seen := look(newStory(), second(0, 0, 0), second(1, 0, 0), second(11*time.Second, 0, 0), second(11*time.Second+1, 0, 0))
	require.Equal(t, 2, seen.Count)
	require.Equal(t, &Window{1, 12 * time.Second}, seen.Window)
	one := second(time.Second, 0, 0)
	one.Cores = 1
	_, seen = look(newStory(), one)
	require.Equal(t, map[string]float64{"cores": 1, "run": 1, "others": 0, "waited per second run": 0}, seen.Values)

	for name, spoil := range map[string]func(*record.Surroundings){
		"no cores": func(r *record.Surroundings) { r.Cores = 0 },
		"no time":  func(r *record.Surroundings) { r.For = 0 },
		"idle":     func(r *record.Surroundings) { r.Own = 0 },
	} {
		row := second(time.Second, time.Second, 9*time.Second)
		spoil(&row)
		why, seen := look(newStory(), row)
		require.Empty(t, why, name)
		require.Nil(t, seen, name)
	}
	for phase, is := range map[string]bool{plan.PhaseBaseline: false, plan.PhaseRecovery: true} {
		s := newStory()
		s.drop(func(e record.Event) bool { return e.Phase == phase })
		why, seen := look(s, second(time.Second, time.Second, 9*time.Second), second(13*time.Second, time.Second, 9*time.Second))
		require.Equal(t, is, why != "", "without %s", phase)
		if is {
			require.Equal(t, 2, seen.Count, "a round that was cut off was under load to its end")
		}
	}
}
