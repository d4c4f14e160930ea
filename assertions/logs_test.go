package assertions

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/record"
)

func TestLogs(t *testing.T) {
	follow := func() *Logs { return &Logs{Load: "orders", Hops: []string{"edge", "orders"}, During: "kill"} }
	for name, c := range map[string]struct {
		ask   *Logs
		spoil func(*story)
		want  Verdict
		says  string
	}{
		"all":                  {follow(), nil, Pass, "100 % of 800 requests of orders can be followed through edge, orders by one trace id"},
		"one kind of request":  {&Logs{Load: "orders", Request: "create", Hops: []string{"edge", "orders"}, During: "kill"}, nil, Pass, "200 requests of orders (create)"},
		"a hop without the id": {follow(), func(s *story) { s.silence(of(s.at(4*time.Second), "", "orders")) }, Fail, "99.875 %"},
		"which is borne":       {&Logs{Load: "orders", Hops: []string{"edge", "orders"}, During: "kill", Share: bound(t, ">= 99%")}, func(s *story) { s.silence(of(s.at(4*time.Second), "", "orders")) }, Pass, "99.875 % of 800 requests of orders can be followed through edge, orders by one trace id, wanted >= 99%"},
		"a hop that never logs": {follow(), func(s *story) {
			s.silence(func(l storyLine) bool { return l.fields["service"] == "orders" })
		}, Fail, "0 %"},
		"a hop that logs only answers": {follow(), func(s *story) { s.silence(of(s.at(4*time.Second), "accepted", "orders")) }, Pass, "100 %"},
		"a hop that logs only what it stored": {follow(), func(s *story) {
			s.silence(of(s.at(4*time.Second), "accepted", "orders"))
			s.silence(of(s.at(4*time.Second), "done", "orders"))
		}, Fail, "99.875 %"},
		"one of all": {follow(), func(s *story) {
			the := of(s.at(4*time.Second), "", "")
			s.silence(func(l storyLine) bool { return !the(l) })
		}, Fail, "0.125 % of 800"},
		"a line without a trace id": {follow(), func(s *story) {
			i := slices.IndexFunc(s.logs, of(s.at(4*time.Second), "done", "orders"))
			delete(s.logs[i].fields, "traceId")
		}, Fail, "99.875 %"},
		"another trace id behind the edge": {follow(), func(s *story) {
			i := slices.IndexFunc(s.logs, of(s.at(4*time.Second), "done", "orders"))
			s.logs[i].fields["traceId"] = "another"
		}, Fail, "99.875 %"},
		"a goroutine with another trace id": {follow(), func(s *story) {
			s.says(s.at(4*time.Second), "orders-1", 3*ms, "audit", map[string]any{"traceId": "another"})
		}, Fail, "99.875 %"},
		"a retry with the same": {follow(), func(s *story) {
			s.says(s.at(4*time.Second), "orders-2", 3*ms, "accepted", nil)
		}, Pass, "100 %"},
		"one trace id for two": {follow(), func(s *story) {
			for _, l := range s.logs {
				if of(s.at(4*time.Second), "", "")(l) || of(s.at(4005*ms), "", "")(l) {
					l.fields["traceId"] = "the same"
				}
			}
		}, Fail, "99.75 %"},
		"one trace id for all": {follow(), func(s *story) {
			for _, l := range s.logs {
				l.fields["traceId"] = "the same"
			}
		}, Fail, "0 %"},
		"what failed need not come through": {follow(), func(s *story) {
			q := s.at(4 * time.Second)
			reset(q)
			s.silence(of(q, "", ""))
		}, Pass, "100 % of 799"},

		"no lines":             {follow(), func(s *story) { s.logs = nil }, Invalid, "none of the 0 lines of none has the id"},
		"lines of other ids":   {follow(), func(s *story) { s.each(0, time.Hour, func(q *record.Request) { q.ID = "x" + q.ID }) }, Invalid, "has the id of one of 800 requests"},
		"too few requests":     {follow(), func(s *story) { s.reqs = s.reqs[:690] }, Invalid, "it takes 100 to judge a share"},
		"just enough requests": {follow(), func(s *story) { s.reqs = s.reqs[:700] }, Pass, "100 % of 100 requests"},
		"one request":          {follow(), func(s *story) { s.reqs = s.reqs[:601] }, Invalid, "100 % of 1 requests"},
		"no requests":          {follow(), func(s *story) { s.reqs = s.reqs[:500] }, Invalid, "0 % of 0 requests"},
		"another clock":        {follow(), func(s *story) { s.shift("orders-1", -time.Hour) }, Invalid, "orders-1 logs by another clock"},
		"a fault that was not": {&Logs{Load: "orders", Hops: []string{"edge"}, During: "cut"}, nil, Invalid, "cut never began"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServed()
			s.ask(t, "logs", c.ask)
			if c.spoil != nil {
				c.spoil(s)
			}
			s.want(t, c.want, c.says)
		})
	}
}

