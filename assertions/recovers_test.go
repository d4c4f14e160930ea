package assertions

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

func TestRecovers(t *testing.T) {
	back := func(b Bounds, within time.Duration) *Recovers {
		return &Recovers{Source: Source{Load: "orders"}, After: "kill.in-effect", Within: plan.Duration(within), Window: plan.Duration(time.Second), Bounds: b}
	}
	all := Bounds{Success: bound(t, ">= 99.9%")}
	// The event is at 3.010 s. The last bad request is due at 4.995 s: it leaves the window 1 ns later.
	outage := func(s *story) { s.each(3*time.Second, 5*time.Second, broken) }
	ttr := 1985*ms + 1
	for name, c := range map[string]struct {
		ask   *Recovers
		spoil func(*story)
		want  Verdict
		says  string
	}{
		"at once":              {back(all, time.Second), nil, Pass, "recovered 0s after kill.in-effect, wanted within 1s"},
		"in time":              {back(all, 2*time.Second), outage, Pass, "recovered 1.985s after kill.in-effect"},
		"at the bound":         {back(all, ttr), outage, Pass, ""},
		"too late":             {back(all, ttr-1), outage, Fail, "recovered 1.985s after kill.in-effect, wanted within 1.985s"},
		"back and away again":  {back(all, 2*time.Second), func(s *story) { outage(s); s.each(9*time.Second, 9*time.Second+5*ms, broken) }, Fail, "recovered 5.99s after"},
		"the bound bears some": {back(Bounds{Success: bound(t, ">= 99%")}, 2*time.Second), func(s *story) { outage(s); s.each(9*time.Second, 9*time.Second+10*ms, broken) }, Pass, "recovered 1.975s"},
		"never":                {back(all, 2*time.Second), func(s *story) { s.each(3*time.Second, 12*time.Second, broken) }, Fail, "never recovered"},
		"too short to tell":    {back(all, 8500*ms), func(s *story) { s.each(3*time.Second, 12*time.Second, broken) }, Invalid, "too short to see"},
		"just long enough":     {back(all, 7990*ms), func(s *story) { s.each(3*time.Second, 12*time.Second, broken) }, Fail, "never recovered"},
		"too few samples":      {back(Bounds{P99: bound(t, "<= 1s")}, time.Second), nil, Invalid, "no window of 1s has the 1000 samples"},
		"a gap in the load": {back(all, 2*time.Second), func(s *story) {
			s.reqs = slices.DeleteFunc(s.reqs, func(q record.Request) bool { return q.Due > 8*time.Second && q.Due < 9*time.Second })
		}, Invalid, "some windows of 1s have fewer than the 100 samples"},
		"a gap does not excuse lateness": {back(all, time.Second), func(s *story) {
			outage(s)
			s.reqs = slices.DeleteFunc(s.reqs, func(q record.Request) bool { return q.Due > 8*time.Second && q.Due < 9*time.Second })
		}, Fail, "recovered 1.985s"},
		"a gap before it broke": {back(all, 8*time.Second), func(s *story) {
			s.each(9*time.Second, 9100*ms, broken)
			s.reqs = slices.DeleteFunc(s.reqs, func(q record.Request) bool { return q.Due > 4*time.Second && q.Due < 5*time.Second })
		}, Pass, "recovered 6.085s"},
		"a window longer than the rest": {&Recovers{Source: Source{Load: "orders"}, After: "kill.in-effect", Within: 1, Window: plan.Duration(9 * time.Second), Bounds: all}, nil, Invalid, "less than one window"},
		"a window as long as the rest":  {&Recovers{Source: Source{Load: "orders"}, After: "kill.in-effect", Within: 1, Window: plan.Duration(8990 * ms), Bounds: all}, nil, Pass, "recovered 0s"},
		"no such moment":                {&Recovers{Source: Source{Load: "orders"}, After: "cut.gone", Within: 1, Bounds: all}, nil, Invalid, "cut.gone never came"},
		"slow": {back(Bounds{P95: bound(t, "<= 3x baseline")}, 3*time.Second), func(s *story) {
			s.each(3*time.Second, 5*time.Second, func(q *record.Request) { q.Done = q.Due + 16*ms })
		}, Pass, "p95 <= 3x baseline (15ms)"},
		"slow to the end": {back(Bounds{P95: bound(t, "<= 3x baseline")}, 3*time.Second), func(s *story) {
			s.each(3*time.Second, 12*time.Second, func(q *record.Request) { q.Done = q.Due + 16*ms })
		}, Fail, "never recovered"},
		// One percent of the round is late, and twelve of a window.
		"a stall of the generator": {back(Bounds{P90: bound(t, "<= 30ms")}, time.Second), func(s *story) {
			s.each(8*time.Second, 8*time.Second+24*5*ms, func(q *record.Request) { q.Sent += 60 * ms; q.Done += 60 * ms })
		}, Invalid, "the generator was late here, by up to 60ms; counted from when the requests were sent, it recovered 0s after kill.in-effect, wanted within 1s"},
		"a stall of the generator and a slow service": {back(Bounds{P90: bound(t, "<= 30ms")}, time.Second), func(s *story) {
			s.each(8*time.Second, 8*time.Second+24*5*ms, func(q *record.Request) { q.Sent += 60 * ms; q.Done += 90 * ms })
		}, Fail, "recovered 5.005s after"},
		"a stall of the generator that breaks nothing": {back(Bounds{P50: bound(t, "<= 30ms")}, time.Second), func(s *story) {
			s.each(8*time.Second, 8*time.Second+24*5*ms, func(q *record.Request) { q.Sent += 60 * ms; q.Done += 60 * ms })
		}, Pass, "recovered 0s"},
		"no bound":                      {back(Bounds{}, time.Second), nil, Invalid, "no bound is given"},
		"within none":                   {back(all, 0), nil, Invalid, "within 0s and window 1s: both are lengths of time"},
		"a window of less than nothing": {&Recovers{Source: Source{Load: "orders"}, After: "kill.in-effect", Within: 1, Window: -1, Bounds: all}, nil, Invalid, "both are lengths of time"},
		"no baseline to compare with":   {back(Bounds{P95: bound(t, "<= 3x baseline")}, 3*time.Second), func(s *story) { s.reqs = s.reqs[500:] }, Invalid, "in the baseline"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory()
			s.ask(t, "recovers", c.ask)
			if c.spoil != nil {
				c.spoil(s)
			}
			f := s.want(t, c.want, c.says)
			if c.want != Invalid {
				assert.Equal(t, "requests/orders.bin", f.Evidence[len(f.Evidence)-1].File)
				assert.Contains(t, f.Evidence[len(f.Evidence)-1].Values, "windows")
			}
			if name == "in time" {
				assert.InDelta(t, 1.985, f.Evidence[0].Values["time to recover"], 1e-6)
			}
			if never := strings.Contains(f.Summary, "never recovered"); never || name == "a window longer than the rest" {
				assert.NotContains(t, f.Evidence[0].Values, "time to recover", "it did not")
			}
		})
	}
	t.Run("the default window", func(t *testing.T) { assert.Equal(t, 2*time.Second, (&Recovers{}).window()) })
}

