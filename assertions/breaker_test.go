package assertions

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// change is when a breaker entered a state.
type change struct {
	at    time.Duration
	state breakerState
}

// guarded is a story in which the breakers of orders-1 and orders-2 did well while kill held from 3 s (in effect at 3.010 s) to 7 s:
//
//	closed, open from 3.5 s, half-open for 10 ms each second from 4.5 s with 3 probes that fail, half-open from 7.5 s with 3 probes,
//	closed from 7.95 s; scraped each 200 ms from 50 ms on. A call each 20 ms while closed, the last before it opens at 3.48 s.
type guarded struct {
	*story
	lives map[string][]change
}

func newGuarded() *guarded { return guardedBy(2) }

// guardedBy is that with another number of replicas.
func guardedBy(replicas int) *guarded {
	g := &guarded{newStory(), map[string][]change{}}
	g.meta.Nodes = append(g.meta.Nodes, record.Node{Name: "inventory-1", Service: "inventory"})
	g.scrape = &fakeMetrics{interval: 200 * ms}
	for i := range replicas {
		n := fmt.Sprint("orders-", i+1)
		g.meta.Nodes = append(g.meta.Nodes, record.Node{Name: n, Service: "orders"})
		l := []change{{0, closed}, {3500 * ms, opened}}
		for _, t := range []time.Duration{4500 * ms, 5500 * ms, 6500 * ms} {
			l = append(l, change{t, halfOpen}, change{t + 10*ms, opened})
			for i := range 3 {
				g.call(n, t+time.Duration(i)*ms)
			}
		}
		g.lives[n] = append(l, change{7500 * ms, halfOpen}, change{7950 * ms, closed})
		for i := range 3 {
			g.call(n, 7500*ms+time.Duration(i)*100*ms)
		}
		g.callEach(n, 0, 3500*ms)
		g.callEach(n, 7960*ms, 12*time.Second)
	}
	return g
}

func (g *guarded) call(node string, at time.Duration) {
	g.calls = append(g.calls, record.Call{From: node, To: "inventory-1", Begin: at, End: at + ms, Path: "/inventory.v1.Inventory/Reserve"})
}

func (g *guarded) callEach(node string, from, to time.Duration) {
	for t := from; t < to; t += 20 * ms {
		g.call(node, t)
	}
}

// only leaves the calls that match.
func (g *guarded) only(match func(c record.Call) bool) {
	g.calls = slices.DeleteFunc(g.calls, func(c record.Call) bool { return !match(c) })
}

// series writes the metrics down. The counter has no series before its first transition, as client_golang has it.
func (g *guarded) series() {
	for _, n := range slices.Sorted(maps.Keys(g.lives)) {
		l := g.lives[n]
		last := func(t time.Duration) int {
			i, _ := slices.BinarySearchFunc(l, t+1, func(c change, t time.Duration) int { return int(c.at - t) })
			return i - 1
		}
		labels := map[string]string{"service": "inventory"}
		g.scrape.gauge(hasvcState, n, labels, 50*ms, 13*time.Second, func(t time.Duration) float64 { return float64(l[last(t)].state) })
		// Another breaker makes the counter known.
		g.scrape.gauge(hasvcTransitions, n, map[string]string{"service": "store"}, 50*ms, 13*time.Second, func(time.Duration) float64 { return 7 })
		if len(l) > 1 {
			g.scrape.gauge(hasvcTransitions, n, labels, l[1].at.Truncate(200*ms)+250*ms, 13*time.Second, func(t time.Duration) float64 { return float64(last(t)) })
		}
	}
}

func without(name string) func(g *guarded) {
	return func(g *guarded) {
		g.scrape.series = slices.DeleteFunc(g.scrape.series, func(s record.Series) bool { return s.Labels["__name__"] == name })
	}
}

// torn spoils what the metrics answer to some questions.
func torn(of string) func(g *guarded) {
	return func(g *guarded) { g.scrape.err, g.scrape.of = errors.New("torn"), of }
}

