package assertions

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// newServed is a story whose requests go by edges to orders, which log what they do. edge-1 is sent SIGTERM at 3s, ends 200 ms
// later and is back at 7s.
func newServed() *story {
	s := newStory()
	s.plan.Loads[0].Timeout = plan.Duration(time.Second)
	s.plan.Loads[0].Requests = []plan.Request{{ID: "create", Method: "POST"}, {ID: "read", Method: "GET"}}
	for _, n := range []string{"edge-1", "edge-2", "orders-1", "orders-2"} {
		s.meta.Nodes = append(s.meta.Nodes, record.Node{Name: n, Service: strings.TrimRight(n, "-12")})
	}
	s.drop(func(e record.Event) bool { return e.Node == "store-1" && e.T > 1 })
	s.event(record.Event{T: 3 * time.Second, Kind: record.NodeSignalled, Node: "edge-1", Signal: "SIGTERM"})
	s.event(record.Event{T: 3200 * ms, Kind: record.NodeExited, Node: "edge-1", Announced: true, ExitCode: status(0)})
	s.event(record.Event{T: 7 * time.Second, Kind: record.NodeStarted, Node: "edge-1"})
	for i := range s.reqs {
		q := &s.reqs[i]
		q.ID, q.Node, q.Outcome = fmt.Sprint("r-", i), "edge-2", record.Answered
		if i/4%2 == 1 && (q.Due < 3200*ms || q.Due > 7*time.Second) {
			q.Node = "edge-1"
		}
		if q.Due < 1900*ms || q.Due > 8500*ms {
			continue // no line for what no window holds, which makes the tests twice as fast
		}
		orders := fmt.Sprint("orders-", i/2%2+1)
		s.says(q, q.Node, ms, "accepted", nil)
		s.says(q, orders, 2*ms, "accepted", nil)
		if q.Request == "create" {
			s.says(q, orders, 3*ms, "order stored", map[string]any{"orderId": fmt.Sprint("o-", i)})
		}
		s.says(q, orders, 3*ms, "done", map[string]any{"code": "OK"})
		s.says(q, q.Node, 4*ms, "done", map[string]any{"status": 200})
	}
	return s
}

// says logs a line of a request.
func (s *story) says(q *record.Request, node string, after time.Duration, msg string, more map[string]any) {
	f := map[string]any{"msg": msg, "requestId": q.ID, "traceId": "t-" + q.ID, "node": node, "service": strings.TrimRight(node, "-12")}
	for k, v := range more {
		f[k] = v
	}
	s.logs = append(s.logs, storyLine{node: node, at: q.Sent + after, fields: f})
}

// at is the request that is due at a time.
func (s *story) at(due time.Duration) *record.Request { return &s.reqs[due/(5*ms)] }

// silence removes the lines that match.
func (s *story) silence(match func(storyLine) bool) { s.logs = slices.DeleteFunc(s.logs, match) }

func of(q *record.Request, msg, node string) func(storyLine) bool {
	return func(l storyLine) bool {
		return l.fields["requestId"] == q.ID && (msg == "" || l.fields["msg"] == msg) && strings.HasPrefix(l.node, node)
	}
}

func reset(q *record.Request) {
	q.OK, q.Code, q.Error, q.Outcome = false, 0, "connection lost before the answer", record.Reset
}

// shift is the clock of another machine.
func (s *story) shift(node string, d time.Duration) {
	for i := range s.logs {
		if s.logs[i].node == node {
			s.logs[i].at += d
		}
	}
}

