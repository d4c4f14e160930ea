package assertions

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/record"
)

// lived makes a life of states at 0, 10, 20, ...: c, h and o, each with the number of transitions counted by then.
func lived(states string, moves ...float64) *life {
	l := &life{step: 10}
	for i, c := range states {
		l.states = append(l.states, stateAt{time.Duration(i) * 10, map[rune]breakerState{'c': closed, 'h': halfOpen, 'o': opened}[c], moves[i]})
	}
	return l
}

func TestWhenABreakerIsOpen(t *testing.T) {
	for _, c := range []struct {
		life         *life
		settle, trim time.Duration
		want         []Window
	}{
		{lived("cooc", 0, 1, 1, 3), 0, 0, []Window{{10, 20}}},
		{lived("oooo", 1, 1, 1, 1), 0, 0, []Window{{0, 30}}},
		{lived("oooo", 1, 1, 1, 1), 4, 3, []Window{{4, 27}}},
		{lived("oooo", 1, 1, 3, 3), 0, 0, []Window{{0, 10}, {20, 30}}},
		{lived("oooo", 1, 1, 3, 3), 5, 5, nil},
		{lived("oooo", 1, 1, 3, 3), 5, 4, []Window{{5, 6}, {25, 26}}},
		{lived("ohoo", 1, 2, 3, 3), 0, 0, []Window{{20, 30}}},
		{lived("ocho", 1, 1, 1, 1), 0, 0, nil},
		{lived("oo", 1, 2), 0, 0, nil},
		{&life{step: 9, states: lived("ooo", 1, 1, 1).states}, 0, 0, nil},
	} {
		got := c.life.open(c.settle, c.trim)
		require.Equal(t, append([]Window{}, c.want...), append([]Window{}, got...))
	}
}

func TestWhenABreakerLeftClosed(t *testing.T) {
	for _, c := range []struct {
		life     *life
		from, to time.Duration
		want     Window
		away     bool
	}{
		{lived("ccoc", 0, 0, 1, 3), 5, 30, Window{10, 20}, true},
		{lived("ccoc", 0, 0, 1, 3), 15, 20, Window{10, 20}, true},
		{lived("ccoc", 0, 0, 1, 3), 15, 19, Window{}, false},
		{lived("ccoc", 0, 0, 1, 1), 20, 30, Window{}, false},
		{lived("ccoc", 0, 0, 1, 3), 20, 30, Window{20, 30}, true}, // it moved on
		{lived("cchc", 0, 0, 0, 0), 0, 30, Window{10, 20}, true},
		{lived("cccc", 0, 0, 1, 1), 0, 30, Window{10, 20}, true},
		{lived("coc", 0, 1, 1), 5, 20, Window{0, 10}, true},
		{lived("ccc", 0, 1, 1), 5, 20, Window{0, 10}, true},
		{lived("cccc", 7, 7, 7, 7), -1, 30, Window{}, false},
		{lived("occc", 1, 1, 1, 1), -5, 30, Window{-5, 0}, true},
	} {
		got, away := c.life.away(c.from, c.to)
		require.Equal(t, c.want, got)
		require.Equal(t, c.away, away)
	}
}

func TestWhenABreakerClosedForGood(t *testing.T) {
	for _, c := range []struct {
		life *life
		want Window
		ok   bool
	}{
		{lived("coocc", 0, 1, 1, 3, 3), Window{20, 30}, true},
		{lived("cochc", 0, 1, 3, 4, 5), Window{30, 40}, true},
		{lived("coco", 0, 1, 3, 4), Window{30, 30}, false},
		{lived("coch", 0, 1, 3, 4), Window{30, 30}, false},
		{lived("coccc", 0, 1, 3, 5, 5), Window{20, 30}, true}, // away between two scrapes
		{lived("cocc", 0, 1, 3, 3), Window{10, 20}, true},
		{lived("ccc", 0, 0, 0), Window{}, true},
		{lived("ccc", 0, 3, 3), Window{0, 10}, true},
		{lived("ccc", 3, 3, 3), Window{}, true},
		{lived("oc", 1, 2), Window{0, 10}, true},
		{lived("oc", 0, 0), Window{0, 10}, true}, // not counted
		{lived("coocc", 0, 0, 0, 0, 0), Window{20, 30}, true},
	} {
		got, ok := c.life.closedFrom()
		require.Equal(t, c.want, got)
		require.Equal(t, c.ok, ok)
	}
}

