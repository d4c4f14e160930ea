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
	slowed := func(d time.Duration) func(s *story) {
		return func(s *story) {
			s.each(3*time.Second, 7*time.Second, func(q *record.Request) { q.Done = q.Due + d })
		}
	}
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
		"never felt":          {back(">= 90%", time.Second), nil, Invalid, "what came before kill.undone was not felt, so that there was nothing to come back from: 0 % of 820 requests failed, and half of them took 5ms or less, 5ms in the baseline"},
		"hardly felt":         {back(">= 90%", time.Second), func(s *story) { s.each(5*time.Second, 5040*ms, broken) }, Invalid, "0.975 % of 820 requests failed"},
		"felt by some":        {back(">= 90%", time.Second), func(s *story) { s.each(5*time.Second, 5045*ms, broken) }, Pass, "recovered 0s after kill.undone, wanted within 1s: from then on throughput >= 90% (179.7/s) held in every window of 1s of requests of orders"},
		"felt as slowness":    {back(">= 90%", time.Second), slowed(15*ms + 1), Pass, ""},
		"hardly slower":       {back(">= 90%", time.Second), slowed(15 * ms), Invalid, "half of them took 15ms or less, 5ms in the baseline"},
		"no fault to be felt": {back(">= 90%", time.Second), func(s *story) { s.plan.Control = &plan.Control{NoFault: true} }, Pass, ""},
		"nobody asked": {back(">= 90%", time.Second), func(s *story) {
			s.reqs = slices.DeleteFunc(s.reqs, func(q record.Request) bool { return q.Due >= 2900*ms && q.Due < 7100*ms })
		}, Invalid, "none was sent"},
		"comes back":           {back(">= 90%", time.Second), away, Pass, "recovered 895ms after kill.undone"},
		"comes back late":      {back(">= 90%", 895*ms), away, Fail, "recovered 895ms after kill.undone, wanted within 895ms"},
		"comes back, absolute": {back(">= 180/s", time.Second), away, Pass, ""},
		"stays away":           {back(">= 90%", 3*time.Second), stuck, Fail, "never recovered: in the last window, 4s after kill.undone, throughput >= 90% (179.7/s) was still broken; wanted within 3s; goodput was 0/s at the end, 199.7/s in the baseline; sustained by: nothing in the record says what"},
		"too short to see":     {back(">= 90%", 5*time.Second), stuck, Invalid, "too short to see"},
		"comes back and goes":  {back(">= 90%", 2*time.Second), func(s *story) { s.each(10*time.Second, 10500*ms, broken) }, Fail, "recovered 3.395s"},
		"another window":       {&Metastable{Load: "orders", After: "kill.undone", Within: plan.Duration(700 * ms), Window: plan.Duration(500 * ms), Goodput: bound(t, ">= 90% baseline")}, func(s *story) { s.each(3*time.Second, 7500*ms, broken) }, Pass, "recovered 445ms"},
		"less load after":      {back(">= 50%", time.Second), func(s *story) { s.thin(7*time.Second, 12*time.Second, 8) }, Invalid, "the load was not what it had been: 175/s offered after kill.undone, 199.7/s in the baseline"},
		"a little less load":   {back(">= 50%", time.Second), func(s *story) { slowed(time.Second)(s); s.thin(7*time.Second, 12*time.Second, 11) }, Pass, ""},
		"a tenth less load": {back(">= 50%", time.Second), func(s *story) {
			begin(s, plan.PhaseBaseline, 900*ms)
			slowed(time.Second)(s)
			s.thin(7*time.Second, 12*time.Second, 10)
		}, Pass, ""},
		"more load after, which it does not bear": {back(">= 90%", time.Second), func(s *story) {
			stuck(s)
			s.reqs = append(s.reqs, s.reqs[1400:1600]...)
		}, Invalid, "240/s offered after"},
		"held down by age":                  {back(">= 90%", 3*time.Second), old, Fail, "sustained by: queue age (half of the answers took 15ms or more, 5ms in the baseline; 3 in flight, 1 then)"},
		"not so old":                        {back(">= 90%", 3*time.Second), func(s *story) { old(s); s.each(7*time.Second, 12*time.Second, func(q *record.Request) { q.Done-- }) }, Fail, "nothing in the record says"},
		"held down by amplification":        {back(">= 90%", 3*time.Second), retried(2, 0), Fail, "sustained by: amplification (1.5 calls on orders -> inventory for each request, 1 in the baseline)"},
		"not much amplification":            {back(">= 90%", 3*time.Second), retried(5, 0), Fail, "nothing in the record says"},
		"amplification as long as it lasts": {back(">= 90%", 3*time.Second), retried(2, 5*ms), Fail, "sustained by: amplification (1.5 calls on orders -> inventory for each request, 1 in the baseline)"},
		"amplification since the first of the baseline": {back(">= 90%", 3*time.Second), func(s *story) {
			begin(s, plan.PhaseBaseline, 900*ms)
			retried(2, 0)(s)
		}, Fail, "for each request, 1 in the baseline)"},
		"amplification of ten calls": {back(">= 90%", 3*time.Second), func(s *story) {
			retried(2, 0)(s)
			s.firstCalls(11, 7*time.Second) // the first begins before the baseline
		}, Fail, "sustained by: amplification (1.5 calls on orders -> inventory for each request, 0.01727 in the baseline)"},
		"amplification of nine calls": {back(">= 90%", 3*time.Second), func(s *story) {
			retried(2, 0)(s)
			s.firstCalls(10, 7*time.Second)
		}, Fail, "nothing in the record says"},
		"amplification of health checks": {back(">= 90%", 3*time.Second), func(s *story) {
			retried(2, 0)(s)
			for i := range s.calls {
				s.calls[i].Path = "/grpc.health.v1.Health/Check"
			}
		}, Fail, "nothing in the record says"},
		"a link that was silent before": {back(">= 90%", 3*time.Second), func(s *story) {
			retried(2, 0)(s)
			s.calls = slices.DeleteFunc(s.calls, func(c record.Call) bool { return c.Begin < 7*time.Second })
		}, Fail, "nothing in the record says"},
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
		"back too late, and no load in the end": {&Metastable{Load: "orders", After: "kill.undone", Within: plan.Duration(time.Second), Window: plan.Duration(400 * ms), Goodput: bound(t, ">= 90%")}, func(s *story) {
			s.each(3*time.Second, 9*time.Second, broken)
			s.reqs = s.reqs[:2300]
		}, Fail, "wanted within 1s"},
		"a drifting baseline": {back(">= 90%", time.Second), func(s *story) {
			s.each(1450*ms, 3*time.Second, func(q *record.Request) { q.Done = q.Due + 60*ms })
			slowed(time.Second)(s)
		}, Invalid, "the baseline of orders drifted"},
		"a drifting baseline, and an absolute bound": {back(">= 180/s", time.Second), func(s *story) {
			s.each(1450*ms, 3*time.Second, func(q *record.Request) { q.Done = q.Due + 60*ms })
			slowed(time.Second)(s)
		}, Pass, ""},
		"no such moment": {&Metastable{Load: "orders", After: "cut.undone", Within: 1, Goodput: bound(t, ">= 90%")}, nil, Invalid, "cut.undone never came"},
		"a bad bound":    {back("<= 90%", time.Second), nil, Invalid, "write it as"},
		"a late generator": {back(">= 90%", time.Second), func(s *story) {
			slowed(time.Second)(s)
			s.each(0, 12*time.Second, func(q *record.Request) { q.Sent += 60 * ms; q.Done += 60 * ms })
		}, Invalid, "the generator of orders was late"},
		"a shaky baseline": {back(">= 90%", time.Second), func(s *story) { slowed(time.Second)(s); s.each(0, time.Second, broken) }, Invalid, "was not steady"},
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
			if c.want != Fail {
				require.NotContains(t, f.Summary, "sustained by")
			}
			if name == "metrics that cannot be read" {
				require.NotContains(t, f.Evidence[len(f.Evidence)-1].What, hasvcState, "what was not read is no evidence")
			}
		})
	}
}

