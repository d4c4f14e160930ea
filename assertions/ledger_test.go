package assertions

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// drawLines draws what servers may log of a request, sane or not.
func drawLines(t *rapid.T, id string) []*logLine {
	var out []*logLine
	for i := range rapid.IntRange(0, 6).Draw(t, "lines") {
		node := rapid.SampledFrom([]string{"edge-1", "edge-2", "orders-1", "orders-2"}).Draw(t, "node")
		out = append(out, &logLine{
			node: node, service: node[:len(node)-2], n: i + 1, id: id,
			what:   rapid.SampledFrom([]saying{accepted, done, aborted, stored, other}).Draw(t, "what"),
			order:  rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "order"),
			failed: rapid.Bool().Draw(t, "failed"),
			at:     time.Duration(i), timed: true,
		})
	}
	return out
}

func drawRequest(t *rapid.T, seq int) *record.Request {
	q := &record.Request{Seq: uint64(seq), ID: fmt.Sprint("r-", seq), Request: rapid.SampledFrom([]string{"create", "read"}).Draw(t, "request")}
	q.Outcome = rapid.SampledFrom([]record.Ending{"", record.Answered, record.Refused, record.Reset, record.Deadline, record.Missed}).Draw(t, "outcome")
	q.Code = rapid.SampledFrom([]int{0, 200, 404, 429, 500, 503}).Draw(t, "code")
	q.OK = q.Code == 200 && (q.Outcome == "" || q.Outcome == record.Answered)
	q.RetryAfter = rapid.Bool().Draw(t, "retry after")
	if rapid.Bool().Draw(t, "grpc") {
		q.GRPC = status(rapid.IntRange(0, 17).Draw(t, "code of gRPC"))
	}
	q.Error = rapid.SampledFrom([]string{"", "no answer within 1s", "no connection within 1s", "EOF"}).Draw(t, "error")
	return q
}

func readsRepeat(q *record.Request) repetition {
	if q.Request == "read" {
		return repeatable
	}
	return differs
}

// logging are the terms where every server logs every request.
var logging = terms{true, func(*record.Request) bool { return true }, readsRepeat, expectedIn(plan.Load{})}

// No request is counted twice or left out, whatever clients and servers say: each has one entry, in its place, with one fate.
func TestTheLedgerHasEachRequestOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		byID := map[string][]*logLine{"r-unknown": drawLines(t, "r-unknown")}
		var reqs []*record.Request
		for i := range rapid.IntRange(0, 20).Draw(t, "requests") {
			q := drawRequest(t, i)
			reqs = append(reqs, q)
			byID[q.ID] = drawLines(t, q.ID)
		}
		by := logging
		by.logged = rapid.Bool().Draw(t, "logged")
		es := ledger(reqs, byID, by)
		b := balance{entries: es}
		s := b.sum()
		total := 0
		for f, n := range s.fates {
			if !slices.Contains([]fate{served, safelyRefused, lost, unsent}, f) {
				t.Fatalf("%q is no fate", f)
			}
			total += n
		}
		if len(es) != len(reqs) || total != len(reqs) || s.named != len(reqs) {
			t.Fatalf("%d requests, %d entries, %d fates, %d names", len(reqs), len(es), total, s.named)
		}
		for i, e := range es {
			if e.req != reqs[i] {
				t.Fatalf("entry %d is of another request", i)
			}
			if e.why == "" {
				t.Fatalf("no reason for %s", e.fate)
			}
			// What its client holds an answer to is never lost; what it sent and heard nothing of always is.
			switch ending(e.req) {
			case record.Reset, record.Deadline:
				if e.fate != lost {
					t.Fatalf("sent, without an answer, and %s", e.fate)
				}
			case record.Missed:
				if e.fate != unsent {
					t.Fatalf("never sent, and %s", e.fate)
				}
			case record.Refused:
				if e.fate == served || e.fate == unsent {
					t.Fatalf("refused, and %s", e.fate)
				}
			case record.Answered:
				if e.req.OK && e.fate != served {
					t.Fatalf("answered as expected, and %s", e.fate)
				}
			}
			if e.twice != "" && len(e.lines) < 2 {
				t.Fatal("twice, by less than two lines")
			}
		}
	})
}

// An entry rests on the request's own lines: neither those of others nor the order of requests change it.
func TestAnEntryRestsOnItsOwnLines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := drawRequest(t, 1)
		lines := drawLines(t, q.ID)
		alone := ledger([]*record.Request{q}, map[string][]*logLine{q.ID: lines}, logging)[0]
		byID := map[string][]*logLine{q.ID: lines}
		reqs := []*record.Request{q}
		for i := 2; i < 6; i++ {
			x := drawRequest(t, i)
			reqs = append(reqs, x)
			byID[x.ID] = drawLines(t, x.ID)
		}
		rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)).Shuffle(len(reqs), func(i, j int) { reqs[i], reqs[j] = reqs[j], reqs[i] })
		i := slices.Index(reqs, q)
		among := ledger(reqs, byID, logging)[i]
		if alone.fate != among.fate || alone.twice != among.twice || alone.ambiguous != among.ambiguous || alone.unlogged != among.unlogged || alone.contradict != among.contradict {
			t.Fatalf("%+v alone, %+v among others", alone, among)
		}
	})
}

// Two different effects are a duplicate, whatever else was logged; one effect, or none of a request that may be repeated, is not.
func TestDuplicatesAreCountedByEffects(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := drawRequest(t, 1)
		lines := drawLines(t, q.ID)
		var effects []string
		for _, l := range lines {
			if x := l.node + " " + l.order; l.what == stored && !slices.Contains(effects, x) {
				effects = append(effects, x)
			}
		}
		e := ledger([]*record.Request{q}, map[string][]*logLine{q.ID: lines}, logging)[0]
		switch twice := e.twice != ""; {
		case len(effects) > 1 && !twice:
			t.Fatalf("%v is no duplicate", effects)
		case len(effects) == 1 && twice, len(effects) == 0 && twice && q.Request == "read":
			t.Fatalf("a duplicate by %s", e.twice)
		}
	})
}
