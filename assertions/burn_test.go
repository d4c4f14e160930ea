package assertions

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

func TestErrorBudget(t *testing.T) {
	// 1000 requests are due in recovery; each 2 s have 400, each 500 ms have 100.
	ask := func(objective, during string, burn ...Burn) *SLO {
		a := &SLO{Source: Source{Load: "orders"}, During: during}
		a.Objective, a.Burn = bound(t, objective), burn
		return a
	}
	burn := func(long, short time.Duration, rate string) Burn {
		return Burn{plan.Duration(long), plan.Duration(short), bound(t, rate)}
	}
	rate := func(s string) Burn { return burn(2*time.Second, 500*ms, s) }
	breakN := func(from time.Duration, n int) func(*story) {
		return func(s *story) { s.each(from, from+time.Duration(n)*5*ms, broken) }
	}
	// Clients that wait ask less: from 10 s on five a second instead of 200.
	few := func(bad bool) func(*story) {
		return func(s *story) {
			s.reqs = slices.DeleteFunc(s.reqs, func(q record.Request) bool { return q.Due >= 10*time.Second && q.Due%(200*ms) != 0 })
			if bad {
				s.each(10*time.Second, 12*time.Second, broken)
			}
		}
	}
	for name, c := range map[string]struct {
		ask   *SLO
		spoil func(*story)
		want  Verdict
		says  string
	}{
		"all of the budget":     {ask(">= 99%", "recovery"), breakN(8*time.Second, 10), Pass, "100 % of the error budget of >= 99% spent (1000 requests of orders in recovery)"},
		"more than the budget":  {ask(">= 99%", "recovery"), breakN(8*time.Second, 11), Fail, "110 % of the error budget"},
		"none of it":            {ask(">= 99.9%", "recovery"), nil, Pass, "0 % of the error budget"},
		"too few":               {ask(">= 99%", "recovery"), func(s *story) { s.reqs = s.reqs[:1499] }, Invalid, "budget >= 99% needs 100 samples and there are 99"},
		"just enough":           {ask(">= 99%", "recovery"), func(s *story) { s.reqs = s.reqs[:1500] }, Pass, ""},
		"burning at the bound":  {ask(">= 99%", "recovery", rate("<= 10")), breakN(9*time.Second, 40), Pass, "400 % of the error budget of >= 99% spent; burn rate over 2s and 500ms at most 10, wanted <= 10"},
		"burning beyond":        {ask(">= 99%", "recovery", rate("<= 10")), breakN(9*time.Second, 41), Fail, "burn rate over 2s and 500ms at most 10.25, wanted <= 10"},
		"the bound is left out": {ask(">= 99%", "recovery", rate("< 10")), breakN(9*time.Second, 40), Fail, ""},
		"burning shortly":       {ask(">= 99%", "recovery", rate("<= 10")), breakN(9*time.Second, 30), Pass, "at most 7.5, wanted"},
		"burning slowly for long": {ask(">= 99%", "recovery", rate("<= 10")), func(s *story) {
			for i := range 20 {
				breakN(7500*ms+time.Duration(i)*200*ms, 4)(s)
			}
		}, Pass, "at most 10, wanted"},
		"before the long window is full": {ask(">= 99%", "recovery", rate("<= 10")), breakN(7*time.Second, 100), Pass, ""},
		"the second of two":              {ask(">= 99%", "recovery", rate("<= 99"), rate("<= 10")), breakN(9*time.Second, 41), Fail, "at most 10.25, wanted <= 99; burn rate over 2s and 500ms at most 10.25, wanted <= 10"},
		"windows longer than the phase":  {ask(">= 99%", "recovery", burn(6*time.Second, time.Second, "<= 10")), nil, Invalid, "burn rate over 6s and 1s: no moment has 10 samples in both windows"},
		"windows with too few":           {ask(">= 99%", "recovery", burn(2*time.Second, 45*ms, "<= 10")), nil, Invalid, "no moment has 10 samples in both windows"},
		"windows with just enough":       {ask(">= 99%", "recovery", burn(2*time.Second, 50*ms, "<= 10")), nil, Pass, "at most 0"},
		"a low rate takes more":          {ask(">= 99%", "recovery", burn(2*time.Second, 495*ms, "<= 1")), nil, Invalid, "no moment has 100 samples"},
		"a failure and too few":          {ask(">= 99%", "recovery", burn(6*time.Second, time.Second, "<= 10"), rate("<= 10")), breakN(9*time.Second, 41), Fail, "no moment has"},
		"another phase burns":            {ask(">= 99%", "recovery", rate("<= 10")), breakN(3*time.Second, 800), Pass, "0 % of the error budget"},
		"all the time":                   {ask(">= 99%", "", rate("<= 10")), breakN(6*time.Second, 200), Fail, "burn rate over 2s and 500ms at most 50"},
		"with a bound beside":            {func() *SLO { a := ask(">= 99%", "recovery"); a.P50 = bound(t, "<= 4ms"); return a }(), nil, Fail, "p50 5ms, wanted <= 4ms; 0 % of the error budget"},
		"no sane objective":              {ask(">= 100%", "recovery"), nil, Invalid, "has no budget"},

		"few samples that fail":       {ask(">= 99%", "recovery", rate("<= 10")), few(true), Invalid, "wanted <= 10, but at 11.6s a window has less than 10 samples"},
		"few samples that do not":     {ask(">= 99%", "recovery", rate("<= 10")), few(false), Pass, ""},
		"few that fail after a blaze": {ask(">= 99%", "recovery", rate("<= 10")), func(s *story) { breakN(9*time.Second, 41)(s); few(true)(s) }, Fail, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory()
			s.ask(t, "slo", c.ask)
			if c.spoil != nil {
				c.spoil(s)
			}
			s.want(t, c.want, c.says)
		})
	}
	s := newStory()
	s.ask(t, "slo", ask(">= 99%", "recovery", rate("<= 10")))
	breakN(9*time.Second, 41)(s)
	f := s.want(t, Fail)
	require.Equal(t, 4.1, f.Evidence[0].Values["budget spent"])
	require.Equal(t, Evidence{What: "burn rate over 2s and 500ms at its highest", File: "requests/orders.bin", Window: &Window{7200 * ms, 9200 * ms}, Values: map[string]float64{"burn rate": 10.25}}, f.Evidence[1])
}