func TestZeroDrop(t *testing.T) {
	kill := func() *ZeroDrop { return &ZeroDrop{Load: "orders", During: "kill"} }
	unlogged503 := func(s *story) *record.Request {
		q := s.at(3105 * ms) // of edge-1
		q.OK, q.Code = false, 503
		s.silence(of(q, "", ""))
		return q
	}
	killed := func(s *story, at time.Duration) {
		s.event(record.Event{T: at, Kind: record.NodeSignalled, Node: "edge-1", Signal: "SIGKILL"})
	}
	byTarget := func(s *story) {
		s.plan.Loads[0].Requests, s.plan.Loads[0].Targets = nil, "targets.http"
		s.each(0, time.Hour, func(q *record.Request) {
			q.Request = map[string]string{"create": "POST /orders", "read": "GET /orders"}[q.Request]
		})
	}
	byTwo := func(s *story, q *record.Request) {
		s.silence(of(q, "", "orders"))
		for _, node := range []string{"orders-1", "orders-2"} {
			s.says(q, node, 2*ms, "accepted", nil)
			s.says(q, node, 3*ms, "done", nil)
		}
	}
	// attempt is one by orders-2, beside that of orders-1, which was done.
	attempt := func(more map[string]any) func(*story) {
		return func(s *story) {
			q := s.at(3100 * ms)
			s.silence(of(q, "order stored", ""))
			s.says(q, "orders-2", 2*ms, "accepted", nil)
			s.says(q, "orders-2", 3*ms, "done", more)
		}
	}
	// late dates n of the 500 lines by which orders-1 accepts requests in hand after their answers.
	late := func(n int) func(*story) {
		return func(s *story) {
			for i := range s.logs {
				if l := &s.logs[i]; n > 0 && l.node == "orders-1" && l.fields["msg"] == "accepted" && l.at > 3*time.Second {
					n--
					l.at += 500 * ms
				}
			}
		}
	}
	// own is a line of a node about itself.
	own := func(at time.Duration) func(*story) {
		return func(s *story) {
			s.logs = append(s.logs, storyLine{node: "edge-1", at: at, fields: map[string]any{"msg": "still here"}})
		}
	}
	stop := func(s *story, at time.Duration) {
		s.event(record.Event{T: at, Kind: record.NodeSignalled, Node: "orders-2", Signal: "SIGTERM"})
		s.event(record.Event{T: at + 100*ms, Kind: record.NodeExited, Node: "orders-2", Announced: true, ExitCode: status(0)})
	}
	refuse := func(s *story, from, to time.Duration) {
		s.each(from, to, func(q *record.Request) {
			if q.Node == "edge-1" {
				s.silence(of(q, "", ""))
				q.OK, q.Code, q.Error, q.Outcome = false, 0, "connection refused", record.Refused
			}
		})
	}
	patterns := &LogPatterns{Accepted: `^IN (?P<id>\S+) (?P<time>\S+)`, Done: `^OUT (?P<id>\S+) (?P<status>\d+)`}
	// printed has the edges log by patterns, and edge-2 say how a request of edge-1 ended there.
	printed := func(status string) func(*story) {
		return func(s *story) {
			s.logs = nil
			for _, q := range s.reqs {
				s.logs = append(s.logs, storyLine{node: q.Node, text: "IN " + q.ID + " x"}, storyLine{node: q.Node, text: "OUT " + q.ID + " 200"})
			}
			q := s.at(3100 * ms)
			s.logs = append(s.logs, storyLine{node: "edge-2", text: "IN " + q.ID + " x"}, storyLine{node: "edge-2", text: "OUT " + q.ID + " " + status})
		}
	}
	// inJSON has the edges log objects whose times are found though the patterns do not ask for them.
	inJSON := func(s *story) {
		s.logs = nil
		for _, q := range s.reqs {
			s.logs = append(s.logs, storyLine{node: q.Node, at: q.Sent + ms, fields: map[string]any{"took": q.ID}})
		}
	}
	took := &LogPatterns{Accepted: `"took":"(?P<id>[^"]+)"`}
	for name, c := range map[string]struct {
		ask   *ZeroDrop
		spoil func(*story)
		want  Verdict
		says  []string
	}{
		"nothing is lost":   {kill(), nil, Pass, []string{"1001 requests of orders in hand in kill: 1001 served, 0 safely refused, 0 lost, 0 duplicated; by their clients and the logs of edge, orders"}},
		"around all faults": {&ZeroDrop{Load: "orders"}, nil, Pass, []string{"1021 requests of orders in hand around the faults"}},
		"one kind of request": {&ZeroDrop{Load: "orders", During: "kill", Request: "create"}, func(s *story) {
			s.each(2900*ms, 3*time.Second, func(q *record.Request) { q.Done = max(q.Done, 3004*ms) })
		}, Pass, []string{" requests of orders (create)"}},
		"none in hand as a fault begins that signals nobody": {&ZeroDrop{Load: "orders", During: "kill", Request: "create"}, func(s *story) {
			s.drop(func(e record.Event) bool { return e.Kind == record.NodeSignalled || e.Kind == record.NodeExited })
		}, Pass, nil},
		"none of the kind in hand at the signal": {&ZeroDrop{Load: "orders", During: "kill", Request: "create"}, nil, Invalid, []string{"at none of 1 moment, such as when it was sent SIGTERM at 3s, was a request in hand"}},

		"one is reset": {kill(), func(s *story) {
			q := s.at(3100 * ms)
			reset(q)
			s.silence(of(q, "done", ""))
		}, Fail, []string{"1000 served, 0 safely refused, 1 lost"}},
		"reset before any server took it": {kill(), func(s *story) {
			q := s.at(3100 * ms)
			reset(q)
			s.silence(of(q, "", ""))
		}, Fail, []string{"1 lost"}},
		"answered too late": {kill(), func(s *story) {
			q := s.at(3100 * ms)
			q.OK, q.Code, q.Error, q.Outcome, q.Done = false, 0, "no answer within 1s", record.Deadline, q.Due+time.Second
		}, Fail, []string{"1 lost"}},
		"lost in what the fault leaves behind": {kill(), func(s *story) { reset(s.at(7900 * ms)) }, Fail, []string{"1 lost"}},
		"lost long after":                      {kill(), func(s *story) { reset(s.at(8100 * ms)) }, Pass, []string{"0 lost"}},
		"in hand when the fault began": {kill(), func(s *story) {
			q := s.at(2500 * ms)
			reset(q)
			q.Done = 3050 * ms
		}, Fail, []string{"1 lost"}},
		"a bound that bears one of a thousand": {&ZeroDrop{Load: "orders", During: "kill", Lost: bound(t, "<= 0.1%")}, func(s *story) { reset(s.at(3100 * ms)) }, Pass, []string{"1 lost"}},
		"a bound that bears one":               {&ZeroDrop{Load: "orders", During: "kill", Lost: bound(t, "<= 1")}, func(s *story) { reset(s.at(3100 * ms)); reset(s.at(3105 * ms)) }, Fail, []string{"2 lost"}},
		"502 is no answer":                     {kill(), func(s *story) { q := s.at(3100 * ms); q.OK, q.Code = false, 502 }, Fail, []string{"1 lost"}},
		"500 is none either":                   {kill(), func(s *story) { q := s.at(3100 * ms); q.OK, q.Code = false, 500 }, Fail, []string{"1 lost"}},
		"429 without Retry-After":              {kill(), func(s *story) { q := s.at(3105 * ms); q.OK, q.Code = false, 429 }, Fail, []string{"1 lost"}},
		"404 is one":                           {kill(), func(s *story) { q := s.at(3100 * ms); q.OK, q.Code = false, 404 }, Pass, []string{"1001 served"}},
		"503 without Retry-After":              {kill(), func(s *story) { q := s.at(3100 * ms); q.OK, q.Code = false, 503 }, Fail, []string{"1 lost"}},
		"503 with Retry-After": {kill(), func(s *story) {
			q := s.at(3100*ms + 5*ms)
			q.OK, q.Code, q.RetryAfter = false, 503, true
		}, Pass, []string{"1000 served, 1 safely refused, 0 lost"}},
		"503 that no server took": {kill(), func(s *story) {
			q := s.at(3105 * ms)
			q.OK, q.Code = false, 503
			s.silence(of(q, "", ""))
		}, Pass, []string{"1 safely refused, 0 lost"}},
		"refused, and stored": {kill(), func(s *story) { q := s.at(3100 * ms); q.OK, q.Code, q.RetryAfter = false, 503, true }, Fail, []string{"1 lost"}},
		"503 of a hop that does not log": {kill(), func(s *story) {
			s.silence(func(l storyLine) bool { return strings.HasPrefix(l.node, "edge") })
			q := s.at(3105 * ms)
			q.OK, q.Code = false, 503
			s.silence(of(q, "", ""))
		}, Fail, []string{"0 safely refused, 1 lost"}},
		"503 whose server says why it did not take it": {kill(), func(s *story) { s.says(unlogged503(s), "edge-1", ms, "too busy", nil) }, Pass, []string{"1 safely refused, 0 lost"}},
		"503 that a server gave up":                    {kill(), func(s *story) { s.says(unlogged503(s), "edge-1", ms, "aborted", nil) }, Fail, []string{"1 lost"}},
		"503 that a server had done":                   {kill(), func(s *story) { s.says(unlogged503(s), "edge-1", ms, "done", nil) }, Fail, []string{"1 lost"}},
		"503 where servers log only what they store": {kill(), func(s *story) {
			s.silence(func(l storyLine) bool { return l.fields["msg"] != "order stored" })
			unlogged503(s).Node = "orders-1"
		}, Fail, []string{"1 lost", "by their clients alone"}},
		"503 with Retry-After, and nothing stored": {kill(), func(s *story) {
			q := s.at(3100 * ms)
			q.OK, q.Code, q.RetryAfter = false, 503, true
			s.silence(of(q, "order stored", ""))
		}, Pass, []string{"1 safely refused, 0 lost"}},
		"503 of a node that was killed when it was sent":     {kill(), func(s *story) { unlogged503(s); killed(s, 3105*ms) }, Fail, []string{"1 lost"}},
		"503 of a node that was killed when it was answered": {kill(), func(s *story) { unlogged503(s); killed(s, 3110*ms) }, Fail, []string{"1 lost"}},
		"503 of a node that was killed by somebody else": {kill(), func(s *story) {
			unlogged503(s)
			s.event(record.Event{T: 3107 * ms, Kind: record.NodeExited, Node: "edge-1", Signal: "SIGKILL"})
		}, Fail, []string{"1 lost"}},
		"503 of a node whose process was killed, and not its program": {kill(), func(s *story) {
			unlogged503(s)
			s.event(record.Event{T: 3107 * ms, Kind: record.ProcessSignalled, Node: "edge-1", Signal: "SIGKILL"})
		}, Fail, []string{"1 lost"}},
		"503 of a node that was told to stop meanwhile": {kill(), func(s *story) {
			unlogged503(s)
			s.event(record.Event{T: 3107 * ms, Kind: record.NodeSignalled, Node: "edge-1", Signal: "SIGTERM"})
		}, Pass, []string{"1 safely refused, 0 lost"}},
		"503 of nobody knows which node, and the only one was killed": {kill(), func(s *story) {
			unlogged503(s).Node = ""
			s.plan.Loads[0].To = "edge"
			s.meta.Nodes = slices.DeleteFunc(s.meta.Nodes, func(n record.Node) bool { return n.Name == "edge-2" })
			killed(s, 3107*ms)
		}, Fail, []string{"1 lost"}},
		"503 of a node that was killed meanwhile": {kill(), func(s *story) { unlogged503(s); killed(s, 3107*ms) }, Fail, []string{"0 safely refused, 1 lost"}},
		"503 of a node that was killed later":     {kill(), func(s *story) { unlogged503(s); killed(s, 3111*ms) }, Pass, []string{"1 safely refused, 0 lost"}},
		"503 of nobody knows which node": {kill(), func(s *story) {
			unlogged503(s).Node = ""
			s.plan.Loads[0].To = "edge"
		}, Pass, []string{"1 safely refused, 0 lost"}},
		"503 of nobody knows which node, and one was killed": {kill(), func(s *story) {
			unlogged503(s).Node = ""
			s.plan.Loads[0].To = "edge"
			killed(s, 3107*ms)
		}, Fail, []string{"0 safely refused, 1 lost"}},
		"503 of nobody knows which service": {kill(), func(s *story) { unlogged503(s).Node = "" }, Fail, []string{"0 safely refused, 1 lost"}},
		"no connection": {kill(), func(s *story) {
			q := s.at(3100 * ms)
			q.OK, q.Code, q.Error, q.Outcome = false, 0, "connection refused", record.Refused
			s.silence(of(q, "", ""))
		}, Pass, []string{"1 safely refused, 0 lost"}},
		"no connection, and taken": {kill(), func(s *story) {
			q := s.at(3100 * ms)
			q.OK, q.Code, q.Error, q.Outcome = false, 0, "connection refused", record.Refused
		}, Invalid, []string{"by the word of its client no server began on 1 request, and servers logged"}},

		"stored twice": {kill(), func(s *story) {
			q := s.at(3100 * ms)
			s.says(q, "orders-2", 3*ms, "order stored", map[string]any{"orderId": "o-x"})
		}, Fail, []string{"0 lost, 1 duplicated"}},
		"two orders by one server": {kill(), func(s *story) {
			q := s.at(3100 * ms)
			s.says(q, "orders-1", 3*ms, "order stored", map[string]any{"orderId": "o-x"})
		}, Fail, []string{"1 duplicated"}},
		"stored twice, which is borne": {&ZeroDrop{Load: "orders", During: "kill", Duplicated: bound(t, "<= 1")}, func(s *story) {
			s.says(s.at(3100*ms), "orders-2", 3*ms, "order stored", map[string]any{"orderId": "o-x"})
		}, Pass, []string{"1 duplicated"}},
		"a server logs a line twice": {kill(), func(s *story) {
			q := s.at(3100 * ms)
			i := slices.IndexFunc(s.logs, of(q, "order stored", ""))
			s.logs = append(s.logs, s.logs[i])
		}, Invalid, []string{"1 request may have been done twice"}},
		"done by two replicas": {kill(), func(s *story) {
			q := s.at(3100 * ms)
			s.silence(of(q, "order stored", ""))
			s.says(q, "orders-2", 2*ms, "accepted", nil)
			s.says(q, "orders-2", 3*ms, "done", nil)
			s.says(q, "orders-1", 2*ms, "accepted", nil)
			s.says(q, "orders-1", 3*ms, "done", nil)
		}, Fail, []string{"1 duplicated"}},
		"stored by one, and another fell silent": {kill(), func(s *story) { s.says(s.at(3100*ms), "orders-2", 2*ms, "accepted", nil) }, Invalid, []string{"1 request may have been done twice"}},
		"stored by one, where another fell silent that may repeat it": {kill(), func(s *story) {
			s.plan.Loads[0].Requests[0].Headers = map[string]string{"idempotency-key": "{{.ID}}"}
			s.says(s.at(3100*ms), "orders-2", 2*ms, "accepted", nil)
		}, Pass, nil},
		"done by two replicas, and stored once": {kill(), func(s *story) {
			q := s.at(3100 * ms)
			s.says(q, "orders-2", 2*ms, "accepted", nil)
			s.says(q, "orders-2", 3*ms, "done", nil)
		}, Pass, []string{"0 duplicated"}},
		"an attempt that failed":             {kill(), attempt(map[string]any{"status": 400}), Pass, []string{"0 duplicated"}},
		"an attempt that was redirected":     {kill(), attempt(map[string]any{"status": 399}), Fail, []string{"1 duplicated"}},
		"an attempt that failed by gRPC":     {kill(), attempt(map[string]any{"code": "Unavailable"}), Pass, []string{"0 duplicated"}},
		"an attempt that failed by a number": {kill(), attempt(map[string]any{"code": 14}), Pass, []string{"0 duplicated"}},
		"an attempt that is good by gRPC":    {kill(), attempt(map[string]any{"code": "OK"}), Fail, []string{"1 duplicated"}},
		"an attempt that is good by 0":       {kill(), attempt(map[string]any{"code": 0}), Fail, []string{"1 duplicated"}},
		"a replica that only speaks of it": {kill(), func(s *story) {
			q := s.at(3100 * ms)
			s.silence(of(q, "order stored", ""))
			s.says(q, "orders-2", 3*ms, "heard of it", nil)
		}, Pass, []string{"0 duplicated"}},
		// The replica that did it took it once more, and may have done it once more.
		"an attempt of which nobody knows, where it was done": {kill(), func(s *story) {
			q := s.at(3100 * ms)
			s.silence(of(q, "order stored", ""))
			s.says(q, "orders-1", 4*ms, "accepted", nil)
		}, Invalid, []string{"1 request may have been done twice"}},
		"read by two replicas": {kill(), func(s *story) {
			q := s.at(3105 * ms)
			s.says(q, "orders-2", 2*ms, "accepted", nil)
			s.says(q, "orders-2", 3*ms, "done", nil)
			s.says(q, "orders-1", 2*ms, "accepted", nil)
			s.says(q, "orders-1", 3*ms, "done", nil)
		}, Pass, []string{"0 duplicated"}},
		"an aborted attempt before": {kill(), func(s *story) {
			q := s.at(3100 * ms)
			s.silence(of(q, "order stored", ""))
			s.says(q, "orders-2", 2*ms, "accepted", nil)
			s.says(q, "orders-2", 2*ms, "aborted", map[string]any{"error": "cancelled"})
		}, Pass, []string{"0 duplicated"}},
		"an attempt of which nobody knows": {kill(), func(s *story) {
			q := s.at(3100 * ms)
			s.silence(of(q, "", "orders"))
			s.says(q, "orders-2", 2*ms, "accepted", nil)
			s.says(q, "orders-1", 2*ms, "accepted", nil)
			s.says(q, "orders-1", 3*ms, "done", nil)
		}, Invalid, []string{"may have been done twice"}},
		"a key makes it repeatable": {kill(), func(s *story) {
			s.plan.Loads[0].Requests[0].Headers = map[string]string{"idempotency-key": "{{.ID}}"}
			q := s.at(3100 * ms)
			s.silence(of(q, "", "orders"))
			s.says(q, "orders-2", 2*ms, "accepted", nil)
			s.says(q, "orders-2", 3*ms, "done", nil)
			s.says(q, "orders-1", 2*ms, "accepted", nil)
			s.says(q, "orders-1", 3*ms, "done", nil)
		}, Pass, []string{"0 duplicated"}},

		"a key in metadata": {kill(), func(s *story) {
			s.plan.Loads[0].Requests[0] = plan.Request{ID: "create", Call: "orders.v1.Orders/Create", Metadata: map[string]string{"idempotency-key": "{{.ID}}"}}
			byTwo(s, s.at(3100*ms))
		}, Pass, []string{"0 duplicated"}},
		"a target done by two replicas": {kill(), func(s *story) { byTarget(s); byTwo(s, s.at(3100*ms)) }, Invalid, []string{"0 duplicated", "1 request may have been done twice"}},
		"a target read by two replicas": {kill(), func(s *story) { byTarget(s); byTwo(s, s.at(3105*ms)) }, Pass, []string{"0 duplicated"}},
		"a target refused, and stored":  {kill(), func(s *story) { byTarget(s); q := s.at(3100 * ms); q.OK, q.Code, q.RetryAfter = false, 503, true }, Invalid, []string{"1 request may have been done twice"}},
		"a target that was stored twice": {kill(), func(s *story) {
			byTarget(s)
			s.says(s.at(3100*ms), "orders-2", 3*ms, "order stored", map[string]any{"orderId": "o-x"})
		}, Fail, []string{"1 duplicated"}},

		"only refused at the signal": {kill(), func(s *story) { refuse(s, 2900*ms, 3300*ms) }, Invalid, []string{"edge-1 had no request in hand when it was sent SIGTERM at 3s"}},
		"only refused, and nobody logs": {kill(), func(s *story) {
			s.logs = nil
			refuse(s, 2990*ms, 12*time.Second)
		}, Invalid, []string{"edge-1 had no request in hand when it was sent SIGTERM at 3s"}},
		"no request in hand at the signal": {kill(), func(s *story) {
			s.each(2900*ms, 3300*ms, func(q *record.Request) {
				if q.Node == "edge-1" {
					s.silence(of(q, "", "edge"))
					q.Node = "edge-2"
					s.says(q, "edge-2", ms, "accepted", nil)
				}
			})
		}, Invalid, []string{"edge-1 had no request in hand when it was sent SIGTERM at 3s"}},
		"a loss needs no request in hand": {kill(), func(s *story) {
			s.reqs = slices.DeleteFunc(s.reqs, func(q record.Request) bool { return q.Due > 2900*ms && q.Due < 3300*ms })
			reset(&s.reqs[600])
		}, Fail, []string{"1 lost"}},
		"one of several signals met nothing": {kill(), func(s *story) {
			s.event(record.Event{T: 5 * time.Second, Kind: record.NodeSignalled, Node: "orders-2", Signal: "SIGTERM"})
			s.event(record.Event{T: 5100 * ms, Kind: record.NodeExited, Node: "orders-2", Announced: true, ExitCode: status(0)})
			s.silence(func(l storyLine) bool { return l.node == "orders-2" && l.at > 4900*ms && l.at < 5200*ms })
		}, Invalid, []string{"orders-2 had no request in hand"}},
		"a node that logged one request is known by its log": {kill(), func(s *story) {
			stop(s, 5*time.Second)
			elsewhere := of(s.at(7010*ms), "", "orders-2")
			s.silence(func(l storyLine) bool { return l.node == "orders-2" && !elsewhere(l) })
		}, Invalid, []string{"orders-2 had no request in hand"}},
		"a node that logged none, where its siblings log": {kill(), func(s *story) {
			stop(s, 5*time.Second)
			s.silence(func(l storyLine) bool { return l.node == "orders-2" })
		}, Invalid, []string{"orders-2 had no request in hand"}},
		// Of such a node nobody can say what it had in hand.
		"a node that nobody sees": {kill(), func(s *story) {
			stop(s, 5*time.Second)
			s.silence(func(l storyLine) bool { return strings.HasPrefix(l.node, "orders") })
		}, Pass, nil},
		"a node that logs only answers": {kill(), func(s *story) {
			stop(s, 5*time.Second)
			s.silence(func(l storyLine) bool { return strings.HasPrefix(l.node, "orders") && l.fields["msg"] == "accepted" })
		}, Pass, nil},
		"behind the edge the log knows": {kill(), func(s *story) {
			s.event(record.Event{T: 5012 * ms, Kind: record.NodeSignalled, Node: "orders-2", Signal: "SIGKILL"})
			s.event(record.Event{T: 5013 * ms, Kind: record.NodeExited, Node: "orders-2", Announced: true, Signal: "SIGKILL"})
		}, Pass, nil},
		"no requests at all": {kill(), func(s *story) { s.reqs = s.reqs[:500] }, Invalid, []string{"no requests of orders were in hand"}},
		"no such fault":      {&ZeroDrop{Load: "orders", During: "cut"}, nil, Invalid, []string{"cut never began"}},
		"no such load":       {&ZeroDrop{Load: "ordres"}, nil, Invalid, []string{`no load called "ordres"`}},

		"a clock that is ahead":      {kill(), func(s *story) { s.shift("orders-1", 2*time.Second) }, Invalid, []string{"orders-1 logs by another clock", "after their answers were there"}},
		"a clock that is behind":     {kill(), func(s *story) { s.shift("edge-2", -200*ms) }, Invalid, []string{"edge-2 logs by another clock"}},
		"a clock of another day":     {kill(), func(s *story) { s.shift("edge-2", 24*time.Hour) }, Invalid, []string{"edge-2 logs by another clock", "logs/edge-2.log:1 is dated 24h"}},
		"one line of the day before": {kill(), func(s *story) { s.says(s.at(3105*ms), "orders-3", -24*time.Hour, "accepted", nil) }, Invalid, []string{"orders-3 logs by another clock", "logs/orders-3.log:1 is dated -"}},
		// The round goes from 1 ns to 14 s.
		"a line just before the round": {kill(), own(1 - 100*ms), Pass, nil},
		"a line before the round":      {kill(), own(-100 * ms), Invalid, []string{"edge-1 logs by another clock", "is dated -100ms, and the round went from 0s to 14s"}},
		"a line just after the round":  {kill(), own(14*time.Second + 100*ms), Pass, nil},
		"a line after the round":       {kill(), own(14*time.Second + 100*ms + 1), Invalid, []string{"edge-1 logs by another clock", "is dated 14.1s"}},
		"just so early":                {kill(), func(s *story) { s.shift("edge-2", -101*ms) }, Pass, nil},
		"too early":                    {kill(), func(s *story) { s.shift("edge-2", -101*ms-1) }, Invalid, []string{"edge-2 logs by another clock"}},
		"one line is too early":        {kill(), func(s *story) { s.says(s.at(3105*ms), "orders-2", -200*ms, "accepted", nil) }, Invalid, []string{"accepts r-621 at 2.905s, and it was sent at 3.105s"}},
		"just so late":                 {kill(), func(s *story) { s.shift("orders-1", 103*ms) }, Pass, nil},
		"too late":                     {kill(), func(s *story) { s.shift("orders-1", 103*ms+1) }, Invalid, []string{"it accepts 500 of 500 requests after their answers were there"}},
		"half of them late":            {kill(), late(250), Pass, nil},
		"more than half of them late":  {kill(), late(251), Invalid, []string{"it accepts 251 of 500 requests after their answers were there"}},
		"another clock and a loss": {kill(), func(s *story) {
			s.shift("edge-2", 24*time.Hour)
			reset(s.at(3100 * ms))
		}, Invalid, []string{"another clock"}},
		"within the slack":                      {kill(), func(s *story) { s.shift("edge-2", -99*ms) }, Pass, nil},
		"a retry that arrives late is no clock": {kill(), func(s *story) { s.says(s.at(3105*ms), "orders-2", 500*ms, "accepted", nil) }, Pass, nil},

		"a server that never logs an id": {kill(), func(s *story) { s.silence(of(s.at(3105*ms), "", "")) }, Invalid, []string{"1 request were served and no server logged", "not whole"}},
		"one line in all of the logs": {kill(), func(s *story) {
			the := of(s.at(3105*ms), "accepted", "edge")
			s.silence(func(l storyLine) bool { return !the(l) })
		}, Invalid, []string{"1000 requests were served and no server logged", "not whole"}},
		// What cannot be read is no proof.
		"a line of another shape": {kill(), func(s *story) {
			q := s.at(3105 * ms)
			s.silence(of(q, "", ""))
			s.says(q, "edge-1", ms, "accepted", map[string]any{"status": "200"})
		}, Invalid, []string{"1 request were served and no server logged"}},
		"ids that nobody logs": {kill(), func(s *story) {
			for i := range s.reqs {
				s.reqs[i].ID = fmt.Sprint("x-", i)
			}
		}, Invalid, []string{"none with the id of one of these"}},
		"two requests with one id": {kill(), func(s *story) { s.at(3105 * ms).ID = s.at(3100 * ms).ID }, Invalid, []string{"1000 different ids"}},
		"no ids":                   {kill(), func(s *story) { s.each(0, time.Hour, func(q *record.Request) { q.ID = "" }) }, Invalid, []string{"0 different ids"}},
		"never sent": {kill(), func(s *story) {
			q := s.at(3105 * ms)
			q.OK, q.Code, q.Outcome = false, 0, record.Missed
			s.silence(of(q, "", ""))
		}, Invalid, []string{"1 request were never sent"}},

		"clients alone":                       {kill(), func(s *story) { s.logs = nil }, Pass, []string{"by their clients alone"}},
		"clients alone, and a loss":           {kill(), func(s *story) { s.logs = nil; reset(s.at(3100 * ms)) }, Fail, []string{"1 lost", "by their clients alone"}},
		"clients alone cannot see duplicates": {&ZeroDrop{Load: "orders", During: "kill", Duplicated: bound(t, "= 0")}, func(s *story) { s.logs = nil }, Invalid, []string{"no duplicate can be seen"}},
		"clients alone, of an older record": {kill(), func(s *story) {
			s.logs = nil
			s.each(0, time.Hour, func(q *record.Request) { q.Outcome = "" })
			q := s.at(3100 * ms)
			reset(q)
			q.Outcome, q.Error = "", "connect: connection refused"
			q = s.at(3105 * ms)
			reset(q)
			q.Outcome, q.Error = "", "no connection within 1s"
		}, Pass, []string{"2 safely refused"}},
		"clients alone, of an older record, and a plain no": {kill(), func(s *story) {
			s.logs = nil
			q := s.at(3100 * ms)
			q.OK, q.Code, q.Outcome = false, 404, ""
		}, Pass, []string{"1001 served"}},
		"clients alone, of an older record, and a loss": {kill(), func(s *story) {
			s.logs = nil
			reset(s.at(3100 * ms))
			s.at(3100 * ms).Outcome = ""
		}, Fail, []string{"1 lost"}},
		"patterns": {&ZeroDrop{Load: "orders", During: "kill", Log: patterns, Duplicated: bound(t, "= 0")}, func(s *story) {
			s.logs = nil
			for _, q := range s.reqs {
				s.logs = append(s.logs, storyLine{node: q.Node, text: "IN " + q.ID + " x"}, storyLine{node: q.Node, text: "OUT " + q.ID + " 200"})
			}
		}, Pass, []string{"the logs of edge"}},
		"patterns that see a duplicate":      {&ZeroDrop{Load: "orders", During: "kill", Log: patterns}, printed("200"), Fail, []string{"1 duplicated"}},
		"patterns that see a failed attempt": {&ZeroDrop{Load: "orders", During: "kill", Log: patterns}, printed("400"), Pass, []string{"0 duplicated"}},
		"patterns that see a good attempt":   {&ZeroDrop{Load: "orders", During: "kill", Log: patterns}, printed("399"), Fail, []string{"1 duplicated"}},
		"patterns of objects":                {&ZeroDrop{Load: "orders", During: "kill", Log: took}, inJSON, Pass, nil},
		"patterns of objects by another clock": {&ZeroDrop{Load: "orders", During: "kill", Log: took}, func(s *story) {
			inJSON(s)
			s.shift("edge-2", 24*time.Hour)
		}, Invalid, []string{"edge-2 logs by another clock"}},
		"a pattern for done that matches nothing":           {&ZeroDrop{Load: "orders", During: "kill", Log: &LogPatterns{Accepted: patterns.Accepted, Done: `OOT (?P<id>\S+)`}}, printed("200"), Invalid, []string{"the pattern of log for done matches none of the"}},
		"a pattern for stored that matches nothing":         {&ZeroDrop{Load: "orders", During: "kill", Log: &LogPatterns{Accepted: patterns.Accepted, Done: patterns.Done, Stored: `KEPT (?P<id>\S+)`}}, printed("400"), Invalid, []string{"the pattern of log for order stored matches none of the"}},
		"no pattern for done":                               {&ZeroDrop{Load: "orders", During: "kill", Log: &LogPatterns{Accepted: patterns.Accepted}}, printed("200"), Pass, []string{"which do not say when a request was done, so that duplicates cannot be seen"}},
		"no pattern for done, and duplicates are asked for": {&ZeroDrop{Load: "orders", During: "kill", Log: &LogPatterns{Accepted: patterns.Accepted}, Duplicated: bound(t, "= 0")}, printed("200"), Invalid, []string{"no server logs when a request was done or stored"}},
		"no sane patterns":                                  {&ZeroDrop{Load: "orders", During: "kill", Log: &LogPatterns{}}, nil, Invalid, []string{"log has neither accepted nor done"}},
		"patterns that match nothing":                       {&ZeroDrop{Load: "orders", During: "kill", Log: patterns}, nil, Invalid, []string{"the patterns of log match none of the"}},

		"UNAVAILABLE with a word": {kill(), func(s *story) {
			q := s.at(3105 * ms)
			q.OK, q.Code, q.RetryAfter, q.GRPC = false, 503, true, status(14)
		}, Pass, []string{"1 safely refused"}},
		"UNAVAILABLE without": {kill(), func(s *story) { q := s.at(3105 * ms); q.OK, q.Code, q.GRPC = false, 503, status(14) }, Fail, []string{"1 lost"}},
		"INTERNAL":            {kill(), func(s *story) { q := s.at(3105 * ms); q.OK, q.Code, q.GRPC = false, 500, status(13) }, Fail, []string{"1 lost"}},
		"OK without all that was asked for": {kill(), func(s *story) {
			q := s.at(3105 * ms)
			q.OK, q.Code, q.Error, q.GRPC = false, 200, "4 messages, not 11", status(0)
		}, Fail, []string{"1 lost"}},
		"200 with another body":            {kill(), func(s *story) { q := s.at(3105 * ms); q.OK, q.Code, q.Error = false, 200, "the body does not match" }, Fail, []string{"1 lost"}},
		"a plain no that was not expected": {kill(), func(s *story) { q := s.at(3105 * ms); q.OK, q.Code = false, 404 }, Pass, []string{"1001 served"}},
		"NOT_FOUND":                        {kill(), func(s *story) { q := s.at(3105 * ms); q.OK, q.Code, q.GRPC = false, 404, status(5) }, Pass, []string{"1001 served"}},

		"a premise does not hold": {kill(), func(s *story) {
			s.drop(func(e record.Event) bool { return e.Kind == record.FaultInEffect })
			reset(s.at(3100 * ms))
		}, Invalid, []string{"it would be FAIL"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServed()
			s.ask(t, "zero-drop", c.ask)
			if c.spoil != nil {
				c.spoil(s)
			}
			s.want(t, c.want, c.says...)
		})
	}
}