func TestBreaker(t *testing.T) {
	b := func(change func(a *Breaker)) *Breaker {
		a := &Breaker{Of: "inventory", In: "orders", Fault: "kill"}
		change(a)
		return a
	}
	opens := func(s string) *Breaker { return b(func(a *Breaker) { a.Opens = bound(t, s) }) }
	whileOpen := func(s string) *Breaker { return b(func(a *Breaker) { a.WhileOpen = bound(t, s) }) }
	probes := func(s string) *Breaker { return b(func(a *Breaker) { a.Probes = bound(t, s) }) }
	closes := func(s string) *Breaker { return b(func(a *Breaker) { a.Closes = bound(t, s) }) }
	transitions := func(s string) *Breaker { return b(func(a *Breaker) { a.Transitions = bound(t, s) }) }
	stays := b(func(a *Breaker) { a.StaysClosed = true })
	rejects := func(q BreakerRejects) *Breaker { return b(func(a *Breaker) { a.Rejects = &q }) }
	quiet := func(g *guarded) { // nothing happens
		for n := range g.lives {
			g.lives[n] = g.lives[n][:1]
			g.callEach(n, 3500*ms, 7960*ms)
		}
	}
	// asks makes a call of another path while the breaker is open.
	asks := func(path string) func(*guarded) {
		return func(g *guarded) {
			g.call("orders-2", 3900*ms)
			g.calls[len(g.calls)-1].Path = path
		}
	}
	never := func(g *guarded) { // orders-2 never opens
		g.lives["orders-2"] = g.lives["orders-2"][:1]
		g.callEach("orders-2", 3500*ms, 7960*ms)
	}
	for name, c := range map[string]struct {
		ask   *Breaker
		spoil func(*guarded) // before the metrics are written
		after func(*guarded)
		want  Verdict
		says  string
	}{
		"all of it": {b(func(a *Breaker) {
			a.Opens, a.WhileOpen, a.Probes, a.Closes, a.Transitions = bound(t, "<= 1s"), bound(t, "= 0"), bound(t, "<= 3"), bound(t, "<= 2s"), bound(t, "<= 9")
		}), nil, nil, Pass, "orders-1 opened 440ms to 640ms after kill was in effect, wanted <= 1s; 0 calls in the 2.2s in which orders-1 was seen open, wanted = 0; orders-1 let at most 3 calls through in each of 4 half-open episodes, wanted <= 3; " +
			"orders-1 closed for good 850ms to 1.05s after kill was undone, wanted <= 2s; orders-1 changed its state 9 times, wanted <= 9 (breaker of inventory in orders-1, orders-2)"},

		"opens within the interval":         {opens("<= 640ms"), nil, nil, Pass, ""},
		"opens somewhere about the bound":   {opens("<= 639ms"), nil, nil, Invalid, "too far apart to tell"},
		"opens too late":                    {opens("< 440ms"), nil, nil, Fail, "opened 440ms to 640ms"},
		"opens after calls":                 {opens("<= 24"), nil, nil, Pass, "orders-1 opened after 22 to 24 calls, wanted <= 24"},
		"opens after about so many calls":   {opens("<= 23"), nil, nil, Invalid, "22 to 24 calls"},
		"opens after too many calls":        {opens("<= 21"), nil, nil, Fail, "22 to 24 calls"},
		"one of two never opens":            {opens("<= 2s"), never, nil, Fail, "orders-2 did not open in 3.84s of kill, wanted <= 2s"},
		"one of two never opens, in calls":  {opens("<= 100"), never, nil, Fail, "orders-2 did not open in 209 calls of kill, wanted <= 100"},
		"never opens, too short to see":     {opens("<= 3.9s"), never, nil, Invalid, "too short to see"},
		"never opens, too few calls":        {opens("<= 209"), never, nil, Invalid, "too short to see"},
		"never opens, exactly enough calls": {opens("<= 208"), never, nil, Fail, "209 calls"},
		"no calls that could open it":       {opens("<= 2s"), func(g *guarded) { quiet(g); g.only(func(c record.Call) bool { return c.Begin < 3*time.Second }) }, nil, Invalid, "made no call in kill"},
		"open before the fault":             {opens("<= 2s"), func(g *guarded) { g.lives["orders-2"][1].at = 2 * time.Second }, nil, Invalid, "the breaker of orders-2 opened before the fault, by 2.05s"},
		"open from the beginning":           {opens("<= 2s"), func(g *guarded) { g.lives["orders-1"][0].state = opened }, nil, Invalid, "the breaker of orders-1 was not closed when the baseline began"},
		"opens and closes between two scrapes": {opens("<= 2s"), func(g *guarded) {
			g.lives["orders-1"] = []change{{0, closed}, {3500 * ms, opened}, {3510 * ms, halfOpen}, {3520 * ms, closed}}
		}, nil, Pass, "orders-1 opened 440ms to 640ms"},
		"opens at the first scrape after the fault": {opens("<= 4.1s"), func(g *guarded) {
			quiet(g)
			for n := range g.lives {
				g.lives[n] = []change{{0, closed}, {6990 * ms, opened}, {8 * time.Second, halfOpen}, {8100 * ms, closed}}
			}
		}, nil, Pass, "opened 3.84s to 4.04s"},
		"opens after the fault": {opens("<= 3s"), func(g *guarded) {
			quiet(g)
			for n := range g.lives {
				g.lives[n] = []change{{0, closed}, {7100 * ms, opened}, {8 * time.Second, halfOpen}, {8100 * ms, closed}}
			}
		}, nil, Fail, "did not open"},

		"a call while open":                         {whileOpen("= 0"), func(g *guarded) { g.call("orders-2", 3900*ms) }, nil, Fail, "1 call in the 2.2s in which orders-2 was seen open, wanted = 0"},
		"calls while open within the bound":         {whileOpen("<= 1"), func(g *guarded) { g.call("orders-2", 3900*ms) }, nil, Pass, ""},
		"a call in the interval in which it opened": {whileOpen("= 0"), func(g *guarded) { g.call("orders-2", 3640*ms); g.call("orders-2", 3849*ms) }, nil, Pass, ""},
		"a call in the interval of the probes":      {whileOpen("= 0"), func(g *guarded) { g.call("orders-2", 4640*ms) }, nil, Pass, ""},
		"calls that the fault held back":            {whileOpen("= 0"), func(g *guarded) { g.call("orders-2", 7050*ms) }, nil, Pass, ""},
		"a call after the heal":                     {whileOpen("= 0"), func(g *guarded) { g.call("orders-2", 7250*ms) }, nil, Fail, ""},
		"calls that the first of two held back":     {whileOpen("= 0"), func(g *guarded) { g.call("orders-2", 7050*ms); g.again(9 * time.Second) }, nil, Pass, ""},
		"a call after the first of two":             {whileOpen("= 0"), func(g *guarded) { g.call("orders-2", 7250*ms); g.again(9 * time.Second) }, nil, Fail, ""},
		"a call that had long been sent":            {b(func(a *Breaker) { a.WhileOpen, a.Settle = bound(t, "= 0"), plan.Duration(400*ms) }), func(g *guarded) { g.call("orders-2", 4040*ms) }, nil, Pass, "0 calls in the 1.25s"},
		"a call of another kind":                    {b(func(a *Breaker) { a.WhileOpen, a.Method = bound(t, "= 0"), "/Reserve$" }), asks("/inventory.v1.Inventory/Level"), nil, Pass, ""},
		"a health check":                            {whileOpen("= 0"), asks("/grpc.health.v1.Health/Check"), nil, Pass, ""},
		"a health check over HTTP":                  {whileOpen("= 0"), asks("/readyz?verbose"), nil, Pass, ""},
		"a call that only begins like one":          {whileOpen("= 0"), asks("/readyzone"), nil, Fail, ""},
		"a question about the service":              {whileOpen("= 0"), asks("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"), nil, Pass, ""},
		"a call to another service":                 {whileOpen("= 0"), func(g *guarded) { g.call("orders-2", 3900*ms); g.calls[len(g.calls)-1].To = "store-1" }, nil, Pass, ""},
		"a call while open, not counted":            {whileOpen("= 0"), func(g *guarded) { g.call("orders-2", 3900*ms) }, without(hasvcTransitions), Invalid, "they may have been probes"},
		"no calls while open, not counted": {whileOpen("= 0"), func(g *guarded) {
			g.only(func(c record.Call) bool { return c.Begin < 3700*ms || c.Begin > 7500*ms })
		}, without(hasvcTransitions), Pass, ""},
		"as many calls while open as may be probes": {b(func(a *Breaker) { a.WhileOpen, a.Probes = bound(t, "= 0"), bound(t, "<= 3") }), nil, without(hasvcTransitions), Invalid, "9 calls in the 3.4s in which orders-1 was seen open, wanted = 0: without a counter of transitions they may have been probes"},
		"too many calls while open to be probes":    {b(func(a *Breaker) { a.WhileOpen, a.Probes = bound(t, "= 0"), bound(t, "<= 3") }), func(g *guarded) { g.callEach("orders-2", 3900*ms, 3980*ms) }, without(hasvcTransitions), Fail, ""},
		"never open":                                {whileOpen("= 0"), quiet, nil, Invalid, "was never seen open for longer than 200ms"},
		"open for too short": {whileOpen("= 0"), func(g *guarded) {
			quiet(g)
			g.lives["orders-1"] = []change{{0, closed}, {3500 * ms, opened}, {3900 * ms, halfOpen}, {3910 * ms, closed}}
		}, nil, Invalid, "orders-1 was never seen open"},

		"too many probes that failed": {probes("<= 3"), func(g *guarded) { g.call("orders-2", 5504*ms) }, nil, Fail, "orders-2 let 4 calls through in a half-open episode, wanted <= 3"},
		"two episodes in one interval": {probes("<= 3"), func(g *guarded) {
			l := g.lives["orders-2"]
			g.lives["orders-2"] = slices.Insert(l, 4, change{4550 * ms, halfOpen}, change{4560 * ms, opened})
			for i := range 3 {
				g.call("orders-2", 4550*ms+time.Duration(i)*ms)
			}
		}, nil, Invalid, "orders-2 let 5 calls through in half-open episodes between two scrapes, perhaps as many in one, wanted <= 3"},
		"two episodes in one interval, and calls enough for one": {probes("<= 5"), func(g *guarded) {
			l := g.lives["orders-2"]
			g.lives["orders-2"] = slices.Insert(l, 4, change{4550 * ms, halfOpen}, change{4560 * ms, opened})
			for i := range 3 {
				g.call("orders-2", 4550*ms+time.Duration(i)*ms)
			}
		}, nil, Pass, "at most 3 calls"},
		"too many probes before it closed": {probes("<= 3"), func(g *guarded) { g.call("orders-2", 7800*ms) }, nil, Fail, "orders-2 let 4 calls"},
		"calls that may have come after":   {probes("<= 3"), func(g *guarded) { g.call("orders-2", 7900*ms) }, nil, Pass, "at most 3 calls"},
		"not half-open":                    {probes("<= 3"), quiet, nil, Invalid, "was not half-open once"},
		"closed, and most of what was half-open unseen": {probes("<= 3"), func(g *guarded) {
			g.only(func(c record.Call) bool { return c.Begin < 3500*ms })
			for n := range g.lives {
				g.lives[n] = []change{{0, closed}, {3500 * ms, opened}, {7648 * ms, halfOpen}, {7840 * ms, closed}}
				for t := 7648 * ms; t < 7840*ms; t += 2 * ms {
					g.call(n, t)
				}
			}
		}, nil, Invalid, "closed after each time that it was half-open"},
		"closed, with no more calls than may be probes": {probes("<= 3"), func(g *guarded) {
			g.only(func(c record.Call) bool { return c.Begin < 3500*ms })
			for n := range g.lives {
				g.lives[n] = []change{{0, closed}, {3500 * ms, opened}, {7648 * ms, halfOpen}, {7840 * ms, closed}}
				for t := 7700 * ms; t < 7703*ms; t += ms {
					g.call(n, t)
				}
			}
		}, nil, Pass, "at most 0 calls"},
		"closed unseen": {probes("<= 3"), func(g *guarded) {
			for n := range g.lives {
				g.lives[n] = []change{{0, closed}, {3500 * ms, opened}, {7500 * ms, halfOpen}, {7510 * ms, closed}}
			}
		}, nil, Invalid, "closed after each time that it was half-open"},
		"half-open to the end": {probes("<= 3"), func(g *guarded) {
			g.only(func(c record.Call) bool { return c.Begin < 3500*ms })
			for n := range g.lives {
				g.lives[n] = []change{{0, closed}, {3500 * ms, opened}, {7500 * ms, halfOpen}}
			}
			g.callEach("orders-1", 7600*ms, 7680*ms)
		}, nil, Fail, "orders-1 let 4 calls"},

		"closes in the interval": {closes("<= 1.05s"), nil, nil, Pass, ""},
		"closes, not counted":    {closes("<= 1.05s"), nil, without(hasvcTransitions), Pass, "closed for good 850ms to 1.05s"},
		"closes about the bound": {closes("<= 1s"), nil, nil, Invalid, "too far apart to tell"},
		"closes too late":        {closes("< 850ms"), nil, nil, Fail, "closed for good 850ms to 1.05s"},
		"never closes":           {closes("<= 3s"), func(g *guarded) { g.lives["orders-2"] = g.lives["orders-2"][:8] }, nil, Fail, "orders-2 was still not closed 4.85s after kill was undone, wanted <= 3s"},
		"too short to see it":    {closes("<= 4.9s"), func(g *guarded) { g.lives["orders-2"] = g.lives["orders-2"][:8] }, nil, Invalid, "too short to see"},
		"opens again": {closes("<= 2s"), func(g *guarded) {
			g.lives["orders-2"] = append(g.lives["orders-2"], change{9 * time.Second, opened}, change{10 * time.Second, closed})
		}, nil, Fail, "orders-2 closed for good 2.85s to 3.05s"},
		"opens again between two scrapes": {closes("<= 1.8s"), func(g *guarded) {
			g.lives["orders-2"] = append(g.lives["orders-2"], change{9 * time.Second, opened}, change{9010 * ms, closed})
		}, nil, Fail, "orders-2 closed for good 1.85s to 2.05s"},
		"its program ended, and the next one began closed": {closes("<= 2s"), func(g *guarded) {
			g.lives["orders-1"] = []change{{0, closed}, {3500 * ms, opened}, {8600 * ms, closed}}
			g.event(record.Event{T: 8 * time.Second, Kind: record.NodeExited, Node: "orders-1", Announced: true})
		}, func(g *guarded) { g.hole("orders-1", 8*time.Second, 8600*ms) }, Invalid, "orders-1 closed for good 850ms to 1.65s after kill was undone, wanted <= 2s: its program ended then, and the next one began closed"},
		"its program ended, after it had been too late": {closes("<= 500ms"), func(g *guarded) {
			g.lives["orders-1"] = []change{{0, closed}, {3500 * ms, opened}, {8600 * ms, closed}}
			g.event(record.Event{T: 8 * time.Second, Kind: record.NodeExited, Node: "orders-1", Announced: true})
		}, func(g *guarded) { g.hole("orders-1", 8*time.Second, 8600*ms) }, Fail, "closed for good 850ms to 1.65s"},
		"it closed, and its program ended then": {closes("<= 2s"), func(g *guarded) {
			g.event(record.Event{T: 8100 * ms, Kind: record.NodeExited, Node: "orders-1", Announced: true})
		}, func(g *guarded) { without(hasvcTransitions)(g); g.hole("orders-1", 8100*ms, 8600*ms) }, Pass, ""},
		"never opened, so it cannot close": {closes("<= 2s"), never, nil, Invalid, "orders-2 never opened"},
		"not undone": {closes("<= 2s"), func(g *guarded) {
			g.drop(func(e record.Event) bool { return e.Kind == record.FaultUndone || e.Kind == record.FaultGone })
			g.plan.Rounds[0].Faults[0].Held = true
		}, nil, Invalid, "kill was not undone before the end of recovery"},
		"closed before it was undone": {closes("<= 1ms"), func(g *guarded) {
			for n := range g.lives {
				g.lives[n] = []change{{0, closed}, {3500 * ms, opened}, {4500 * ms, halfOpen}, {4600 * ms, closed}}
			}
		}, nil, Pass, "closed for good 0s to 0s"},

		"stays closed":              {stays, quiet, nil, Pass, "orders-1 stayed closed for 8.99s under 461 calls"},
		"stays closed, not counted": {stays, quiet, without(hasvcTransitions), Pass, "as far as scrapes tell"},
		"opens and should not":      {stays, func(g *guarded) { quiet(g); g.lives["orders-2"] = []change{{0, closed}, {8 * time.Second, opened}} }, nil, Fail, "orders-2 opened between 4.84s and 5.04s after the start, and should not have"},
		"opens between two scrapes": {stays, func(g *guarded) {
			quiet(g)
			g.lives["orders-2"] = []change{{0, closed}, {8060 * ms, opened}, {8070 * ms, halfOpen}, {8080 * ms, closed}}
		}, nil, Fail, "orders-2 opened between"},
		"half-open is not closed": {stays, func(g *guarded) { quiet(g); g.lives["orders-2"] = []change{{0, closed}, {8 * time.Second, halfOpen}} }, nil, Fail, "orders-2 opened"},
		"closed for want of calls": {stays, func(g *guarded) {
			quiet(g)
			g.only(func(c record.Call) bool { return c.Begin < 3*time.Second || c.From == "orders-1" })
		}, nil, Invalid, "orders-2 made no call"},
		"closed for want of calls but between two faults": {stays, func(g *guarded) {
			quiet(g)
			g.again(9 * time.Second)
			g.only(func(c record.Call) bool {
				return c.Begin < 3*time.Second || c.Begin > 7100*ms && c.Begin < 9*time.Second
			})
		}, nil, Invalid, "made no call in kill that could have opened it"},
		"called in the second of two faults alone": {stays, func(g *guarded) {
			quiet(g)
			g.again(9 * time.Second)
			g.only(func(c record.Call) bool { return c.Begin < 3*time.Second || c.Begin > 9*time.Second })
		}, nil, Pass, ""},
		"stays closed all the time": {&Breaker{Of: "inventory", In: "orders", StaysClosed: true}, quiet, nil, Pass, "stayed closed for 12s under 611 calls"},
		"opens outside of a fault": {&Breaker{Of: "inventory", In: "orders", StaysClosed: true}, func(g *guarded) {
			quiet(g)
			g.lives["orders-1"] = []change{{0, closed}, {time.Second, opened}, {1500 * ms, closed}}
		}, nil, Fail, "orders-1 opened"},

		"oscillates":                      {transitions("<= 8"), nil, nil, Fail, "changed its state 9 times, wanted <= 8"},
		"changes seen, not counted":       {transitions("<= 20"), nil, without(hasvcTransitions), Invalid, "there may have been more"},
		"too many seen, though uncounted": {transitions("<= 2"), nil, without(hasvcTransitions), Fail, "was seen to change its state 3 times"},
		"none seen, not counted":          {transitions("<= 2"), quiet, without(hasvcTransitions), Pass, "0 times"},
		"nothing that could change it": {transitions("<= 2"), func(g *guarded) {
			quiet(g)
			g.only(func(c record.Call) bool { return c.Begin < 3*time.Second || c.Begin > 7100*ms })
		}, nil, Invalid, "made no call in kill that could have changed it"},
		"a counter that is not there": {b(func(a *Breaker) { a.Transitions, a.Metrics.Transitions = bound(t, "<= 20"), "moves_total" }), nil, nil, Invalid, "no metric moves_total was scraped"},
		"a counter without the label": {b(func(a *Breaker) { a.Transitions, a.Metrics.Transitions = bound(t, "<= 20"), "moves_total" }), nil, func(g *guarded) {
			g.scrape.gauge("moves_total", "orders-1", map[string]string{"name": "inventory"}, 50*ms, 13*time.Second, func(time.Duration) float64 { return 1 })
		}, Invalid, "moves_total has no label service"},

		"sent when it was not open any more": {rejects(BreakerRejects{Status: []int{200}}), func(g *guarded) {
			g.each(4240*ms, 4245*ms, func(q *record.Request) { q.Sent += 600 * ms; q.Done += 600 * ms; broken(q) })
		}, nil, Invalid, "0 answers of 320 requests due while open had another status than [200], and 1 request that were sent when it was not open any more: the generator was late here, by up to 600ms"},
		"sent late, and while it was open": {rejects(BreakerRejects{Status: []int{200}}), func(g *guarded) {
			g.each(4000*ms, 4005*ms, func(q *record.Request) { q.Sent += 100 * ms; q.Done += 100 * ms; broken(q) })
		}, nil, Fail, "1 answer of 320 requests"},
		"rejects fast":   {rejects(BreakerRejects{P95: bound(t, "<= 5ms"), Status: []int{200}}), nil, nil, Pass, "p95 5ms of 320 requests due while open, wanted <= 5ms"},
		"rejects slowly": {rejects(BreakerRejects{P95: bound(t, "<= 5ms")}), func(g *guarded) { g.each(3500*ms, 7*time.Second, func(q *record.Request) { q.Done = q.Due + 6*ms }) }, nil, Fail, "p95 6ms"},
		"rejects after a stall of the generator": {rejects(BreakerRejects{P95: bound(t, "<= 5ms")}), func(g *guarded) {
			g.each(3500*ms, 7*time.Second, func(q *record.Request) { q.Sent += ms; q.Done += ms })
		}, nil, Invalid, "p95 6ms of 320 requests due while open, wanted <= 5ms: the generator was late here, by up to 1ms"},
		"slow while it was not open": {rejects(BreakerRejects{P95: bound(t, "<= 5ms")}), func(g *guarded) {
			slow := func(q *record.Request) { q.Done = q.Due + time.Second }
			g.each(3*time.Second, 3855*ms, slow)
			g.each(4255*ms, 4855*ms, slow)
			g.each(7300*ms, 12*time.Second, slow)
		}, nil, Pass, ""},
		"too few for p99":                  {rejects(BreakerRejects{P99: bound(t, "<= 5ms")}), nil, nil, Invalid, "p99 <= 5ms needs 1000 samples"},
		"another status":                   {rejects(BreakerRejects{Status: []int{200, 202}}), func(g *guarded) { g.each(4*time.Second, 4*time.Second+5*ms, broken) }, nil, Fail, "1 answer of 320 requests due while open had another status than [200 202]"},
		"another status, of the others":    {rejects(BreakerRejects{Request: "read", Status: []int{200}}), func(g *guarded) { g.each(4*time.Second, 4*time.Second+5*ms, broken) }, nil, Pass, "0 answers of 240 requests"},
		"nothing to answer while open":     {rejects(BreakerRejects{Status: []int{200}}), quiet, nil, Invalid, "0 requests were due while the breakers were open, and it takes 10"},
		"only one of the breakers is open": {rejects(BreakerRejects{Status: []int{200}}), never, nil, Invalid, "0 requests were due"},
		"only one is open, and requests tell where they went": {rejects(BreakerRejects{Status: []int{200}}), func(g *guarded) {
			never(g)
			g.each(0, 12*time.Second, func(q *record.Request) { q.Node = fmt.Sprint("orders-", 1+q.Seq%2) })
		}, nil, Pass, "0 answers of 160 requests"},
		"just enough answers": {rejects(BreakerRejects{Status: []int{200}}), func(g *guarded) {
			g.reqs = slices.DeleteFunc(g.reqs, func(q record.Request) bool { return q.Due > 3900*ms && q.Due < 7500*ms })
		}, nil, Pass, "0 answers of 10 requests due while open"},
		"one answer too few": {rejects(BreakerRejects{Status: []int{200}}), func(g *guarded) {
			g.reqs = slices.DeleteFunc(g.reqs, func(q record.Request) bool { return q.Due >= 3900*ms && q.Due < 7500*ms })
		}, nil, Invalid, "9 requests were due while the breakers were open, and it takes 10"},
		"of one of two loads": {rejects(BreakerRejects{Status: []int{200}}), func(g *guarded) { g.plan.Loads = append(g.plan.Loads, plan.Load{Name: "more"}) }, nil, Invalid,
			" / rejects: load is missing: there is orders, more"},
		"of an unknown load": {rejects(BreakerRejects{Load: "none", Status: []int{200}}), nil, nil, Invalid, "0 requests"},

		"no metrics":                    {opens("<= 1s"), nil, func(g *guarded) { g.scrape = nil }, Invalid, "the run has no metrics"},
		"no such metric":                {opens("<= 1s"), nil, without(hasvcState), Invalid, "no metric hasvc_breaker_state was scraped"},
		"names that cannot be read":     {opens("<= 1s"), nil, torn("names"), Invalid, "reading the names of metrics: torn"},
		"gaps that cannot be read":      {opens("<= 1s"), nil, torn("gaps"), Invalid, "reading the gaps between scrapes: torn"},
		"a state that cannot be read":   {opens("<= 1s"), nil, torn(hasvcState), Invalid, "reading hasvc_breaker_state"},
		"a counter that cannot be read": {stays, quiet, torn(hasvcTransitions), Invalid, "reading hasvc_breaker_transitions_total"},
		"a gap": {opens("<= 1s"), nil, func(g *guarded) {
			g.scrape.gaps = []record.Gap{{Node: "orders-2", From: time.Second, To: 2 * time.Second}}
		}, Invalid, "orders-2 was not scraped from 1s to 2s"},
		"a gap elsewhere": {opens("<= 1s"), nil, func(g *guarded) {
			g.scrape.gaps = []record.Gap{{Node: "inventory-1", From: time.Second, To: 2 * time.Second}}
		}, Pass, ""},
		"a hole in the series":     {opens("<= 1s"), nil, func(g *guarded) { g.hole("orders-1", 5*time.Second, 5500*ms) }, Invalid, "of orders-1 was not scraped from 4.85s to 5.65s"},
		"a scrape that is missing": {opens("<= 1s"), nil, func(g *guarded) { g.hole("orders-1", 5*time.Second, 5200*ms) }, Pass, ""},
		"the end is missing":       {opens("<= 1s"), nil, func(g *guarded) { g.hole("orders-1", 11*time.Second, 14*time.Second) }, Invalid, "was not scraped from 10.85s to 12s"},
		"the beginning is missing": {opens("<= 1s"), nil, func(g *guarded) { g.hole("orders-1", 0, 600*ms) }, Invalid, "was not scraped from 0s to 650ms"},
		"no series of one of them": {opens("<= 1s"), nil, func(g *guarded) { g.hole("orders-1", 0, 14*time.Second) }, Invalid, "orders-1 makes calls and has no hasvc_breaker_state"},
		"a caller that died": {transitions("<= 20"), func(g *guarded) {
			g.event(record.Event{T: 5 * time.Second, Kind: record.NodeExited, Node: "orders-1", Announced: true})
		}, func(g *guarded) { g.hole("orders-1", 5*time.Second, 6*time.Second) }, Pass, ""},
		"another died": {transitions("<= 20"), func(g *guarded) {
			g.event(record.Event{T: 5 * time.Second, Kind: record.NodeExited, Node: "orders-2", Announced: true})
		}, func(g *guarded) { g.hole("orders-1", 5*time.Second, 6*time.Second) }, Invalid, "of orders-1 was not scraped"},
		"a caller that was paused": {transitions("<= 20"), func(g *guarded) {
			g.event(record.Event{T: 5 * time.Second, Kind: record.NodePaused, Node: "orders-1"})
		}, func(g *guarded) { g.hole("orders-1", 5*time.Second, 6*time.Second) }, Invalid, "of orders-1 was not scraped"},
		"several series": {opens("<= 1s"), nil, func(g *guarded) {
			g.scrape.gauge(hasvcState, "orders-1", map[string]string{"service": "inventory", "method": "x"}, 50*ms, time.Second, func(time.Duration) float64 { return 0 })
		}, Invalid, "several series"},
		"no calls in the baseline": {opens("<= 1s"), func(g *guarded) { g.only(func(c record.Call) bool { return c.Begin > 2900*ms }) }, nil, Invalid, "no call from orders to inventory crossed the link in the baseline"},
		"an idle replica":          {opens("<= 1s"), func(g *guarded) { never(g); g.only(func(c record.Call) bool { return c.From == "orders-1" }) }, nil, Pass, "(breaker of inventory in orders-1); orders-2 made no calls and was left out"},
		"calls that were dropped": {opens("<= 1s"), func(g *guarded) {
			g.event(record.Event{T: time.Second, Kind: record.ObserveEnd, Data: json.RawMessage(`{"dropped": 1}`)})
		}, nil, Invalid, "not every call on the links was read: 1 dropped"},
		"calls that were unreadable": {opens("<= 1s"), func(g *guarded) {
			g.event(record.Event{T: time.Second, Kind: record.ObserveEnd, Data: json.RawMessage(`{"unreadable": 2}`)})
		}, nil, Invalid, "2 connections unreadable"},
		"all calls were read": {opens("<= 1s"), func(g *guarded) {
			g.event(record.Event{T: time.Second, Kind: record.ObserveEnd, Data: json.RawMessage(`{"dropped": 0, "unreadable": 0}`)})
		}, nil, Pass, ""},
		"nobody knows what was read": {opens("<= 1s"), func(g *guarded) {
			g.event(record.Event{T: time.Second, Kind: record.ObserveEnd, Data: json.RawMessage(`3`)})
		}, nil, Invalid, "not known"},
		"a fault that never began":           {b(func(a *Breaker) { a.Fault, a.Opens = "cut", bound(t, "<= 1s") }), nil, nil, Invalid, "cut never began"},
		"a window shorter than four scrapes": {opens("<= 1s"), nil, func(g *guarded) { g.scrape.interval = time.Second }, Invalid, "the 3.99s of kill are shorter than four scrapes"},
		"a window of four scrapes": {opens("<= 2s"), func(g *guarded) {
			g.scrape.interval = time.Second
			i := slices.IndexFunc(g.events, func(e record.Event) bool { return e.Kind == record.FaultInEffect })
			g.events[i].T = 3 * time.Second
		}, nil, Pass, "orders-1 opened 50ms to 1.05s after kill was in effect"},
		"a load shorter than four scrapes": {&Breaker{Of: "inventory", In: "orders", StaysClosed: true}, quiet, func(g *guarded) { g.scrape.interval = 3100 * ms }, Invalid, "the 12s of the time under load are shorter than four scrapes"},
		"no baseline":                      {stays, func(g *guarded) { quiet(g); g.drop(func(e record.Event) bool { return e.Phase == plan.PhaseBaseline }) }, nil, Invalid, "the round did not reach the phase baseline"},
		"no recovery":                      {stays, func(g *guarded) { quiet(g); g.drop(func(e record.Event) bool { return e.Phase == plan.PhaseRecovery }) }, nil, Invalid, "the round did not get through its phases under load"},
		"a pattern that is none":           {b(func(a *Breaker) { a.Opens, a.Method = bound(t, "<= 1s"), "(" }), nil, nil, Invalid, `method "(" is no regular expression`},
		"a late generator": {opens("<= 1s"), func(g *guarded) {
			g.each(0, 12*time.Second, func(q *record.Request) { q.Sent += 60 * ms; q.Done += 60 * ms })
		}, nil, Invalid, "it would be PASS, but the generator of orders was late"},
		"a shaky baseline": {opens("<= 1s"), func(g *guarded) { g.each(0, time.Second, broken) }, nil, Invalid, "the baseline of orders was not steady"},
		"a fault that was not proved": {opens("<= 1s"), func(g *guarded) {
			g.event(record.Event{T: 5 * time.Second, Kind: record.FaultUnproved, Fault: "kill", Occurrence: 1})
		}, nil, Invalid, "fault kill was not proved"},

		"other names": {b(func(a *Breaker) {
			a.Opens = bound(t, "<= 1s")
			a.Metrics = BreakerMetrics{State: "cb", Label: "name", Value: "inv", Open: new(float64), Closed: new(float64)}
			*a.Metrics.Open, *a.Metrics.Closed = 1, 5
		}), nil, func(g *guarded) {
			g.scrape.series = nil
			for _, n := range []string{"orders-1", "orders-2"} {
				g.scrape.gauge("cb", n, map[string]string{"name": "inv"}, 50*ms, 13*time.Second, func(t time.Duration) float64 {
					if t > 3500*ms {
						return 1
					}
					return 5
				})
			}
		}, Pass, "opened 440ms to 640ms"},
		"bounds that make no sense": {opens(">= 1s"), nil, nil, Invalid, "write it as"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuarded()
			g.ask(t, "breaker", c.ask)
			if c.spoil != nil {
				c.spoil(g)
			}
			g.series()
			if c.after != nil {
				c.after(g)
			}
			f := g.want(t, c.want, c.says)
			_, err := json.Marshal(f)
			require.NoError(t, err, "it can be saved, also where something never came")
		})
	}
}