// An occurrence that has no room for the long window is not judged, which is no matter as long as nothing failed in it.
func TestBurnInAShortOccurrence(t *testing.T) {
	s := newStory()
	a := &SLO{Source: Source{Load: "orders"}, During: "kill"}
	a.Objective, a.Burn = bound(t, ">= 99%"), []Burn{{plan.Duration(2 * time.Second), plan.Duration(500 * ms), bound(t, "<= 10")}}
	s.ask(t, "slo", a)
	s.plan.Rounds[0].Faults[0].Occurrences = make([]plan.Occurrence, 2)
	second := func(end time.Duration) {
		s.drop(func(e record.Event) bool { return e.Occurrence == 2 })
		for at, kinds := range map[time.Duration][]record.EventKind{9 * time.Second: {record.FaultStarted, record.FaultInEffect}, end: {record.FaultUndone, record.FaultGone}} {
			for _, k := range kinds {
				s.event(record.Event{T: at, Kind: k, Fault: "kill", Occurrence: 2})
			}
		}
	}
	second(10 * time.Second)
	s.want(t, Pass)
	s.each(9*time.Second, 9*time.Second+5*ms, broken)
	s.want(t, Invalid, "at most 0, wanted <= 10, but some failed from 9s to 10s, which has no room for a window of 2s")
	second(11 * time.Second) // just as long
	s.want(t, Pass, "at most 0, wanted <= 10")
	s.each(4*time.Second, 5*time.Second, broken)
	s.want(t, Fail)
}

func TestBudgetParameters(t *testing.T) {
	s := Scope{Plan: &newStory().plan}
	good := func() *SLO {
		a := &SLO{Source: Source{Load: "orders"}}
		a.Objective, a.Burn = bound(t, ">= 99%"), []Burn{{plan.Duration(2 * time.Second), plan.Duration(500 * ms), bound(t, "<= 10")}}
		return a
	}
	require.NoError(t, good().Validate(s))
	for says, spoil := range map[string]func(*SLO){
		"budget is missing":                   func(a *SLO) { a.Objective = plan.Bound{} },
		`budget "<= 99%"`:                     func(a *SLO) { a.Objective = bound(t, "<= 99%") },
		`budget ">= 100%"`:                    func(a *SLO) { a.Objective = bound(t, ">= 100%") },
		`budget ">= 0%"`:                      func(a *SLO) { a.Objective = bound(t, ">= 0%") },
		`budget ">= 9/s"`:                     func(a *SLO) { a.Objective = bound(t, ">= 9/s") },
		"burn[0]: long 500ms must":            func(a *SLO) { a.Burn[0].Long = a.Burn[0].Short },
		"burn[0]: long 2s must":               func(a *SLO) { a.Burn[0].Short = 0 },
		`burn[0]: rate ">= 10"`:               func(a *SLO) { a.Burn[0].Rate = bound(t, ">= 10") },
		`burn[0]: rate "<= 10/s"`:             func(a *SLO) { a.Burn[0].Rate = bound(t, "<= 10/s") },
		`burn[0]: rate "<= 0"`:                func(a *SLO) { a.Burn[0].Rate = bound(t, "<= 0") },
		"that all answers fail would keep it": func(a *SLO) { a.Burn[0].Rate = bound(t, "<= 100") },
		"no bound is given":                   func(a *SLO) { a.Budget = Budget{} },
	} {
		x := good()
		spoil(x)
		require.ErrorContains(t, x.Validate(s), says)
	}
}