func TestARequestThatCannotBeFollowedIsShown(t *testing.T) {
	s := newServed()
	s.ask(t, "logs", &Logs{Load: "orders", Hops: []string{"edge", "orders"}, During: "kill"})
	s.silence(of(s.at(4*time.Second), "", "orders"))
	f := s.want(t, Fail)
	i := slices.IndexFunc(f.Evidence, func(e Evidence) bool { return e.What == "a request that cannot be followed" })
	require.GreaterOrEqual(t, i, 0)
	assert.Equal(t, "create r-800, sent at 4s: not logged by orders", f.Evidence[i].Detail)
	assert.Equal(t, 799.0, f.Evidence[0].Values["logged by orders"])

	s.silence(of(s.at(4*time.Second), "done", "edge")) // one line is left
	s.silence(of(s.at(5*time.Second), "", ""))
	stories := told(s.want(t, Fail), "a request that cannot be followed")
	assert.Equal(t, []string{"create r-800, sent at 4s: not logged by orders", "create r-1000, sent at 5s: no line has its id"}, stories)
	s.silence(func(l storyLine) bool { return strings.HasPrefix(l.node, "orders") })
	assert.Len(t, told(s.want(t, Fail), "a request that cannot be followed"), maxStories)
}

// What is asked of the baseline alone rests on no fault, and what is asked of no phase is asked of all.
func TestLogsOfAPhase(t *testing.T) {
	whole := func() *story { // all of its requests are logged
		s := newServed()
		s.reqs = slices.DeleteFunc(s.reqs, func(q record.Request) bool { return q.Due < 1900*ms || q.Due > 8500*ms })
		return s
	}
	for during, want := range map[string]Verdict{"baseline": Pass, "kill": Invalid} {
		s := whole()
		s.ask(t, "logs", &Logs{Load: "orders", Hops: []string{"edge", "orders"}, During: during})
		s.drop(func(e record.Event) bool { return e.Kind == record.FaultInEffect })
		s.want(t, want, "100 %")
	}
	s := whole()
	f := (&Logs{Load: "orders", Hops: []string{"edge", "orders"}}).Judge(t.Context(), &s.plan, s.write(t).Rounds[0])
	require.Equal(t, Pass, f.Verdict, f.Reason)
	assert.Equal(t, "requests of orders answered in all phases under load", f.Evidence[0].What)
	assert.Equal(t, &Window{1, 12 * time.Second}, f.Evidence[0].Window)
	assert.Equal(t, 1321, f.Evidence[0].Count)
}

func TestValidateLogs(t *testing.T) {
	scope := Scope{Plan: &newServed().plan, Services: []string{"edge", "orders"}}
	for _, c := range []struct {
		a    Logs
		says []string
	}{
		{Logs{Load: "orders", Request: "read", Hops: []string{"edge", "orders"}, During: "baseline", Share: bound(t, ">= 99%")}, nil},
		{Logs{Load: "orders", Hops: []string{"edge"}}, nil},
		{Logs{}, []string{"load or workload is missing", "hops is missing"}},
		{Logs{Load: "orders", Hops: []string{"egde"}, During: "cut", Share: bound(t, "<= 5ms"), Log: &LogPatterns{}}, []string{`no service is called "egde"`, `"cut"`, "write it as", "neither accepted nor done"}},
	} {
		err := c.a.Validate(scope)
		if c.says == nil {
			assert.NoError(t, err)
		}
		for _, x := range c.says {
			assert.ErrorContains(t, err, x)
		}
	}
}