// again lets kill hold a second time, for a second.
func (s *story) again(at time.Duration) {
	for i, k := range []record.EventKind{record.FaultStarted, record.FaultInEffect, record.FaultUndone, record.FaultGone} {
		s.event(record.Event{T: at + time.Duration(i/2)*time.Second, Kind: k, Fault: "kill", Occurrence: 2})
	}
}

// hole removes the scrapes of a node's state in [from, to).
func (g *guarded) hole(node string, from, to time.Duration) {
	for i := range g.scrape.series {
		s := &g.scrape.series[i]
		if s.Labels["__name__"] == hasvcState && s.Labels["node"] == node {
			s.Points = slices.DeleteFunc(s.Points, func(p record.Point) bool { return p.T >= from && p.T < to })
		}
	}
}

func TestTheEvidenceOfABreaker(t *testing.T) {
	g := newGuarded()
	g.ask(t, "breaker", &Breaker{Of: "inventory", In: "orders-1", Fault: "kill", Opens: bound(t, "<= 1s"), Rejects: &BreakerRejects{Load: "orders", P50: bound(t, "<= 5ms"), Status: []int{503}}})
	g.series()
	f := g.want(t, Fail)
	assert.Equal(t, "orders-1 opened 440ms to 640ms after kill was in effect, wanted <= 1s; 320 answers of 320 requests due while open had another status than [503]; p50 5ms of 320 requests due while open, wanted <= 5ms (breaker of inventory in orders-1)", f.Summary)
	require.Len(t, f.Evidence, 3)
	assert.Equal(t, Evidence{What: "state of the breaker at each scrape", File: "metrics", Window: &Window{1, 12 * time.Second}, Count: 60, Nodes: []string{"orders-1"},
		Values: map[string]float64{"opens": 0.64, "calls": 388, "open, seconds": 3.2, "changes seen": 3, "transitions": 9},
		Detail: "closed at 50ms, open at 3.65s, half-open at 7.65s, closed at 8.05s"}, f.Evidence[0])
	assert.Equal(t, Evidence{What: "requests of orders due while the breakers were open", File: "requests/orders.bin", Count: 320, Values: map[string]float64{"p50": 0.005, "status 200": 320}}, f.Evidence[1])
	assert.Equal(t, Evidence{What: "calls from orders-1 to inventory", File: "calls.jsonl", Window: &Window{1, 12 * time.Second}, Count: 388,
		Values: map[string]float64{"in the baseline": 145, "scrape interval": 0.2}}, f.Evidence[2])
}

