package assertions

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// overloaded is a story in which kill brings the load to 800 a second, of which 200 are served and the rest refused with
// Retry-After. Creates, one of four, have priority, and all of them are served.
func overloaded() *story {
	s := newStory()
	s.plan.Loads[0].Requests[0].Headers = map[string]string{"x-priority": "High"}
	for i := range s.reqs {
		if due := s.reqs[i].Due; due < 3*time.Second || due >= 7*time.Second {
			continue
		}
		s.reqs[i].Request = "create"
		for k := range 3 {
			q := s.reqs[i]
			q.Seq += uint64(100000 * (k + 1))
			q.Request, q.OK, q.Code, q.RetryAfter, q.Error = "read", false, 503, true, "503"
			s.reqs = append(s.reqs, q)
		}
	}
	return s
}

func TestShed(t *testing.T) {
	a := func(change func(a *Shed)) *Shed {
		x := &Shed{Load: "orders", During: "kill"}
		change(x)
		return x
	}
	goodput := func(s string) *Shed { return a(func(a *Shed) { a.Goodput = bound(t, s) }) }
	p95 := func(s string) *Shed { return a(func(a *Shed) { a.AcceptP95 = bound(t, s) }) }
	high := func(s string) *Shed { return a(func(a *Shed) { a.High = bound(t, s) }) }
	retryAfter := a(func(a *Shed) { a.RetryAfter = true })
	spoilt := func(from, to time.Duration, change func(*record.Request)) func(*story) {
		return func(s *story) {
			s.each(from, to, func(q *record.Request) {
				if q.OK {
					change(q)
				}
			})
		}
	}
	for name, c := range map[string]struct {
		ask   *Shed
		spoil func(*story)
		want  Verdict
		says  string
	}{
		"all of it": {a(func(a *Shed) {
			a.Goodput, a.AcceptP50, a.AcceptP95, a.High, a.RetryAfter = bound(t, ">= 95% baseline"), bound(t, "<= 1x baseline"), bound(t, "<= 10ms"), bound(t, ">= 99%"), true
		}), nil, Pass, "goodput 200/s, 100.172 % of the baseline's 199.7/s, wanted >= 95% baseline; accepted-p50 5ms, 1.00x the baseline's 5ms, wanted <= 1x baseline; accepted-p95 5ms, wanted <= 10ms; success of high priority 100 % of 800 requests, wanted >= 99%; all of 2400 answers of 429 and 503 carry Retry-After (800/s offered, 200/s good in kill)"},
		"goodput at the bound":                    {goodput(">= 200/s"), nil, Pass, ""},
		"goodput below":                           {goodput(">= 200.1/s"), nil, Fail, "goodput 200/s, wanted >= 200.1/s"},
		"goodput collapses":                       {goodput(">= 80% baseline"), spoilt(3*time.Second, 4*time.Second, broken), Fail, "goodput 150/s"},
		"accepted at the bound":                   {p95("<= 5ms"), spoilt(3*time.Second, 3200*ms, func(q *record.Request) { q.Done += time.Second }), Pass, "accepted-p95 5ms"},
		"accepted are slow":                       {p95("<= 5ms"), spoilt(3*time.Second, 3205*ms, func(q *record.Request) { q.Done += time.Second }), Fail, "accepted-p95 1.005s"},
		"accepted are slow, relative":             {p95("<= 3x baseline"), spoilt(3*time.Second, 4*time.Second, func(q *record.Request) { q.Done += 11 * ms }), Fail, "accepted-p95 16ms, 3.20x the baseline's 5ms"},
		"accepted after a stall of the generator": {p95("<= 5ms"), spoilt(3*time.Second, 3205*ms, func(q *record.Request) { q.Sent += 40 * ms; q.Done += 40 * ms }), Invalid, "accepted-p95 45ms, wanted <= 5ms: the generator was late here, by up to 40ms"},
		"a baseline that took no time":            {p95("<= 3x baseline"), spoilt(0, 3*time.Second, func(q *record.Request) { q.Done = q.Due }), Invalid, "in the baseline accepted-p95 is 0"},
		"refused slowly": {p95("<= 5ms"), func(s *story) {
			s.each(3*time.Second, 7*time.Second, func(q *record.Request) {
				if !q.OK {
					q.Done += time.Second
				}
			})
		}, Pass, ""},
		"just enough accepted":       {p95("<= 5ms"), spoilt(4*time.Second, 7*time.Second, broken), Pass, "accepted-p95 5ms"},
		"one too few accepted":       {p95("<= 5ms"), spoilt(3995*ms, 7*time.Second, broken), Invalid, "accepted-p95 <= 5ms needs 200 good answers and there are 199 in kill"},
		"too few accepted for p99":   {a(func(a *Shed) { a.AcceptP99 = bound(t, "<= 1s") }), nil, Invalid, "accepted-p99 <= 1s needs 1000 good answers and there are 800 in kill"},
		"too few before":             {a(func(a *Shed) { a.AcceptP99 = bound(t, "<= 3x baseline") }), nil, Invalid, "there are 579 in baseline"},
		"high priority at the bound": {high(">= 99%"), spoilt(3*time.Second, 3040*ms, broken), Pass, "success of high priority 99 % of 800 requests"},
		"high priority is shed":      {high(">= 99%"), spoilt(3*time.Second, 3045*ms, broken), Fail, "success of high priority 98.875 %"},
		"too few of high priority":   {high(">= 99%"), func(s *story) { s.each(3480*ms, 7*time.Second, func(q *record.Request) { q.Request = "read" }) }, Invalid, "needs 100 requests of high priority and there are 96"},
		"just enough of it":          {high(">= 99%"), func(s *story) { s.each(3500*ms, 7*time.Second, func(q *record.Request) { q.Request = "read" }) }, Pass, "success of high priority 100 % of 100 requests"},
		"all are of high priority":   {high(">= 99%"), func(s *story) { s.each(3*time.Second, 7*time.Second, func(q *record.Request) { q.Request = "create" }) }, Invalid, "there is nothing to prefer them to"},
		"named ones":                 {a(func(a *Shed) { a.High, a.HighIDs = bound(t, ">= 99%"), []string{"read"} }), nil, Fail, "success of high priority 0 % of 2400 requests"},
		"nobody has priority":        {high(">= 99%"), func(s *story) { s.plan.Loads[0].Requests[0].Headers = nil }, Invalid, "no request of the load has the header X-Priority: high"},
		"one without Retry-After":    {retryAfter, func(s *story) { s.reqs[len(s.reqs)-1].RetryAfter = false }, Fail, "1 of 2400 answers of 429 and 503 carry no Retry-After"},
		"429 without Retry-After":    {retryAfter, func(s *story) { q := &s.reqs[len(s.reqs)-1]; q.RetryAfter, q.Code = false, 429 }, Fail, "1 of 2400 answers"},
		"500 without Retry-After":    {retryAfter, func(s *story) { q := &s.reqs[len(s.reqs)-1]; q.RetryAfter, q.Code = false, 500 }, Pass, "all of 2399 answers"},
		"nothing was refused": {retryAfter, func(s *story) {
			s.each(3*time.Second, 7*time.Second, func(q *record.Request) {
				if !q.OK {
					q.Code = 0
				}
			})
		}, Invalid, "no answer was 429 or 503"},
		"no overload": {goodput(">= 100/s"), func(s *story) { s.reqs = s.reqs[:2400] }, Invalid, "the load was not too much: 200/s offered, 200/s good in kill"},
		"hardly an overload": {goodput(">= 100/s"), func(s *story) {
			s.reqs = s.reqs[:2400]
			s.each(3*time.Second, 3195*ms, broken) // 39 of 800
		}, Invalid, "the load was not too much"},
		"just an overload": {goodput(">= 100/s"), func(s *story) {
			s.reqs = s.reqs[:2400]
			s.each(3*time.Second, 3200*ms, broken) // 40 of 800
		}, Pass, "goodput 190/s"},
		"no load at all": {goodput(">= 100/s"), func(s *story) {
			s.reqs = slices.DeleteFunc(s.reqs, func(q record.Request) bool { return q.Due >= 3*time.Second && q.Due < 7*time.Second })
		}, Invalid, "0/s offered"},
		"no such fault": {a(func(a *Shed) { a.During, a.RetryAfter = "cut", true }), nil, Invalid, "cut never began"},
		"no sane bound": {goodput(">= 3ms"), nil, Invalid, "write it as"},
		"late generator": {goodput(">= 100/s"), func(s *story) {
			s.each(0, 12*time.Second, func(q *record.Request) { q.Sent += 60 * ms; q.Done += 60 * ms })
		}, Invalid, "the generator of orders was late"},
		"drifting, and goodput is relative": {goodput(">= 80% baseline"), spoilt(1500*ms, 3*time.Second, func(q *record.Request) { q.Done += 100 * ms }), Invalid, "the baseline of orders drifted"},
		"drifting, and nothing is relative": {p95("<= 10ms"), spoilt(1500*ms, 3*time.Second, func(q *record.Request) { q.Done += 100 * ms }), Pass, ""},
		"drifting":                          {p95("<= 90x baseline"), spoilt(1500*ms, 3*time.Second, func(q *record.Request) { q.Done += 100 * ms }), Invalid, "the baseline of orders drifted"},
		"a fault unproved":                  {goodput(">= 100/s"), func(s *story) { s.drop(func(e record.Event) bool { return e.Kind == record.FaultInEffect }) }, Invalid, "was not proved"},
	} {
		t.Run(name, func(t *testing.T) {
			s := overloaded()
			s.ask(t, "shed", c.ask)
			if c.spoil != nil {
				c.spoil(s)
			}
			s.want(t, c.want, c.says)
		})
	}
	s := overloaded()
	s.ask(t, "shed", a(func(a *Shed) {
		a.Goodput, a.High, a.AcceptP95 = bound(t, ">= 95% baseline"), bound(t, ">= 99%"), bound(t, "<= 1s")
	}))
	s.each(3*time.Second, 7*time.Second, func(q *record.Request) {
		if q.Seq == 100600 {
			q.RetryAfter = false
		}
	})
	f := s.want(t, Pass)
	require.Equal(t, map[string]float64{"offered": 800, "goodput": 200, "good": 800, "without retry-after": 1, "seconds": 4, "status 503": 2400, "accepted-p95": 0.005, "high": 800, "high, good": 800}, f.Evidence[0].Values)
	require.Equal(t, 3200, f.Evidence[0].Count)
	require.InDelta(t, 199.655, f.Evidence[1].Values["goodput"], 0.001)
}