// A fault that sends no signal is met by whatever is in hand when it takes effect.
func TestZeroDropWithoutASignal(t *testing.T) {
	s := newServed()
	s.ask(t, "zero-drop", &ZeroDrop{Load: "orders", During: "kill"})
	s.drop(func(e record.Event) bool { return e.Node == "edge-1" })
	f := s.want(t, Pass)
	require.True(t, slices.ContainsFunc(f.Evidence, func(e Evidence) bool {
		return e.What == "requests in hand when kill came into effect" && e.Count > 0
	}))
	s.drop(func(e record.Event) bool { return e.Fault != "" })
	s.plan.Rounds[0].Faults = nil
	s.plan.Assert = nil
	s.logs = nil
	s.ask(t, "zero-drop", &ZeroDrop{Load: "orders"})
	s.want(t, Pass, "2400 requests of orders in hand around the faults")
}

// The story of a lost request is all that is known of it.
func TestTheStoryOfALostRequest(t *testing.T) {
	s := newServed()
	s.ask(t, "zero-drop", &ZeroDrop{Load: "orders", During: "kill"})
	q := s.at(3105 * ms)
	require.Equal(t, "edge-1", q.Node)
	reset(q)
	s.silence(of(q, "done", "edge"))
	s.logs = append(s.logs, storyLine{node: "edge-1", at: 3001 * ms, fields: map[string]any{"msg": "draining"}})
	f := s.want(t, Fail)
	i := slices.IndexFunc(f.Evidence, func(e Evidence) bool { return e.What == "a request that was lost" })
	require.GreaterOrEqual(t, i, 0)
	for _, part := range []string{
		"read r-621 lost: sent at 3.105s to edge-1, its connection ended before the answer at 3.11s (connection lost before the answer)",
		"edge-1 was sent SIGTERM at 3s", "edge-1 said \"draining\" at 3.001s", "edge-1 ended at 3.2s",
		"edge-1 accepted at 3.106s [logs/edge-1.log:", "orders-1 done at 3.108s [logs/orders-1.log:",
	} {
		assert.Contains(t, f.Evidence[i].Detail, part)
	}
	at := slices.IndexFunc(f.Evidence, func(e Evidence) bool { return e.What == "requests in hand when it was sent SIGTERM" })
	require.GreaterOrEqual(t, at, 0)
	assert.Equal(t, &Window{3 * time.Second, 3200 * ms}, f.Evidence[at].Window)
	assert.Equal(t, []string{"edge-1"}, f.Evidence[at].Nodes)
	assert.Equal(t, 21, f.Evidence[at].Count)
	assert.Equal(t, 1.0, f.Evidence[at].Values["at that moment"])
	assert.Equal(t, "requests of orders in hand in kill", f.Evidence[0].What)
	assert.NotContains(t, f.Evidence[i].Detail, "no server logged it")
}

