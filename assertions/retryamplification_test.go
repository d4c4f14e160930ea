package assertions

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// amplified is a story in which each create, one request of four, leads to one call from orders to inventory, and to a second one
// 30 ms later while kill holds.
func amplified() *story {
	s := newStory()
	s.meta.Nodes = append(s.meta.Nodes, record.Node{Name: "inventory-1", Service: "inventory"}, record.Node{Name: "orders-1", Service: "orders"}, record.Node{Name: "orders-2", Service: "orders"})
	for i := range s.reqs {
		q := &s.reqs[i]
		q.ID = fmt.Sprint("r", i)
		if q.Request != "create" {
			continue
		}
		c := record.Call{From: fmt.Sprint("orders-", 1+i%2), To: "inventory-1", Begin: q.Due + ms, End: q.Due + 2*ms, Path: "/inventory.v1.Inventory/Reserve", RequestID: q.ID}
		s.calls = append(s.calls, c)
		if q.Due >= 3*time.Second && q.Due < 7*time.Second {
			c.Begin += 30 * ms
			s.calls = append(s.calls, c)
		}
	}
	return s
}

func TestRetryAmplification(t *testing.T) {
	a := func(attempts, when string) *RetryAmplification {
		return &RetryAmplification{Load: "orders", From: "orders", To: "inventory", Attempts: bound(t, attempts), During: when}
	}
	anonymous := func(s *story) {
		for i := range s.calls {
			s.calls[i].RequestID = ""
		}
	}
	observed := func(data string) func(s *story) {
		return func(s *story) {
			s.event(record.Event{T: time.Second, Kind: record.ObserveEnd, Data: json.RawMessage(data)})
		}
	}
	for name, c := range map[string]struct {
		ask   *RetryAmplification
		spoil func(*story)
		want  Verdict
		says  string
	}{
		"at the bound":    {a("<= 2", "kill"), nil, Pass, "2 calls on orders -> inventory for each request, wanted <= 2 (400 calls of 200 requests for orders due in kill; 1.98 in the worst second)"},
		"below the bound": {a("< 2", "kill"), nil, Fail, "2 calls on orders -> inventory"},
		"without a fault": {a("<= 1", "recovery"), nil, Pass, "250 calls of 250 requests"},
		"all the time":    {a("<= 1.4", ""), nil, Pass, "799 calls of 599 requests for orders due in all phases under load"},
		"in the baseline": {a("<= 1", "baseline"), nil, Pass, "144 calls of 144 requests"},
		"a late retry":    {a("<= 2", "kill"), func(s *story) { s.repeat(6500*ms, 3*time.Second) }, Fail, "401 calls of 200 requests"},
		"a retry of a request that was due before": {a("<= 2", "kill"), func(s *story) { s.repeat(2000*ms, 2*time.Second) }, Pass, "400 calls of 200 requests"},
		"requests of others": {a("<= 2", "kill"), func(s *story) {
			for i := range 100 {
				s.repeat(4*time.Second, time.Duration(i)*ms)
				s.calls[len(s.calls)-1].RequestID = "other"
			}
		}, Pass, "400 calls of 200"},
		"another method":               {&RetryAmplification{Load: "orders", From: "orders", To: "inventory", Attempts: bound(t, "<= 1"), Method: "Level"}, nil, Invalid, "no call crossed orders -> inventory for a request of orders in the baseline"},
		"one node":                     {&RetryAmplification{Load: "orders", From: "orders-2", To: "inventory-1", Attempts: bound(t, "<= 2"), During: "kill"}, nil, Invalid, "no call crossed"},
		"relative":                     {a("<= 2x baseline", "kill"), nil, Pass, "2.00x the baseline's 1, wanted <= 2x baseline"},
		"relative, fails":              {a("<= 1.9x baseline", "kill"), nil, Fail, "2.00x the baseline's 1"},
		"without ids":                  {a("<= 2", "kill"), anonymous, Invalid, "bound the attempts relative to the baseline"},
		"without ids, relative":        {a("<= 2.01x baseline", "kill"), anonymous, Pass, "0.4988 calls on orders -> inventory for each request, 1.99x the baseline's 0.2504, wanted <= 2.01x baseline (399 calls of 800 requests for orders due in kill)"},
		"without ids, relative, fails": {a("<= 1.9x baseline", "kill"), anonymous, Fail, "1.99x"},
		"without ids, none crossed": {a("<= 2x baseline", "kill"), func(s *story) {
			anonymous(s)
			s.calls = slices.DeleteFunc(s.calls, func(c record.Call) bool { return c.Begin >= 3*time.Second && c.Begin < 7*time.Second })
		}, Invalid, "0 calls crossed orders -> inventory in kill and 145 in the baseline, and it takes 10 each"},
		"without ids, few crossed, each of them often": {a("<= 2x baseline", "kill"), func(s *story) {
			anonymous(s)
			s.calls = slices.DeleteFunc(s.calls, func(c record.Call) bool { return c.Begin >= 3*time.Second && c.Begin < 6*time.Second })
		}, Invalid, "not every request reached it, and without ids nobody can tell how often those were repeated that did"},
		"some without ids": {a("<= 2", "kill"), func(s *story) {
			for i := range 9 {
				s.calls[i*50].RequestID = ""
			}
		}, Invalid, "6 of 399 calls carry no request id"},
		"some without ids, few of the round": {a("<= 2", "kill"), func(s *story) {
			for i := range 8 {
				s.calls[150+2*i].RequestID = ""
			}
		}, Invalid, "8 of 399 calls carry no request id"},
		"some without ids, at another time": {a("<= 2", "kill"), func(s *story) {
			for i := range 40 {
				s.calls[560+i].RequestID = ""
			}
		}, Pass, "400 calls of 200 requests"},
		"some without ids in the baseline, relative": {a("<= 2x baseline", "kill"), func(s *story) { s.calls[1].RequestID, s.calls[2].RequestID = "", "" }, Invalid, "2 of 145 calls carry no request id"},
		"one call of a hundred without an id": {a("<= 2", "kill"), func(s *story) {
			for i := range 4 {
				s.calls[151+2*i].RequestID = ""
			}
			s.repeat(4*time.Second, ms)
			s.calls[len(s.calls)-1].RequestID = "other"
		}, Pass, "396 calls of 200 requests"},
		"one without an id":  {a("<= 2", "kill"), func(s *story) { s.calls[0].RequestID = "" }, Pass, ""},
		"no calls before":    {a("<= 2", "kill"), func(s *story) { s.calls = s.calls[200:] }, Invalid, "no call crossed orders -> inventory for a request of orders in the baseline"},
		"no calls then":      {a("<= 2", "recovery"), func(s *story) { s.calls = s.calls[:550] }, Invalid, "0 requests reached orders -> inventory in recovery, and it takes 10"},
		"just enough":        {a("<= 1", "recovery"), func(s *story) { s.calls = s.calls[:560] }, Pass, "10 calls of 10 requests"},
		"one too few":        {a("<= 1", "recovery"), func(s *story) { s.calls = s.calls[:559] }, Invalid, "9 requests reached"},
		"just enough before": {a("<= 2x baseline", "kill"), func(s *story) { s.calls = s.calls[135:] }, Pass, "2.00x the baseline's 1"},
		"one too few before": {a("<= 2x baseline", "kill"), func(s *story) { s.calls = s.calls[136:] }, Invalid, "9 requests reached orders -> inventory in the baseline, and it takes 10"},
		"too few before":     {a("<= 2x baseline", "kill"), func(s *story) { s.calls = s.calls[141:] }, Invalid, "4 requests reached orders -> inventory in the baseline, and it takes 10"},
		"no second with many": {a("<= 2", "kill"), func(s *story) {
			s.calls = slices.DeleteFunc(s.calls, func(c record.Call) bool { return c.Begin%(200*ms) != ms && c.Begin%(200*ms) != 31*ms })
		}, Pass,
			"(40 calls of 20 requests for orders due in kill)"},
		"a group": {&RetryAmplification{Load: "orders", From: "orders", To: "stock", Attempts: bound(t, "<= 2"), During: "kill"}, func(s *story) {
			i := slices.IndexFunc(s.meta.Nodes, func(n record.Node) bool { return n.Name == "inventory-1" })
			s.meta.Nodes[i].Group = "stock"
		}, Pass, "400 calls of 200 requests"},
		"a replica that came later": {a("<= 1.9", "kill"), func(s *story) {
			for i := range s.calls {
				if s.calls[i].Begin >= 3*time.Second {
					s.calls[i].From = "orders-3"
				}
			}
		}, Fail, "400 calls of 200 requests"},
		"a pattern that is none": {&RetryAmplification{Load: "orders", From: "orders", To: "inventory", Attempts: bound(t, "<= 2"), Method: "["}, nil, Invalid, `method "[" is no regular expression`},
		"no baseline":            {a("<= 2", "fault"), func(s *story) { s.drop(func(e record.Event) bool { return e.Phase == plan.PhaseBaseline }) }, Invalid, "the round did not reach the phase baseline"},
		"dropped":                {a("<= 2", "kill"), observed(`{"dropped": 3}`), Invalid, "3 dropped"},
		"no such fault":          {a("<= 2", "cut"), nil, Invalid, "cut never began"},
		"a bad bound":            {a("<= 2s", "kill"), nil, Invalid, "write it as"},
		"a late generator": {a("<= 2", "kill"), func(s *story) {
			s.each(0, 12*time.Second, func(q *record.Request) { q.Sent += 60 * ms; q.Done += 60 * ms })
		}, Invalid, "it would be PASS, but the generator of orders was late"},
		"a fault that was not proved": {a("<= 2", "kill"), func(s *story) { s.drop(func(e record.Event) bool { return e.Kind == record.FaultInEffect }) }, Invalid, "was not proved"},
	} {
		t.Run(name, func(t *testing.T) {
			s := amplified()
			s.ask(t, "retry-amplification", c.ask)
			if c.spoil != nil {
				c.spoil(s)
			}
			f := s.want(t, c.want, c.says)
			_, err := json.Marshal(f)
			require.NoError(t, err, "it can be saved")
		})
	}
}