func TestHalfOpenEpisodes(t *testing.T) {
	e := func(from, to time.Duration, n int) episode { return episode{Window{from, to}, n, false, 0} }
	ended := func(from, to time.Duration, n int, by time.Duration) episode {
		return episode{Window{from, to}, n, false, by}
	}
	hidden := func(at time.Duration, n int) episode { return episode{Window{at, at}, n, true, 0} }
	for _, c := range []struct {
		life *life
		from time.Duration
		want []episode
	}{
		{lived("cooo", 0, 1, 1, 1), 0, nil},
		{lived("cooo", 0, 1, 3, 3), 0, []episode{e(10, 20, 1)}},
		{lived("cooo", 0, 1, 5, 7), 0, []episode{e(10, 20, 2), e(20, 30, 1)}},
		{lived("cooo", 0, 1, 5, 7), 20, []episode{e(20, 30, 1)}},
		{lived("cooo", 0, 1, 4, 4), 0, []episode{hidden(10, 2)}}, // closed and opened again, unseen
		{lived("coho", 0, 1, 2, 3), 0, []episode{e(10, 30, 1)}},
		{lived("coho", 0, 0, 0, 0), 0, []episode{e(10, 30, 1)}}, // not counted
		{lived("coho", 0, 1, 4, 5), 0, []episode{e(10, 30, 2)}},
		{lived("cohhc", 0, 1, 2, 2, 3), 0, []episode{ended(10, 30, 1, 40)}},
		{lived("cohhc", 0, 1, 2, 4, 5), 0, []episode{ended(10, 30, 2, 40)}},
		{lived("cohh", 0, 1, 2, 2), 0, []episode{e(10, 30, 1)}},
		{lived("cohh", 0, 1, 2, 2), 30, nil},
		{lived("coc", 0, 1, 3), 0, []episode{{Window{10, 10}, 1, true, 20}}},
		{lived("coc", 0, 1, 3), 10, nil},
		{lived("co", 0, 1), 0, nil},
		{lived("oo", 1, 3), -1, []episode{e(0, 10, 1)}},
		{lived("chc", 0, 1, 2), 0, nil},
	} {
		require.Equal(t, c.want, c.life.episodes(c.from))
	}
}

func TestTheScrapesAroundAMoment(t *testing.T) {
	l := lived("coho", 0, 1, 2, 4)
	for _, c := range []struct{ at, next, last time.Duration }{{-1, 0, -1}, {0, 0, 0}, {1, 10, 0}, {10, 10, 10}, {30, 30, 30}, {31, 31, 30}} {
		require.Equal(t, c.next, l.nextAfter(c.at))
		require.Equal(t, c.last, l.lastBy(c.at))
	}
	for _, c := range []struct {
		from    time.Duration
		seen    int
		counted float64
	}{{-1, 3, 4}, {9, 3, 4}, {10, 2, 3}, {30, 0, 0}} {
		seen, counted := l.moves(c.from)
		require.Equal(t, c.seen, seen)
		require.Equal(t, c.counted, counted)
	}
	require.Equal(t, 1, func() int { n, _ := lived("ccoo", 0, 0, 1, 1).moves(0); return n }())
	again := lived("ccooc", 0, 0, 1, 1, 1)
	again.died = []time.Duration{35}
	require.Equal(t, 1, func() int { n, _ := again.moves(0); return n }(), "the program began anew: no change")
}

