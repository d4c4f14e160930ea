package assertions

import (
	"net/http"
	"slices"
	"strings"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// fate is what became of a request. Each has exactly one.
type fate string

const (
	// served: the service answered, and the answer is its own decision: what was asked for, or a plain no.
	served fate = "served"
	// safelyRefused: nothing was begun, or the answer says that it may be sent again.
	safelyRefused fate = "safely refused"
	// lost: it was sent, and there is no answer that its client could go by.
	lost fate = "lost"
	// unsent: the load never sent it. It says nothing about the service.
	unsent fate = "never sent"
)

// entry is a line of the ledger: a request, what its client knows, and what the servers logged of it.
type entry struct {
	req   *record.Request
	fate  fate
	why   string // in a few words
	lines []*logLine

	twice      string // the effect was made twice: by what
	ambiguous  string // it may have been
	unlogged   bool   // it was answered, and no server logged that it took it
	contradict bool   // no server began on it, its client says, and one accepted it
}

// repetition is what doing a request twice is, beside doing it once.
type repetition int

const (
	differs    repetition = iota // its effect is to be made once
	repeatable                   // it is the same
	untold                       // the record does not say
)

// terms are what an entry is settled by, beside the request and its lines.
type terms struct {
	logged bool // the servers keep a log of requests
	// tells says of a request that a server which had taken it would have a line of it, so that none is proof.
	tells   func(*record.Request) bool
	repeats func(*record.Request) repetition
	// expected says of a request that was answered that the status of the answer is one that is good.
	expected func(*record.Request) bool
}

// ledger joins the requests of a load with the lines of the servers by the request's id. Every request is in it once.
func ledger(reqs []*record.Request, byID map[string][]*logLine, by terms) []entry {
	out := make([]entry, len(reqs))
	for i, q := range reqs {
		e := entry{req: q, lines: byID[q.ID]} // no line has the empty id
		e.settle(by)
		out[i] = e
	}
	return out
}

// settle fills the entry.
func (e *entry) settle(by terms) {
	taken := slices.ContainsFunc(e.lines, func(l *logLine) bool { return l.what == accepted || l.what == done || l.what == aborted })
	made := slices.ContainsFunc(e.lines, func(l *logLine) bool { return l.what == stored })
	switch ending(e.req) {
	case record.Missed:
		e.fate, e.why = unsent, "the load did not send it"
	case record.Refused:
		e.fate, e.why = safelyRefused, "no server began on it"
		e.contradict = taken
	case record.Reset:
		e.fate, e.why = lost, "its connection ended before the answer"
	case record.Deadline:
		e.fate, e.why = lost, "no answer came in time"
	default:
		e.fate, e.why = answered(e.req, by.logged && !taken && by.tells(e.req), by.expected(e.req))
		e.unlogged = by.logged && !taken && e.fate == served
	}
	again := by.repeats(e.req)
	if e.fate == safelyRefused && made {
		switch again {
		case differs:
			e.fate, e.why = lost, "it was refused, but its effect was made"
		case untold:
			e.ambiguous = "it was refused, but its effect was made" + keyUntold
		}
	}
	e.effects(again)
}

// keyUntold ends a sentence about a request that must not be done twice, unless it has a key by which it may.
const keyUntold = "; the record does not say whether it has an idempotency key"

// answered is what an answer means. untaken is that no server took the request, by proof of the logs; expected that its status is a
// good one.
func answered(q *record.Request, untaken, expected bool) (fate, string) {
	if q.OK {
		return served, "answered"
	}
	if expected {
		return lost, "answered as if it were well, without what was asked for"
	}
	if q.GRPC != nil {
		// https://grpc.io/docs/guides/status-codes/: which codes the service itself decides on, and which say that it could not.
		switch *q.GRPC {
		case 8, 14: // RESOURCE_EXHAUSTED, UNAVAILABLE
			return refusal(q, untaken)
		case 1, 2, 4, 13, 15: // CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, DATA_LOSS
			return lost, "answered with an error of the service"
		}
		return served, "answered otherwise than expected"
	}
	switch {
	case q.Code == http.StatusTooManyRequests, q.Code == http.StatusServiceUnavailable:
		return refusal(q, untaken)
	case q.Code >= 500:
		return lost, "answered with an error of the service"
	}
	return served, "answered otherwise than expected"
}

func refusal(q *record.Request, untaken bool) (fate, string) {
	switch {
	case q.RetryAfter:
		return safelyRefused, "refused, to be sent again"
	case untaken:
		return safelyRefused, "refused before any server took it"
	}
	return lost, "refused without a word on whether it may be sent again"
}

// ending is how a request ended. Records that are older than the field tell it by their errors; in doubt it was sent.
func ending(q *record.Request) record.Ending {
	switch {
	case q.Outcome != "":
		return q.Outcome
	case q.Code != 0:
		return record.Answered
	case strings.HasPrefix(q.Error, "no connection within"), strings.Contains(q.Error, "connection refused"):
		return record.Refused
	case strings.HasPrefix(q.Error, "no answer within"):
		return record.Deadline
	}
	return record.Reset
}

// effects looks for an effect that was made twice. A service that logs its effects is taken at its word. Otherwise a request
// that must not be done twice was done as often as replicas of one service say that they did it; an attempt that was aborted, or
// answered with a failure, was not.
func (e *entry) effects(again repetition) {
	type effect struct{ node, order string }
	var made []effect
	for _, l := range e.lines {
		if l.what != stored {
			continue
		}
		x := effect{l.node, l.order}
		if slices.Contains(made, x) {
			e.ambiguous = l.node + " logged twice that it was stored"
			continue
		}
		made = append(made, x)
	}
	if len(made) > 1 {
		var by []string
		for _, x := range made {
			by = append(by, strings.TrimSpace(x.order+" by "+x.node))
		}
		e.twice = "stored as " + strings.Join(by, " and as ")
		return
	}
	if again == repeatable {
		return
	}
	type place struct{ service, route string }
	did := map[place][]string{}
	open := map[string]int{} // by node: accepted and not ended
	at := map[string]place{}
	for _, l := range e.lines {
		p := place{l.service, l.route}
		at[l.node] = p
		switch {
		case l.what == accepted:
			open[l.node]++
			continue
		case l.what == aborted, l.what == done && l.failed:
			open[l.node]--
			continue
		case l.what != done:
			continue
		}
		open[l.node]--
		switch {
		case slices.Contains(did[p], l.node):
			e.ambiguous = l.node + " logged twice that it was done"
		default:
			did[p] = append(did[p], l.node)
		}
	}
	if len(made) == 1 { // it says by itself that its effect was made once, but not what a replica did that fell silent
		for _, l := range e.lines {
			if n := open[l.node]; n > 0 && l.node != made[0].node {
				e.ambiguous = "stored by " + made[0].node + ", and " + l.node + " never said how an attempt of its own ended"
			}
		}
		return
	}
	for _, l := range e.lines { // in the order of the lines, so that the same ledger comes out every time
		p := place{l.service, l.route}
		if len(did[p]) > 1 {
			by := "done by " + strings.Join(did[p], " and by ")
			if again == untold {
				e.ambiguous = by + keyUntold
			} else {
				e.twice = by
			}
			return
		}
		if n := open[l.node]; n > 0 && at[l.node] == p && len(did[p]) == 1 {
			e.ambiguous = "done by " + did[p][0] + ", and " + l.node + " never said how an attempt of its own ended"
		}
	}
}

// repeatableIn says which requests of a load are the same done twice as done once: by their method (RFC 9110, 9.2.2), or because they
// carry an idempotency key. Of a target the record has the method and the path, and not the headers, where the key would be.
func repeatableIn(l plan.Load) func(*record.Request) repetition {
	if l.Targets != "" {
		return func(q *record.Request) repetition {
			if method, _, _ := strings.Cut(q.Request, " "); idempotent(method) {
				return repeatable
			}
			return untold
		}
	}
	by := map[string]repetition{}
	for _, q := range l.Requests {
		if idempotent(q.Method) || keyed(q.Headers) || keyed(q.Metadata) {
			by[q.ID] = repeatable
		}
	}
	return func(q *record.Request) repetition { return by[q.Request] }
}

// expectedIn says of which answered requests of a load the status is one that is good, whatever the rest of the answer is.
func expectedIn(l plan.Load) func(*record.Request) bool {
	good := map[string]plan.Expect{}
	for _, q := range l.Requests {
		good[q.ID] = q.Expect
	}
	return func(q *record.Request) bool {
		x := good[q.Request]
		if q.GRPC == nil {
			return len(x.Status) == 0 && q.Code >= 200 && q.Code <= 299 || slices.Contains(x.Status, q.Code)
		}
		code := *q.GRPC
		return len(x.Codes) == 0 && code == 0 || code >= 0 && code < len(plan.GRPCCodes) && slices.Contains(x.Codes, plan.GRPCCodes[code])
	}
}

func idempotent(method string) bool {
	switch strings.ToUpper(method) {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

func keyed(headers map[string]string) bool {
	for name := range headers {
		if strings.EqualFold(name, "Idempotency-Key") {
			return true
		}
	}
	return false
}