// told are the stories of one kind.
func told(f Finding, what string) []string {
	var out []string
	for _, e := range f.Evidence {
		if e.What == what {
			out = append(out, e.Detail)
		}
	}
	return out
}

// What happened to the nodes of a request belongs to its story from a second before it was sent to a second after its end, and of what
// they said of themselves the first three lines. What happened to others, or at another time, does not.
func TestWhatBelongsToAStory(t *testing.T) {
	s := newServed()
	s.ask(t, "zero-drop", &ZeroDrop{Load: "orders", During: "kill"})
	reset(s.at(3105 * ms)) // of edge-1 and orders-1, over at 3.11 s
	for _, e := range []record.Event{
		{T: 2105*ms - 1, Kind: record.NodeStarted, Node: "orders-1"},
		{T: 2105 * ms, Kind: record.NodePaused, Node: "orders-1"},
		{T: 3105 * ms, Kind: record.NodePaused, Node: "edge-2"},
		{T: 4110 * ms, Kind: record.NodeResumed, Node: "orders-1"},
		{T: 4110*ms + 1, Kind: record.NodeExited, Node: "orders-1"},
	} {
		s.event(e)
	}
	s.ready = []record.Readiness{{T: 3050 * ms, Node: "edge-1"}, {T: 3050 * ms, Node: "edge-2"}, {T: 3150 * ms, Node: "orders-1", Ready: true}, {T: 7 * time.Second, Node: "edge-1", Ready: true}}
	for i, at := range []time.Duration{time.Second, 3001 * ms, 3002 * ms, 3003 * ms, 3004 * ms} {
		s.logs = append(s.logs, storyLine{node: "edge-1", at: at, fields: map[string]any{"msg": fmt.Sprint("word ", i)}})
	}
	lost := told(s.want(t, Fail), "a request that was lost")
	require.Len(t, lost, 1)
	for _, part := range []string{
		"orders-1 was paused at 2.105s; edge-1 was sent SIGTERM at 3s; edge-1 said \"word 1\" at 3.001s; edge-1 said \"word 2\" at 3.002s; edge-1 said \"word 3\" at 3.003s; " +
			"edge-1 was seen not ready at 3.05s; orders-1 was seen ready at 3.15s; edge-1 ended at 3.2s; orders-1 went on at 4.11s; edge-1 accepted",
	} {
		assert.Contains(t, lost[0], part)
	}
	assert.NotContains(t, lost[0], "edge-2")
}