// The age of answers is that of the requests due in the last window, and of no others.
func TestTheEvidenceOfAge(t *testing.T) {
	s := newStory()
	s.ask(t, "metastable", &Metastable{Load: "orders", After: "kill.undone", Within: plan.Duration(3 * time.Second), Goodput: bound(t, ">= 90%")})
	s.each(3*time.Second, 12*time.Second, broken)
	s.reqs = append(s.reqs, record.Request{Seq: 2400, Round: 1, Request: "read", Due: 12 * time.Second, Sent: 12 * time.Second, Done: 12*time.Second + 5*ms, Code: 200, OK: true})
	age := func() Evidence {
		f := s.want(t, Fail)
		return f.Evidence[slices.IndexFunc(f.Evidence, func(e Evidence) bool { return e.What == "age of answers, failed ones too" })]
	}
	require.Equal(t, 200, age().Count)
	require.Equal(t, map[string]float64{"p50 in the baseline": 0.005, "p50 in the last window": 0.005, "in flight at the end of the baseline": 1, "in flight at the end": 1}, age().Values)
	s.reqs = s.reqs[:2200]
	s.reqs = append(s.reqs, s.reqs[1400:1600]...) // as many as before, and none in the last window
	require.Zero(t, age().Count)
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

// firstCalls leaves so many of the calls before a moment.
func (s *story) firstCalls(n int, before time.Duration) {
	seen := 0
	s.calls = slices.DeleteFunc(s.calls, func(c record.Call) bool {
		if c.Begin < before {
			seen++
		}
		return c.Begin < before && seen > n
	})
}