func TestTransitionsAreCountedUpToEachScrape(t *testing.T) {
	type kinds = map[string][]scrape
	for name, c := range map[string]struct {
		moves kinds
		died  []time.Duration
		want  []float64
	}{
		"the program was started again":          {kinds{"a": {{1, 3}, {2, 5}, {3, 1}, {4, 2}}}, nil, []float64{3, 5, 6, 7}},
		"it counts as many as before":            {kinds{"a": {{1, 3}, {2, 3}, {3, 3}, {4, 4}}}, []time.Duration{3}, []float64{3, 3, 6, 7}},
		"born with its first change":             {kinds{"a": {{2, 1}}}, nil, []float64{0, 1, 1, 1}},
		"born with a zero":                       {kinds{"a": {{0, 1}, {1, 1}, {3, 0}, {4, 0}}}, nil, []float64{1, 1, 1, 1}},
		"none":                                   {nil, nil, []float64{0, 0, 0, 0}},
		"several kinds":                          {kinds{"a": {{1, 1}, {4, 2}}, "b": {{2, 1}, {3, 2}}}, nil, []float64{1, 2, 3, 4}},
		"started again, and not all kinds again": {kinds{"a": {{1, 1}, {3, 0}, {4, 1}}, "b": {{1, 3}, {4, 1}}, "c": {{1, 3}}}, nil, []float64{7, 7, 7, 9}},
	} {
		l := life{states: []stateAt{{at: 1}, {at: 2}, {at: 3}, {at: 4}}, died: c.died}
		l.count(c.moves)
		var got []float64
		for _, s := range l.states {
			got = append(got, s.moves)
		}
		require.Equal(t, c.want, got, name)
	}
}

func TestAWatchIsWithoutGaps(t *testing.T) {
	for _, c := range []struct {
		first, second, end time.Duration
		died               []time.Duration
		says               string
	}{
		{10, 20, 30, nil, ""},
		{11, 20, 30, nil, "state of n was not scraped from"},
		{10, 21, 30, nil, "state of n was not scraped from"},
		{10, 20, 31, nil, "state of n was not scraped from"},
		{10, 40, 50, []time.Duration{40}, ""},
		{10, 40, 50, []time.Duration{11}, ""},
		{10, 40, 50, []time.Duration{10}, "state of n was not scraped from"},
		{10, 40, 50, []time.Duration{41}, "state of n was not scraped from"},
	} {
		l := life{step: 10, died: c.died, states: []stateAt{{at: c.first}, {at: c.second}}}
		err := l.watched("n", "state", &watch{end: c.end})
		if c.says == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, c.says)
		}
	}
	require.ErrorContains(t, (&life{}).watched("n", "state", &watch{}), "n makes calls and has no state")
}

func TestWindowsAfterTheHeal(t *testing.T) {
	w := watch{interval: 10, faults: []Window{{20, 100}}, end: 200}
	all := []Window{{50, 150}}
	require.Equal(t, []Window{{50, 100}, {110, 150}}, w.afterHeal(all))
	w.asked = 30
	require.Equal(t, []Window{{50, 100}, {130, 150}}, w.afterHeal(all))
	w.end = 120
	require.Equal(t, []Window{{50, 100}}, w.afterHeal(all))
	require.Equal(t, []Window{{0, 100}}, w.afterHeal([]Window{{0, 100}}), "up to the heal itself")
	w.faults[0].To = 120
	require.Equal(t, []Window{{50, 120}}, w.afterHeal(all), "not healed, and nothing is judged after the end")
	w.end, w.faults = 200, []Window{{20, 60}, {100, 140}}
	require.Equal(t, []Window{{50, 60}, {90, 140}}, w.afterHeal(all), "each time")
}

func TestWhereWindowsOverlap(t *testing.T) {
	require.Equal(t, []Window{{2, 3}, {5, 6}}, both([]Window{{0, 3}, {5, 9}}, []Window{{2, 6}}))
	require.Empty(t, both([]Window{{0, 3}}, []Window{{3, 5}}))
	require.Empty(t, both(nil, []Window{{3, 5}}))
}

func TestCallsThatBegunWithin(t *testing.T) {
	calls := []record.Call{{Begin: 1}, {Begin: 2}, {Begin: 2}, {Begin: 5}}
	for _, c := range []struct {
		from, to time.Duration
		want     int
	}{{0, 9, 4}, {1, 2, 2}, {2, 5, 1}, {0, 1, 1}, {5, 9, 0}, {3, 4, 0}, {5, 0, 0}} {
		require.Equal(t, c.want, begunIn(calls, c.from, c.to))
	}
}