// Each request about which there is something to say is told with what that is.
func TestTheStoriesOfALedger(t *testing.T) {
	s := newServed()
	s.ask(t, "zero-drop", &ZeroDrop{Load: "orders", During: "kill"})
	q := s.at(3100 * ms)
	s.says(q, "orders-2", 3*ms, "order stored", map[string]any{"orderId": "o-x"})
	s.says(q, "edge-1", 5*ms, "that was all", nil)
	q = s.at(3120 * ms)
	s.silence(of(q, "order stored", ""))
	s.says(q, "orders-2", 2*ms, "accepted", nil)
	s.silence(of(s.at(3145*ms), "", ""))
	q = s.at(3165 * ms)
	q.OK, q.Code, q.Error, q.Outcome = false, 0, "connection refused", record.Refused
	f := s.want(t, Invalid)
	for what, says := range map[string][]string{
		"a request that was duplicated":                 {"create r-620 served: ", "; stored as o-620 by orders-1 and as o-x by orders-2; ", "; edge-1 says more at 3.105s [logs/edge-1.log:"},
		"a request that may have been duplicated":       {"create r-624 served: ", "; done by orders-1, and orders-2 never said how an attempt of its own ended; "},
		"a request that no server logged":               {"read r-629 served: ", "; no server logged it"},
		"a request that was not begun on and was taken": {"read r-633 safely refused: ", "no server began on it at 3.17s (connection refused)"},
	} {
		stories := told(f, what)
		require.Len(t, stories, 1, what)
		for _, x := range says {
			assert.Contains(t, stories[0], x)
		}
	}
	assert.Empty(t, told(f, "a request that was lost"))
}