// The slider says the same as evaluating every window at every nanosecond.
func TestSliderAgainstNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dues := rapid.SliceOfN(rapid.IntRange(0, 60), 0, 80).Draw(t, "dues")
		slices.Sort(dues)
		var ss []sample
		for _, d := range dues {
			ss = append(ss, sample{due: time.Duration(d), latency: time.Duration(rapid.IntRange(1, 3).Draw(t, "latency")) * time.Second, ok: rapid.Bool().Draw(t, "ok")})
		}
		from := time.Duration(rapid.IntRange(0, 30).Draw(t, "from"))
		to := from + time.Duration(rapid.IntRange(0, 40).Draw(t, "length"))
		mk := func(s string) plan.Bound {
			b, err := plan.ParseBound(s)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		s := slider{window: time.Duration(rapid.IntRange(1, 30).Draw(t, "window")), base: map[string]float64{"p50": 1, "throughput": 1e8}}
		for _, f := range []figure{
			{"success", mk(rapid.SampledFrom([]string{">= 50%", "< 40%", ">= 70%"}).Draw(t, "success")), 0},
			{"p50", mk(rapid.SampledFrom([]string{"<= 2s", "< 2s", ">= 2s", "> 2s", "<= 2x baseline"}).Draw(t, "p50")), 500},
			{"throughput", mk(rapid.SampledFrom([]string{">= 300000000/s", ">= 2x baseline"}).Draw(t, "throughput")), 0},
		} {
			if rapid.Bool().Draw(t, f.name) {
				s.figures = append(s.figures, f)
			}
		}
		got := s.slide(ss, from, to)

		need := 1 // a window of nothing says nothing
		for _, f := range s.figures {
			need = max(need, f.need())
		}
		var want slid
		want.recovered = to-s.window >= from
		begin := from
		windows := map[string]bool{}
		for at := from; at+s.window <= to; at++ {
			in := slices.DeleteFunc(slices.Clone(ss), func(x sample) bool { return x.due < at || x.due >= at+s.window })
			windows[""] = true
			switch sum := summarise(in, s.window); {
			case len(in) < need:
				if !want.recovered {
					begin, want.recovered = at, true
				}
				want.thin = true
			default:
				want.judged = true
				ok := true
				for _, f := range s.figures {
					ok = ok && f.holds(f.measure(sum.good, sum.latencies, s.window), s.base[f.name])
				}
				if ok && !want.recovered {
					begin, want.recovered = at, true
				}
				if !ok {
					want.recovered, want.thin = false, false
				}
			}
		}
		if (got.windows > 0) != windows[""] || got.judged != want.judged {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		if got.recovered != want.recovered {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		if want.recovered && (got.ttr != begin-from || got.thin != want.thin) {
			t.Fatalf("got %+v, want %+v from %v", got, want, begin-from)
		}
	})
}

func BenchmarkSlide(b *testing.B) {
	var ss []sample
	for i := range 1_000_000 {
		ss = append(ss, sample{due: time.Duration(i) * ms, latency: 5 * ms, ok: true})
	}
	s := slider{figures: Bounds{Success: bound(b, ">= 99.9%"), P95: bound(b, "<= 10ms")}.figures(), window: 2 * time.Second}
	for b.Loop() {
		s.slide(ss, 0, 1000*time.Second)
	}
}
