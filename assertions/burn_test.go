package assertions

import (
	"fmt"
	"math"
	"slices"
	"strings"
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
		"the second of two":        {ask(">= 99%", "recovery", rate("<= 99"), rate("<= 10")), breakN(9*time.Second, 41), Fail, "at most 10.25, wanted <= 99; burn rate over 2s and 500ms at most 10.25, wanted <= 10"},
		"windows with too few":     {ask(">= 99%", "recovery", burn(2*time.Second, 45*ms, "<= 10")), nil, Invalid, "no moment has 10 samples in both windows"},
		"windows with just enough": {ask(">= 99%", "recovery", burn(2*time.Second, 50*ms, "<= 10")), nil, Pass, "at most 0"},
		"a low rate takes more":    {ask(">= 99%", "recovery", burn(2*time.Second, 495*ms, "<= 1")), nil, Invalid, "no moment has 100 samples"},
		"a failure and too few":    {ask(">= 99%", "recovery", burn(2*time.Second, 45*ms, "<= 10"), rate("<= 10")), breakN(9*time.Second, 41), Fail, "no moment has"},
		"another phase burns":      {ask(">= 99%", "recovery", rate("<= 10")), breakN(3*time.Second, 800), Pass, "0 % of the error budget"},
		"all the time":             {ask(">= 99%", "", rate("<= 10")), breakN(6*time.Second, 200), Fail, "burn rate over 2s and 500ms at most 50"},
		"with a bound beside":      {func() *SLO { a := ask(">= 99%", "recovery"); a.P50 = bound(t, "<= 4ms"); return a }(), nil, Fail, "p50 5ms, wanted <= 4ms; 0 % of the error budget"},
		"no sane objective":        {ask(">= 100%", "recovery"), nil, Invalid, "has no budget"},

		// A window reaches back before the phase. What failed there is not the phase's.
		"at once":                       {ask(">= 99%", "recovery", rate("<= 10")), breakN(7*time.Second, 100), Fail, "burn rate over 2s and 500ms at most 25, wanted <= 10"},
		"most of the first window":      {ask(">= 95%", "kill", rate("<= 5")), breakN(3*time.Second, 280), Fail, "burn rate over 2s and 500ms at most 14, wanted <= 5"},
		"at once, at the bound":         {ask(">= 99%", "recovery", rate("<= 10")), breakN(7*time.Second, 40), Pass, "at most 10, wanted <= 10"},
		"only before and after":         {ask(">= 99%", "kill", rate("<= 5")), func(s *story) { breakN(2830*ms, 34)(s); breakN(7*time.Second, 400)(s) }, Pass, "at most 0, wanted <= 5"},
		"the rest of what began before": {ask(">= 99%", "recovery", rate("<= 10")), breakN(3*time.Second, 800+40), Pass, "at most 10, wanted"},
		"more than the rest":            {ask(">= 99%", "recovery", rate("<= 10")), breakN(3*time.Second, 800+41), Fail, "at most 10.25, wanted"},
		"windows longer than the phase": {ask(">= 99%", "recovery", burn(6*time.Second, time.Second, "<= 10")), nil, Pass, "burn rate over 6s and 1s at most 0, wanted <= 10"},
		"nothing in the phase":          {ask(">= 99%", "recovery", rate("<= 10")), func(s *story) { s.reqs = s.reqs[:1400] }, Invalid, "burn rate over 2s and 500ms needs 10 samples and there are 0"},
		"little in the phase":           {ask(">= 99%", "recovery", rate("<= 10")), func(s *story) { s.reqs = s.reqs[:1410] }, Pass, "budget >= 99% needs 100 samples and there are 10; burn rate over 2s and 500ms at most 0, wanted <= 10"},
		"a few of them that fail":       {ask(">= 99%", "recovery", rate("<= 10")), func(s *story) { breakN(7*time.Second, 41)(s); s.reqs = s.reqs[:1499] }, Fail, "budget >= 99% needs 100 samples and there are 99; burn rate over 2s and 500ms at most 11.2, wanted <= 10"},
		"next to nothing in the phase":  {ask(">= 99%", "recovery", rate("<= 10")), func(s *story) { s.reqs = s.reqs[:1409] }, Invalid, "needs 10 samples and there are 9"},

		// Where the load begins there is nothing to reach back into.
		"the load begins":                {ask(">= 99%", "baseline", rate("<= 10")), nil, Pass, "at most 0, wanted <= 10"},
		"no other phase":                 {ask(">= 99%", "baseline", rate("<= 10")), func(s *story) { s.drop(func(e record.Event) bool { return e.Phase == plan.PhaseRecovery }) }, Pass, "at most 0, wanted <= 10"},
		"one fails as the load begins":   {ask(">= 99%", "baseline", rate("<= 10")), breakN(0, 1), Pass, "at most 0, wanted <= 10"},
		"many fail as the load begins":   {ask(">= 99%", "baseline", rate("<= 10")), breakN(0, 40), Invalid, "but at 10ms the load had not run for 2s, and so many had failed by then that it may have been more"},
		"and it goes on":                 {ask(">= 99%", "baseline", rate("<= 10")), breakN(0, 500), Fail, "at most 100, wanted <= 10"},
		"the load has just run for long": {ask(">= 99%", "baseline", rate("<= 10")), breakN(1900*ms, 41), Fail, "at most 10.25, wanted <= 10"},
		"longer than the load":           {ask(">= 99%", "recovery", burn(13*time.Second, time.Second, "<= 10")), nil, Invalid, "burn rate over 13s and 1s: no moment has 13s under load behind it"},

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

// An occurrence that is shorter than the long window is judged by one that reaches back before it, and what failed in another
// occurrence counts in it too.
func TestBurnInAShortOccurrence(t *testing.T) {
	s := newStory()
	a := &SLO{Source: Source{Load: "orders"}, During: "kill"}
	a.Objective, a.Burn = bound(t, ">= 99%"), []Burn{{plan.Duration(2 * time.Second), plan.Duration(500 * ms), bound(t, "<= 10")}}
	s.ask(t, "slo", a)
	s.plan.Rounds[0].Faults[0].Occurrences = make([]plan.Occurrence, 2)
	second := func(from, to time.Duration) {
		s.drop(func(e record.Event) bool { return e.Occurrence == 2 })
		for at, kinds := range map[time.Duration][]record.EventKind{from: {record.FaultStarted, record.FaultInEffect}, to: {record.FaultUndone, record.FaultGone}} {
			for _, k := range kinds {
				s.event(record.Event{T: at, Kind: k, Fault: "kill", Occurrence: 2})
			}
		}
	}
	second(9*time.Second, 10*time.Second)
	s.want(t, Pass, "at most 0, wanted <= 10")
	s.each(8800*ms, 9200*ms, broken)
	s.want(t, Pass, "at most 10, wanted <= 10")
	s.each(9200*ms, 9205*ms, broken)
	s.want(t, Fail, "at most 10.25, wanted <= 10")
	second(8*time.Second, 8500*ms)
	s.want(t, Pass, "at most 0, wanted <= 10")
	s.each(6900*ms, 7*time.Second, broken)
	s.each(8*time.Second, 8100*ms, broken)
	s.want(t, Pass, "at most 10, wanted <= 10")
	s.each(8100*ms, 8105*ms, broken)
	s.want(t, Fail, "at most 10.25, wanted <= 10")
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

// The windows end within the stretches, and reach back to where the load began.
func TestBurnEndsWithinItsStretches(t *testing.T) {
	b := Budget{Objective: bound(t, ">= 90%")}
	w := Burn{Long: 20, Short: 10, Rate: bound(t, "<= 2")}
	var ss []sample
	for i := range 50 {
		ss = append(ss, sample{due: time.Duration(i), latency: 1, ok: i >= 20})
	}
	worst := func(lo time.Duration, ws ...Window) burnt {
		got := b.burn(w, ss, ws, lo)
		got.doubt = ""
		return got
	}
	require.Equal(t, burnt{room: true, judged: true, worst: 10, at: 19}, worst(0, Window{0, 50}), "all of the first 20 failed")
	require.Equal(t, burnt{room: true, judged: true, worst: 10, at: 19}, worst(0, Window{0, 20}))
	require.Equal(t, burnt{}, worst(0, Window{0, 19}), "no moment has the long window under load")
	require.Equal(t, burnt{room: true, judged: true, worst: 9, at: 20}, worst(1, Window{0, 50}), "one good answer in the short window")
	require.Equal(t, burnt{room: true, judged: true, worst: 2.5, at: 19}, worst(0, Window{15, 50}), "only five of them are of this stretch")
	require.Equal(t, burnt{room: true, judged: true, worst: 0, at: 20}, worst(0, Window{20, 50}), "none of them is")
	// What failed in one stretch counts in the windows that end in another.
	require.Equal(t, burnt{room: true, judged: true, worst: 5, at: 19}, worst(0, Window{0, 5}, Window{15, 20}))
	require.Equal(t, burnt{room: true, judged: true, worst: 2, at: 22}, worst(0, Window{0, 15}, Window{22, 50}))
}

// What is not judged is in doubt if it may have broken the bound. That the very first request fails is none.
func TestBurnInDoubt(t *testing.T) {
	b := Budget{Objective: bound(t, ">= 90%")}
	w := Burn{Long: plan.Duration(20 * ms), Short: plan.Duration(10 * ms), Rate: bound(t, "<= 2")}
	const (
		started = "at 12ms the load had not run for 20ms, and so many had failed by then that it may have been more"
		thin    = "at 40ms a window has less than 10 samples, and so many of them failed that it may have been more"
	)
	for name, c := range map[string]struct {
		lo   time.Duration
		bad  []int // of one each millisecond
		in   Window
		want string
	}{
		"none":                        {10 * ms, nil, Window{10 * ms, 50 * ms}, ""},
		"at the bound":                {10 * ms, []int{10, 11}, Window{10 * ms, 50 * ms}, ""},
		"more":                        {10 * ms, []int{10, 11, 12, 13}, Window{10 * ms, 50 * ms}, started},
		"before the stretch":          {10 * ms, []int{10, 11, 12, 13}, Window{14 * ms, 50 * ms}, ""},
		"the load has run for longer": {-8 * ms, []int{10, 11, 12, 13}, Window{10 * ms, 50 * ms}, ""},
		"and for just as long":        {-7 * ms, []int{10, 11, 12, 13}, Window{12 * ms, 50 * ms}, ""},
		"few":                         {0, []int{40}, Window{20 * ms, 50 * ms}, thin},
		"few before the stretch":      {0, []int{40}, Window{41 * ms, 50 * ms}, ""},
		"both, the first":             {10 * ms, []int{10, 11, 12, 40}, Window{10 * ms, 50 * ms}, started},
	} {
		t.Run(name, func(t *testing.T) {
			var ss []sample
			for i := range 50 {
				if i < 24 || i == 40 {
					ss = append(ss, sample{due: time.Duration(i) * ms, latency: 1, ok: !slices.Contains(c.bad, i)})
				}
			}
			ss = slices.DeleteFunc(ss, func(s sample) bool { return s.due < c.lo })
			require.Equal(t, c.want, b.burn(w, ss, []Window{c.in}, c.lo).doubt)
		})
	}
}

// The highest burn rate, and the first moment in doubt, are those of evaluating both windows at every nanosecond.
func TestBurnAgainstNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lo := rapid.IntRange(0, 10).Draw(t, "lo")
		dues := rapid.SliceOfN(rapid.IntRange(lo, 50), 0, 120).Draw(t, "dues")
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
		ends := rapid.SliceOfNDistinct(rapid.IntRange(lo, 60), 4, 4, rapid.ID).Draw(t, "windows")
		slices.Sort(ends)
		ws := []Window{{time.Duration(ends[0]), time.Duration(ends[1])}, {time.Duration(ends[2]), time.Duration(ends[3])}}
		ss = slices.DeleteFunc(ss, func(s sample) bool { return s.due >= ws[1].To })
		b := Budget{Objective: objective}
		in := func(t time.Duration) bool { return t >= ws[0].From && t < ws[0].To || t >= ws[1].From && t < ws[1].To }
		var want burnt
		for at := ws[0].From; at < ws[1].To; at++ {
			if !in(at) {
				continue
			}
			full := at-w.Long.D()+1 >= time.Duration(lo)
			worst := math.Inf(1)
			enough := true
			for _, length := range []time.Duration{w.Long.D(), w.Short.D()} {
				n, bad := 0, 0
				for _, s := range ss {
					if s.due > at-length && s.due <= at {
						n++
						if !s.ok && in(s.due) {
							bad++
						}
					}
				}
				enough = enough && n >= b.need(w)
				if !full {
					n = max(n, b.need(w))
				}
				worst = min(worst, math.Round(float64(bad)/float64(max(1, n))/0.1*1e9)/1e9)
			}
			want.room = want.room || full
			switch {
			case full && enough:
				if !want.judged || worst > want.worst {
					want.judged, want.worst = true, worst
				}
			case want.doubt != "" || worst <= rate.Value:
			case full:
				want.doubt = fmt.Sprintf("at %s a window has", seconds(at))
			default:
				want.doubt = fmt.Sprintf("at %s the load had", seconds(at))
			}
		}
		got := b.burn(w, ss, ws, time.Duration(lo))
		if got.room != want.room || got.judged != want.judged || got.worst != want.worst || !strings.HasPrefix(got.doubt, want.doubt) || (got.doubt == "") != (want.doubt == "") {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	})
}