// What is shown is bounded, however much there is: requests of a kind, lines of a request, moments at which somebody had requests in hand.
func TestStoriesAreBounded(t *testing.T) {
	s := newServed()
	s.ask(t, "zero-drop", &ZeroDrop{Load: "orders", During: "kill"})
	s.each(3105*ms, 3140*ms, reset)
	for range 10 {
		s.says(s.at(3105*ms), "edge-1", 5*ms, "trying again", nil)
	}
	for i := range time.Duration(12) {
		s.event(record.Event{T: 4*time.Second + i*100*ms, Kind: record.NodePaused, Node: "edge-2"})
		s.event(record.Event{T: 4*time.Second + i*100*ms + 50*ms, Kind: record.NodeResumed, Node: "edge-2"})
	}
	f := s.want(t, Fail, "7 lost")
	lost := told(f, "a request that was lost")
	require.Len(t, lost, maxStories)
	assert.Equal(t, maxLines, strings.Count(lost[0], "[logs/"))
	assert.True(t, strings.HasSuffix(lost[0], "; and 2 lines more"), lost[0])
	assert.NotContains(t, lost[1], "more")
	moments := 0
	for _, e := range f.Evidence {
		if strings.HasPrefix(e.What, "requests in hand when ") {
			moments++
		}
	}
	assert.Equal(t, maxDetails, moments)
}

