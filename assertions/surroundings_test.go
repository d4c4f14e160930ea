package assertions

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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
		"beside one busy half of a core":  {spoilt, Fail, Pass, Fail, 1.0, 0.5, 5, ""},
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
