package assertions

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

func TestMetastable(t *testing.T) {
	back := func(goodput string, within time.Duration) *Metastable {
		return &Metastable{Load: "orders", After: "kill.undone", Within: plan.Duration(within), Goodput: bound(t, goodput)}
	}
	stuck := func(s *story) { s.each(3*time.Second, 12*time.Second, broken) }
	// The last bad one is due at 7.995 s; the window of 1 s bears 20 of 200.
	away := func(s *story) { s.each(3*time.Second, 8*time.Second, broken) }
	old := func(s *story) {
		stuck(s)
		s.each(7*time.Second, 12*time.Second, func(q *record.Request) { q.Done = q.Due + 15*ms + 1 })
	}
	retried := func(n int, k time.Duration) func(s *story) { // calls for each request: 1, and n in n-1 of n in recovery
		return func(s *story) {
			stuck(s)
			s.meta.Nodes = append(s.meta.Nodes, record.Node{Name: "orders-1", Service: "orders"}, record.Node{Name: "inventory-1", Service: "inventory"})
			for i, q := range s.reqs {
				c := record.Call{From: "orders-1", To: "inventory-1", Begin: q.Due + k, Path: "/x"}
				s.calls = append(s.calls, c)
				if q.Due > 7*time.Second && i%n == 0 {
					s.calls = append(s.calls, c)
				}
			}
		}
	}
	breaker := func(v float64) func(s *story) {
		return func(s *story) {
			stuck(s)
			s.scrape = &fakeMetrics{interval: 200 * ms}
			for i, x := range []float64{0, v} {
				s.scrape.gauge(hasvcState, fmt.Sprint("orders-", i+1), map[string]string{"service": "inventory"}, 0, 13*time.Second, func(time.Duration) float64 { return x })
			}
		}
	}
	for name, c := range map[string]struct {
		ask   *Metastable
		spoil func(*story)
		want  Verdict
		says  string
	}{
		"was never away":       {back(">= 90%", time.Second), nil, Pass, "recovered 0s after kill.undone, wanted within 1s: from then on throughput >= 90% (179.7/s) held in every window of 1s of requests of orders"},
		"comes back":           {back(">= 90%", time.Second), away, Pass, "recovered 895ms after kill.undone"},
		"comes back late":      {back(">= 90%", 895*ms), away, Fail, "recovered 895ms after kill.undone, wanted within 895ms"},
		"comes back, absolute": {back(">= 180/s", time.Second), away, Pass, ""},
		"stays away":           {back(">= 90%", 3*time.Second), stuck, Fail, "never recovered: in the last window, 4s after kill.undone, throughput >= 90% (179.7/s) was still broken; wanted within 3s; goodput was 0/s at the end, 199.7/s in the baseline; sustained by: nothing in the record says what"},
		"too short to see":     {back(">= 90%", 5*time.Second), stuck, Invalid, "too short to see"},
		"comes back and goes":  {back(">= 90%", 2*time.Second), func(s *story) { s.each(10*time.Second, 10500*ms, broken) }, Fail, "recovered 3.395s"},
		"another window":       {&Metastable{Load: "orders", After: "kill.undone", Within: plan.Duration(700 * ms), Window: plan.Duration(500 * ms), Goodput: bound(t, ">= 90% baseline")}, func(s *story) { s.each(3*time.Second, 7500*ms, broken) }, Pass, "recovered 445ms"},
		"less load after":      {back(">= 50%", time.Second), func(s *story) { s.thin(7*time.Second, 12*time.Second, 8) }, Invalid, "the load was not what it had been: 175/s offered after kill.undone, 199.7/s in the baseline"},
		"a little less load":   {back(">= 50%", time.Second), func(s *story) { s.thin(7*time.Second, 12*time.Second, 11) }, Pass, ""},
		"more load after, which it does not bear": {back(">= 90%", time.Second), func(s *story) {
			stuck(s)
			s.reqs = append(s.reqs, s.reqs[1400:1600]...)
		}, Invalid, "240/s offered after"},
		"held down by age":           {back(">= 90%", 3*time.Second), old, Fail, "sustained by: queue age (half of the answers took 15ms or more, 5ms in the baseline; 3 in flight, 1 then)"},
		"not so old":                 {back(">= 90%", 3*time.Second), func(s *story) { old(s); s.each(7*time.Second, 12*time.Second, func(q *record.Request) { q.Done-- }) }, Fail, "nothing in the record says"},
		"held down by amplification": {back(">= 90%", 3*time.Second), retried(2, 0), Fail, "sustained by: amplification (1.5 calls on orders -> inventory for each request, 1 in the baseline)"},
		"not much amplification":     {back(">= 90%", 3*time.Second), retried(5, 0), Fail, "nothing in the record says"},
		"calls that were dropped": {back(">= 90%", 3*time.Second), func(s *story) {
			retried(2, 0)(s)
			s.event(record.Event{T: time.Second, Kind: record.ObserveEnd, Data: []byte(`{"dropped":1}`)})
		}, Fail, "nothing in the record says"},
		"held down by a breaker":       {back(">= 90%", 3*time.Second), breaker(2), Fail, "sustained by: breaker of inventory in orders-2 open"},
		"held down by a half-open one": {back(">= 90%", 3*time.Second), breaker(1), Fail, "sustained by: breaker of inventory in orders-2 half-open"},
		"closed breakers":              {back(">= 90%", 3*time.Second), breaker(0), Fail, "nothing in the record says"},
		"metrics that cannot be read":  {back(">= 90%", 3*time.Second), func(s *story) { breaker(2)(s); s.scrape.err = fmt.Errorf("torn") }, Fail, "nothing in the record says"},
		"held down by two things": {back(">= 90%", 3*time.Second), func(s *story) {
			retried(2, 0)(s)
			s.each(7*time.Second, 12*time.Second, func(q *record.Request) { q.Done = q.Due + 16*ms })
		}, Fail, "in the baseline); queue age"},
		"no such moment": {&Metastable{Load: "orders", After: "cut.undone", Within: 1, Goodput: bound(t, ">= 90%")}, nil, Invalid, "cut.undone never came"},
		"a bad bound":    {back("<= 90%", time.Second), nil, Invalid, "write it as"},
		"a late generator": {back(">= 90%", time.Second), func(s *story) {
			s.each(0, 12*time.Second, func(q *record.Request) { q.Sent += 60 * ms; q.Done += 60 * ms })
		}, Invalid, "the generator of orders was late"},
		"a shaky baseline": {back(">= 90%", time.Second), func(s *story) { s.each(0, time.Second, broken) }, Invalid, "was not steady"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory()
			s.ask(t, "metastable", c.ask)
			if c.spoil != nil {
				c.spoil(s)
			}
			f := s.want(t, c.want, c.says)
			if c.want == Fail && name == "held down by a breaker" {
				require.Equal(t, "breaker of inventory in orders-2 open", f.Evidence[len(f.Evidence)-1].Detail)
			}
		})
	}
}