// A fault that comes twice has two windows, and a request counts once.
func TestZeroDropInTwoWindows(t *testing.T) {
	s := newServed()
	s.logs = nil
	s.ask(t, "zero-drop", &ZeroDrop{Load: "orders", During: "kill"})
	s.plan.Rounds[0].Faults[0].Occurrences = make([]plan.Occurrence, 2)
	for at, kinds := range map[time.Duration][]record.EventKind{9 * time.Second: {record.FaultStarted, record.FaultInEffect}, 10 * time.Second: {record.FaultUndone, record.FaultGone}} {
		for _, k := range kinds {
			s.event(record.Event{T: at, Kind: k, Fault: "kill", Occurrence: 2})
		}
	}
	f := s.want(t, Pass, "1402 requests of orders in hand in kill")
	assert.Equal(t, "requests of orders in hand in kill, window 1 of 2; count and values are of all", f.Evidence[0].What)
	assert.Equal(t, &Window{3 * time.Second, 8 * time.Second}, f.Evidence[0].Window)
	assert.Equal(t, "requests of orders in hand in kill, window 2 of 2; count and values are of all", f.Evidence[1].What)
	assert.Equal(t, &Window{9 * time.Second, 11 * time.Second}, f.Evidence[1].Window)
	reset(s.at(8500 * ms))
	s.want(t, Pass)
	reset(s.at(10500 * ms))
	s.want(t, Fail, "1 lost")
}