// repeat adds a call for the request that is due at a moment.
func (s *story) repeat(due, later time.Duration) {
	for _, c := range s.calls {
		if c.Begin == due+ms {
			c.Begin += later
			s.calls = append(s.calls, c)
			return
		}
	}
	panic("no such call")
}

func TestTheEvidenceOfAmplification(t *testing.T) {
	s := amplified()
	for i := range 5 {
		s.repeat(5*time.Second, time.Duration(100+i)*ms)
	}
	s.ask(t, "retry-amplification", &RetryAmplification{Load: "orders", From: "orders", To: "inventory", Attempts: bound(t, "<= 2"), During: "kill"})
	f := s.want(t, Fail)
	require.Len(t, f.Evidence, 3)
	assert.Equal(t, map[string]float64{"calls": 405, "requests": 200, "calls of others": 0, "windows": 1}, f.Evidence[0].Values)
	assert.Equal(t, 405, f.Evidence[0].Count)
	assert.Equal(t, map[string]float64{"calls": 144, "requests": 144}, f.Evidence[1].Values)
	worst := f.Evidence[2]
	assert.Equal(t, time.Second, worst.Window.To-worst.Window.From)
	assert.Equal(t, map[string]float64{"calls": 105, "requests": 51}, worst.Values)
	assert.Contains(t, worst.Detail, "request r1000: 7 calls: /inventory.v1.Inventory/Reserve orders-1 -> inventory-1 at 5.001s, ")
}