// Where nothing is broken nobody asks for a steady baseline.
func TestShedWithoutAGoodBaseline(t *testing.T) {
	s := overloaded()
	s.plan.Rounds[0].Faults = nil
	s.drop(func(e record.Event) bool { return e.Fault != "" })
	s.each(0, 3*time.Second, broken)
	s.ask(t, "shed", &Shed{Load: "orders", During: "fault", Goodput: bound(t, ">= 80% baseline")})
	s.want(t, Invalid, "in the baseline goodput is 0")
}

func TestShedParameters(t *testing.T) {
	p := &overloaded().plan
	p.Loads = append(p.Loads, plan.Load{Name: "other", Requests: []plan.Request{{ID: "x"}}})
	s := Scope{Plan: p}
	good := func() *Shed {
		return &Shed{Load: "orders", During: "kill", Goodput: bound(t, ">= 80% baseline"), High: bound(t, ">= 99%")}
	}
	require.NoError(t, good().Validate(s))
	require.NoError(t, (&Shed{Load: "other", During: "fault", High: bound(t, ">= 99%"), HighIDs: []string{"x"}, AcceptP50: bound(t, "< 3x baseline")}).Validate(s))
	require.NoError(t, (&Shed{Load: "other", During: "fault", RetryAfter: true}).Validate(s))
	for says, spoil := range map[string]func(*Shed){
		"load is missing":                      func(a *Shed) { a.Load = "" },
		"during is missing":                    func(a *Shed) { a.During = "" },
		"during: the baseline is what":         func(a *Shed) { a.During = "baseline" },
		`no phase or fault is called "cut"`:    func(a *Shed) { a.During = "cut" },
		"nothing is asked":                     func(a *Shed) { a.Goodput, a.High = plan.Bound{}, plan.Bound{} },
		`goodput ">= 80%"`:                     func(a *Shed) { a.Goodput = bound(t, ">= 80%") },
		`accepted-p99 "<= 3/s"`:                func(a *Shed) { a.AcceptP99 = bound(t, "<= 3/s") },
		`accepted-p90 "= 3ms"`:                 func(a *Shed) { a.AcceptP90 = bound(t, "= 3ms") },
		`high ">= 3/s"`:                        func(a *Shed) { a.High = bound(t, ">= 3/s") },
		"high: no request of the load":         func(a *Shed) { a.Load = "other" },
		`request of load orders is called "y"`: func(a *Shed) { a.HighIDs = []string{"create", "y"} },
	} {
		x := good()
		spoil(x)
		require.ErrorContains(t, x.Validate(s), says)
	}
}

// A stretch without length has no rates, whichever of the two it is.
func TestShedWithoutLength(t *testing.T) {
	for name, spoil := range map[string]func(*record.Event){
		"the fault took no time": func(e *record.Event) {
			if e.Fault != "" {
				e.T = 3 * time.Second
			}
		},
		"the fault began with the baseline": func(e *record.Event) {
			if e.Kind == record.FaultStarted {
				e.T = 50 * ms
			}
		},
	} {
		s := overloaded()
		for i := range s.events {
			spoil(&s.events[i])
		}
		f := (&Shed{Load: "orders", During: "kill", Goodput: bound(t, ">= 100/s")}).Judge(t.Context(), &s.plan, s.write(t).Rounds[0])
		require.Equal(t, Invalid, f.Verdict, name)
		require.Equal(t, "the window has no length", f.Reason, name)
	}
}