// thin removes each nth request of those that are due in [from, to).
func (s *story) thin(from, to time.Duration, n int) {
	s.reqs = slices.DeleteFunc(s.reqs, func(q record.Request) bool { return q.Due >= from && q.Due < to && q.Seq%uint64(n) == 0 })
}

func TestMetastableParameters(t *testing.T) {
	s := Scope{Plan: &newStory().plan}
	good := func() *Metastable {
		return &Metastable{Load: "orders", After: "kill.undone", Within: 1, Goodput: bound(t, ">= 90%")}
	}
	require.NoError(t, good().Validate(s))
	for says, spoil := range map[string]func(*Metastable){
		"load is missing":           func(a *Metastable) { a.Load = "" },
		`no load is called "none"`:  func(a *Metastable) { a.Load = "none" },
		"after is missing":          func(a *Metastable) { a.After = "" },
		`after "kill": write it as`: func(a *Metastable) { a.After = "kill" },
		`no fault is called "cut"`:  func(a *Metastable) { a.After = "cut.gone" },
		"within is missing":         func(a *Metastable) { a.Within = 0 },
		"window is negative":        func(a *Metastable) { a.Window = -1 },
		"goodput is missing":        func(a *Metastable) { a.Goodput = plan.Bound{} },
		`goodput "<= 90%"`:          func(a *Metastable) { a.Goodput = bound(t, "<= 90%") },
		`goodput ">= 9ms"`:          func(a *Metastable) { a.Goodput = bound(t, ">= 9ms") },
	} {
		x := good()
		spoil(x)
		require.ErrorContains(t, x.Validate(s), says)
	}
}