// The window that evidence shows is that of one occurrence, and says so.
func TestTheEvidenceOfTwoOccurrences(t *testing.T) {
	s := amplified()
	s.again(9 * time.Second)
	s.ask(t, "retry-amplification", &RetryAmplification{Load: "orders", From: "orders", To: "inventory", Attempts: bound(t, "<= 2"), During: "kill"})
	f := s.want(t, Pass)
	assert.Equal(t, "calls on orders -> inventory for requests of orders due in kill, occurrence 1 of 2; count and values are of all", f.Evidence[0].What)
	assert.Equal(t, 450, f.Evidence[0].Count)
}

func TestRetryAmplificationParameters(t *testing.T) {
	s := Scope{Plan: &newStory().plan, Services: []string{"inventory", "orders"}}
	good := func() *RetryAmplification {
		return &RetryAmplification{Load: "orders", From: "orders", To: "inventory", Attempts: bound(t, "<= 1.2"), During: "kill"}
	}
	require.NoError(t, good().Validate(s))
	require.Equal(t, []plan.LinkEnds{{From: "orders", To: "inventory"}}, good().Observes())
	for says, spoil := range map[string]func(*RetryAmplification){
		"load is missing":                   func(a *RetryAmplification) { a.Load = "" },
		`no load is called "none"`:          func(a *RetryAmplification) { a.Load = "none" },
		"from is missing":                   func(a *RetryAmplification) { a.From = "" },
		"to is missing":                     func(a *RetryAmplification) { a.To = "" },
		`no phase or fault is called "cut"`: func(a *RetryAmplification) { a.During = "cut" },
		"attempts is missing":               func(a *RetryAmplification) { a.Attempts = plan.Bound{} },
		`attempts "<= 2s"`:                  func(a *RetryAmplification) { a.Attempts = bound(t, "<= 2s") },
		`attempts "= 1"`:                    func(a *RetryAmplification) { a.Attempts = bound(t, "= 1") },
		"means nothing":                     func(a *RetryAmplification) { a.Attempts, a.During = bound(t, "<= 2x baseline"), "baseline" },
		"is no regular":                     func(a *RetryAmplification) { a.Method = "[" },
	} {
		x := good()
		spoil(x)
		require.ErrorContains(t, x.Validate(s), says)
	}
}