// Of many breakers ten are shown; all are judged.
func TestTheEvidenceOfManyBreakers(t *testing.T) {
	g := guardedBy(11)
	g.lives["orders-9"] = g.lives["orders-9"][:1]
	g.callEach("orders-9", 3500*ms, 7960*ms)
	g.ask(t, "breaker", &Breaker{Of: "inventory", In: "orders", Fault: "kill", Opens: bound(t, "<= 1s")})
	g.series()
	f := g.want(t, Fail, "orders-9 did not open")
	require.Len(t, f.Evidence, 10+1)
	assert.Equal(t, []string{"orders-1"}, f.Evidence[0].Nodes)
	assert.Equal(t, []string{"orders-8"}, f.Evidence[9].Nodes)
}

// A gauge of another kind has no counter but its own: hasvc's would count the changes of another breaker.
func TestByWhichNamesABreakerIsKnown(t *testing.T) {
	for _, c := range []struct{ given, want BreakerMetrics }{
		{BreakerMetrics{}, BreakerMetrics{State: hasvcState, Transitions: hasvcTransitions}},
		{BreakerMetrics{State: hasvcState}, BreakerMetrics{State: hasvcState, Transitions: hasvcTransitions}},
		{BreakerMetrics{State: "cb"}, BreakerMetrics{State: "cb"}},
		{BreakerMetrics{Transitions: "moves"}, BreakerMetrics{State: hasvcState, Transitions: "moves"}},
		{BreakerMetrics{State: "cb", Transitions: "moves"}, BreakerMetrics{State: "cb", Transitions: "moves"}},
	} {
		m := (&Breaker{Of: "inventory", Metrics: c.given}).names()
		require.Equal(t, c.want, BreakerMetrics{State: m.State, Transitions: m.Transitions})
		require.Equal(t, []any{"service", "inventory", 2.0, 0.0}, []any{m.Label, m.Value, *m.Open, *m.Closed})
	}
}