func TestWorstSecond(t *testing.T) {
	var calls []record.Call
	add := func(id string, at time.Duration) { calls = append(calls, record.Call{RequestID: id, Begin: at}) }
	for i := range 20 { // one call each 50 ms, each with an id of its own
		add(string(rune('a'+i)), time.Duration(i)*50*ms)
	}
	require.Equal(t, stretch{Window{0, time.Second}, 20, 20}, worstSecond(calls))
	add("x", time.Second) // not in the first second
	add("x", 1010*ms)
	add("x", 1020*ms)
	// From 50 ms on: 19 calls and x at 1 s, 1.01 s and 1.02 s. Each later start drops a call that is alone.
	got := worstSecond(calls)
	require.Equal(t, stretch{Window{550 * ms, 1550 * ms}, 12, 10}, got)
	require.Equal(t, stretch{}, worstSecond(calls[:9]), "too few to say anything")
	require.Equal(t, stretch{Window{0, time.Second}, 10, 10}, worstSecond(calls[:10]))
}

// A breaker that oscillates does not fill the finding: its first twenty changes are shown, and how many more there are.
func TestManyChangesAreToldInPart(t *testing.T) {
	for _, c := range []struct {
		changes int
		says    string
	}{{20, "open at 0s, closed at 0s, open at 0s"}, {21, "open at 0s, 1 more"}, {23, "open at 0s, 3 more"}} {
		l := lived(strings.Repeat("co", 12)[:c.changes], make([]float64, c.changes)...)
		e := l.evidence(&watch{}, "n", nil)
		require.Truef(t, strings.HasSuffix(e.Detail, c.says), "%d: %s", c.changes, e.Detail)
		require.Equal(t, c.changes, e.Count)
	}
}

func TestWhatWasDoneAgain(t *testing.T) {
	var calls []record.Call
	for _, c := range []struct {
		id string
		at time.Duration
	}{{"a", 1}, {"a", 2}, {"a", 3}, {"b", 10}, {"c", 10}, {"", 11}, {"", 12}, {"", 13}, {"c", 14}, {"b", 19}, {"b", 20}, {"c", 21}} {
		calls = append(calls, record.Call{RequestID: c.id, Begin: c.at * time.Millisecond, Path: "/x", From: "f", To: "t"})
	}
	for _, c := range []struct {
		from, to time.Duration
		want     string
	}{
		{0, 30, "request a: 3 calls: /x f -> t at 1ms, /x f -> t at 2ms, /x f -> t at 3ms"}, // the first of three
		{10, 20, "request c: 2 calls: /x f -> t at 10ms, /x f -> t at 14ms"},                // what begins at the end is not in it
		{10, 21, "request b: 3 calls: /x f -> t at 10ms, /x f -> t at 19ms, /x f -> t at 20ms"},
		{3, 11, "request a: 1 call: /x f -> t at 3ms"}, // what begins at the beginning is
	} {
		require.Equal(t, c.want, repeated(calls, Window{c.from * ms, c.to * ms}))
	}
}

func TestMergingParts(t *testing.T) {
	p := func(name string, v Verdict, value float64, text string) part { return part{name, "n", v, text, value} }
	f := merge([]part{p("a", Pass, 1, "a1"), p("b", Invalid, 0, "b0"), p("a", Pass, 2, "a2"), p("b", Pass, 9, "b9"), p("c", Invalid, 0, "c0")})
	require.Equal(t, Finding{Verdict: Invalid, Summary: "a2; b0; c0", Reason: "b0; c0"}, f)
	f = merge([]part{p("a", Fail, 1, "a1"), p("a", Invalid, 2, "a2"), p("a", Fail, 1, "again"), p("b", Invalid, 0, "b0")})
	require.Equal(t, Finding{Verdict: Fail, Summary: "a1; b0"}, f)
	require.Equal(t, Finding{Verdict: Invalid, Summary: "there was nothing to judge", Reason: "there was nothing to judge"}, merge(nil))
	require.Equal(t, Finding{Verdict: Pass, Summary: "a2"}, merge([]part{p("a", Pass, 2, "a2"), p("a", Pass, 1, "a1")}))
}

func TestWhatIsAskedOfARunWithoutDamage(t *testing.T) {
	b := bound(t, "<= 1")
	for _, a := range []*Breaker{{Opens: b}, {Rejects: &BreakerRejects{}}, {WhileOpen: b}, {Probes: b}, {Closes: b}} {
		require.True(t, a.asksForDamage())
	}
	require.False(t, (&Breaker{StaysClosed: true, Transitions: b}).asksForDamage())
	require.True(t, (&Shed{}).asksForDamage())
}