func TestValidateZeroDrop(t *testing.T) {
	scope := Scope{Plan: &newServed().plan}
	for text, says := range map[string]string{
		`{"load": "orders"}`: "",
		`{"load": "orders", "request": "create", "during": "kill", "lost": "<= 0.1%", "duplicated": "= 0", "log": {"accepted": "in (?P<rid>x)", "id": "rid"}}`: "",
		`{"load": "orders", "during": "fault"}`:                             "",
		`{}`:                                                                "load or workload is missing",
		`{"load": "x"}`:                                                     `no load is called "x"`,
		`{"load": "orders", "during": "cut"}`:                               `no phase or fault is called "cut"`,
		`{"load": "orders", "request": "creat"}`:                            `"creat"; there is create, read`,
		`{"load": "orders", "lost": "<= 5ms"}`:                              "as a share such as",
		`{"load": "orders", "duplicated": "<= 3x baseline"}`:                "as a share such as",
		`{"load": "orders", "log": {}}`:                                     "neither accepted nor done",
		`{"load": "orders", "log": {"accepted": "("}}`:                      "log, accepted: error parsing",
		`{"load": "orders", "log": {"done": "(?P<key>x)"}}`:                 "no group called id",
		`{"load": "orders", "log": {"done": "(?P<id>x)", "stored": "(x)"}}`: "no group called id",
	} {
		var a ZeroDrop
		require.NoError(t, json.Unmarshal([]byte(text), &a))
		err := a.Validate(scope)
		if says == "" {
			assert.NoError(t, err, text)
		} else {
			assert.ErrorContains(t, err, says, text)
		}
	}
}

// That a thing was done twice is so whatever else went wrong; that an answer was lost may be the machine's doing.
func TestAProvenDuplicateStays(t *testing.T) {
	for name, spoil := range map[string]func(*story){
		"the generator of orders missed 3 requests": func(s *story) {
			s.drop(func(e record.Event) bool { return e.Kind == record.LoadSummary })
			s.event(record.Event{T: 13 * time.Second, Kind: record.LoadSummary, ID: "orders", Data: json.RawMessage(`{"missed":3}`)})
		},
		"the service was short of processor: other programs took 50 % of the machine": func(s *story) { s.around(0.9, 1, 4) },
	} {
		asked := func() *story {
			s := newServed()
			s.ask(t, "zero-drop", &ZeroDrop{Load: "orders", During: "kill"})
			spoil(s)
			return s
		}
		s := asked()
		reset(s.at(3100 * ms))
		s.want(t, Invalid, "it would be FAIL, but "+name)
		s = asked()
		q := s.at(3100 * ms)
		s.says(q, "orders-2", 3*ms, "order stored", map[string]any{"orderId": "o-x"})
		s.want(t, Fail, "0 lost, 1 duplicated")
	}
}