func TestBreakerParameters(t *testing.T) {
	s := Scope{Plan: &newStory().plan, Services: []string{"inventory", "orders"}, Groups: []string{"store"}}
	good := func() *Breaker {
		return &Breaker{Of: "inventory", In: "orders", Fault: "kill", Opens: bound(t, "<= 2s")}
	}
	for _, x := range []*Breaker{good(), {Of: "inventory", In: "orders-2", StaysClosed: true}, {Of: "store", In: "client", Fault: "kill", StaysClosed: true, Transitions: bound(t, "= 0")},
		{Of: "inventory", In: "orders", Fault: "kill", Opens: bound(t, "< 20"), WhileOpen: bound(t, "= 0"), Probes: bound(t, "<= 3"), Closes: bound(t, "<= 3s"), Rejects: &BreakerRejects{Request: "create", Load: "orders", P99: bound(t, "<= 20ms"), Status: []int{100, 599}}}} {
		require.NoError(t, x.Validate(s))
		require.Equal(t, []plan.LinkEnds{{From: x.In, To: x.Of}}, x.Observes())
	}
	two := 2.0
	for says, spoil := range map[string]func(*Breaker){
		`of is missing`: func(a *Breaker) { a.Of = "" },
		`in is missing`: func(a *Breaker) { a.In = "" },
		`no service, group or node is called "inventroy"`: func(a *Breaker) { a.Of = "inventroy" },
		`no service, group or node is called "order"`:     func(a *Breaker) { a.In = "order" },
		`no fault is called "cut"`:                        func(a *Breaker) { a.Fault = "cut" },
		`fault is missing`:                                func(a *Breaker) { a.Fault = "" },
		`nothing is asked`:                                func(a *Breaker) { a.Opens = plan.Bound{} },
		`stays-closed excludes`:                           func(a *Breaker) { a.StaysClosed = true },
		`method "(" is no regular`:                        func(a *Breaker) { a.Method = "(" },
		`settle is negative`:                              func(a *Breaker) { a.Settle = -1 },
		`metrics.open: 2 means both`:                      func(a *Breaker) { a.Metrics.Closed = &two },
		`opens ">= 2s": write it`:                         func(a *Breaker) { a.Opens = bound(t, ">= 2s") },
		`opens "<= 99%": write it`:                        func(a *Breaker) { a.Opens = bound(t, "<= 99%") },
		`opens "= 2": no breaker`:                         func(a *Breaker) { a.Opens = bound(t, "= 2") },
		`while-open "<= 2s"`:                              func(a *Breaker) { a.WhileOpen = bound(t, "<= 2s") },
		`probes ">= 2"`:                                   func(a *Breaker) { a.Probes = bound(t, ">= 2") },
		`closes "<= 2"`:                                   func(a *Breaker) { a.Closes = bound(t, "<= 2") },
		`closes "= 2s"`:                                   func(a *Breaker) { a.Closes = bound(t, "= 2s") },
		`transitions "> 2"`:                               func(a *Breaker) { a.Transitions = bound(t, "> 2") },
		`rejects: no bound`:                               func(a *Breaker) { a.Rejects = &BreakerRejects{} },
		`rejects.p99 "<= 2"`:                              func(a *Breaker) { a.Rejects = &BreakerRejects{P99: bound(t, "<= 2")} },
		`rejects.status: 99 is`:                           func(a *Breaker) { a.Rejects = &BreakerRejects{Status: []int{99}} },
		`rejects.status: 600 is`:                          func(a *Breaker) { a.Rejects = &BreakerRejects{Status: []int{600}} },
		`no load is called "none"`:                        func(a *Breaker) { a.Rejects = &BreakerRejects{Load: "none", Status: []int{503}} },
		`no request of load orders is called "none"`:      func(a *Breaker) { a.Rejects = &BreakerRejects{Load: "orders", Request: "none", Status: []int{503}} },
	} {
		x := good()
		spoil(x)
		require.ErrorContains(t, x.Validate(s), says)
	}
	x := good()
	x.Rejects = &BreakerRejects{Status: []int{503}}
	require.NoError(t, x.Validate(s))
	s.Plan.Loads = append(s.Plan.Loads, plan.Load{Name: "more"})
	require.ErrorContains(t, x.Validate(s), "rejects: load is missing: there is orders, more")
}