// Both windows lie within the stretch: the first moment counts that has the long one behind it, and the last one before the end.
func TestBurnWithinItsStretch(t *testing.T) {
	b := Budget{Objective: bound(t, ">= 90%")}
	w := Burn{Long: 20, Short: 10, Rate: bound(t, "<= 2")}
	var ss []sample
	for i := range 30 {
		ss = append(ss, sample{due: time.Duration(i), latency: 1, ok: i >= 20})
	}
	require.Equal(t, burnt{true, 10, 19, 0}, b.burn(w, ss, 0, 30), "all of the first 20 failed")
	require.Equal(t, burnt{true, 10, 19, 0}, b.burn(w, ss, 0, 20))
	require.False(t, b.burn(w, ss, 0, 19).judged)
	require.Equal(t, burnt{true, 9, 20, 0}, b.burn(w, ss, 1, 30), "one good answer in the short window")
	// In two stretches the worse counts, whichever comes first.
	for _, ws := range [][]Window{{{0, 25}, {25, 50}}, {{25, 50}, {0, 25}}} {
		var two []sample
		for i := range 50 {
			two = append(two, sample{due: time.Duration(i), latency: 1, ok: i >= 20})
		}
		parts, _, _ := Budget{Objective: b.Objective, Burn: []Burn{w}}.judge(two, ws)
		require.Equal(t, Fail, parts[1].verdict)
		require.Equal(t, 10.0, parts[1].value)
	}
	// Of two that are as bad the first is shown.
	var two []sample
	for i := range 50 {
		two = append(two, sample{due: time.Duration(i), latency: 1, ok: i%25 >= 20})
	}
	worst, doubt := b.worst(w, two, []Window{{0, 25}, {25, 50}})
	require.Equal(t, burnt{true, 10, 19, 0}, worst)
	require.Empty(t, doubt)
	// What is due when a stretch ends is of the next one.
	w.Long, w.Short = plan.Duration(20*ms), plan.Duration(10*ms)
	_, doubt = b.worst(w, []sample{{due: 10 * ms}}, []Window{{0, 10 * ms}, {10 * ms, 20 * ms}})
	require.Equal(t, "some failed from 10ms to 20ms, which has no room for a window of 20ms", doubt)
}

// The highest burn rate, and the first moment in doubt, are those of evaluating both windows at every nanosecond.
func TestBurnAgainstNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dues := rapid.SliceOfN(rapid.IntRange(0, 50), 0, 120).Draw(t, "dues")
		slices.Sort(dues)
		var ss []sample
		for _, d := range dues {
			ss = append(ss, sample{due: time.Duration(d), latency: 1, ok: rapid.Bool().Draw(t, "ok")})
		}
		objective, err := plan.ParseBound(">= 90%")
		require.NoError(t, err)
		rate, err := plan.ParseBound(rapid.SampledFrom([]string{"<= 2", "<= 7"}).Draw(t, "rate"))
		require.NoError(t, err)
		w := Burn{Rate: rate}
		w.Short = plan.Duration(rapid.IntRange(1, 20).Draw(t, "short"))
		w.Long = w.Short + plan.Duration(rapid.IntRange(1, 20).Draw(t, "more"))
		to := time.Duration(rapid.IntRange(1, 60).Draw(t, "to"))
		ss = slices.DeleteFunc(ss, func(s sample) bool { return s.due >= to })
		b := Budget{Objective: objective}
		got := b.burn(w, ss, 0, to)
		var want burnt
		for at := w.Long.D() - 1; at < to; at++ {
			worst := math.Inf(1)
			enough := true
			for _, length := range []time.Duration{w.Long.D(), w.Short.D()} {
				n, bad := 0, 0
				for _, s := range ss {
					if s.due > at-length && s.due <= at {
						n++
						if !s.ok {
							bad++
						}
					}
				}
				enough = enough && n >= b.need(w)
				worst = min(worst, math.Round(float64(bad)/float64(max(1, n))/0.1*1e9)/1e9)
			}
			if enough && (!want.judged || worst > want.worst) {
				want.worst, want.judged = worst, true
			}
			if !enough && want.thin == 0 && worst > rate.Value {
				want.thin = at
			}
		}
		if got.judged != want.judged || got.worst != want.worst || got.thin != want.thin {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	})
}