func TestBetween(t *testing.T) {
	for _, c := range []struct {
		bound  string
		lo, hi float64
		want   Verdict
	}{
		{"<= 2", 1, 2, Pass}, {"<= 2", 2, 3, Invalid}, {"<= 2", 3, 4, Fail}, {"< 2", 1, 2, Invalid}, {">= 2", 1, 3, Invalid}, {">= 2", 2, unbounded, Pass}, {">= 2", 0, 1, Fail},
		{"= 2", 2, 2, Pass}, {"= 2", 1, 3, Invalid}, {"= 2", 2, 3, Invalid}, {"= 2", 3, 3, Fail}, {"= 2", 0, 1, Fail}, {"= 2", 1, 2, Invalid},
	} {
		require.Equal(t, c.want, between(bound(t, c.bound), c.lo, c.hi), "%v", c)
	}
}

// Whatever happens between scrapes, a breaker that opens on time is never called late, and one that opens late is never called
// punctual.
func TestOpeningsAreJudgedWithinTheScrapes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := time.Duration(rapid.IntRange(1, 2000).Draw(t, "opened")) * ms
		first := time.Duration(rapid.IntRange(-199, 0).Draw(t, "scraped")) * ms
		limit := time.Duration(rapid.IntRange(1, 2000).Draw(t, "bound")) * ms
		var l life
		for s := first; s < 2500*ms; s += time.Duration(rapid.IntRange(150, 250).Draw(t, "interval")) * ms {
			x := stateAt{at: s}
			if s >= at {
				x.state, x.moves = opened, 1
			}
			l.states = append(l.states, x)
		}
		b, err := plan.ParseBound("<= " + limit.String())
		require.NoError(t, err)
		a := Breaker{Fault: "f", Opens: b}
		l.calls = []record.Call{{Begin: 1}}
		switch got := a.opens(&watch{start: 0, faultEnd: 2300 * ms}, "n", &l).verdict; {
		case got == Pass && at > limit, got == Fail && at <= limit:
			t.Fatalf("opened at %v, bound %v: %v", at, limit, got)
		}
	})
}
