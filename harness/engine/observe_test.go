package engine

import (
	"errors"
	"testing"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRepliedLinksAreThoseOfReplies(t *testing.T) {
	p := planOf(
		fault("a", "http-error", `{"from":"client","to":"a","status":503}`, 0, time.Second),
		fault("b", "http-error", `{"from":"client","to":"a","status":500}`, 0, time.Second),
		fault("c", "grpc-error", `{"from":"a","to":"b","code":"INTERNAL"}`, 0, time.Second),
		fault("d", "drop", `{"from":"b","to":"c"}`, 0, time.Second))
	assert.Equal(t, []plan.LinkEnds{{From: "client", To: "a"}, {From: "a", To: "b"}}, RepliedOn(p.Rounds[0]))
}

// By their ends: a replica that comes later belongs to its service.
func TestToxicLinksAreThoseOfToxics(t *testing.T) {
	p := planOf(
		fault("a", "latency", `{"from":"client","to":"api","latency":"5ms"}`, 0, time.Second),
		fault("b", "reset_peer", `{"from":"client","to":"api"}`, 0, time.Second),
		fault("c", "slicer", `{"from":"api","to":"db","average_size":9}`, 0, time.Second),
		fault("d", "http-error", `{"from":"api","to":"client","status":503}`, 0, time.Second))
	assert.Equal(t, []plan.LinkEnds{{From: "client", To: "api"}, {From: "api", To: "db"}}, ToxicOn(p.Rounds[0]))
}

// A control without faults has the same links go through the core as the run that it is compared with.
func TestTheWayOfRequestsIsThatOfTheRound(t *testing.T) {
	toxic, replied := []cluster.Link{{From: "client", To: "api"}}, []cluster.Link{{From: "api", To: "db"}}
	broken := planOf(
		fault("t", "latency", `{"from":"client","to":"api","latency":"5ms"}`, 0, time.Millisecond),
		fault("r", "http-error", `{"from":"api","to":"db","status":503}`, 0, time.Millisecond))
	whole := planOf()
	whole.Rounds[0].Quiet = &plan.Quiet{Toxic: ToxicOn(broken.Rounds[0]), Replied: RepliedOn(broken.Rounds[0])}
	for name, p := range map[string]*plan.Plan{"broken": broken, "quiet": whole} {
		p.Observe = []plan.LinkEnds{{From: "db", To: "client"}}
		d := newFake()
		d.err = errors.New("this far and no further")
		_, err := job(t, t.Context(), d, p)
		require.ErrorIs(t, err, d.err)
		assert.Equal(t, toxic, d.opt.Toxic, name)
		assert.Equal(t, replied, d.opt.Replied, name)
		assert.Equal(t, []cluster.Link{{From: "db", To: "client"}}, d.opt.Observed, name)
	}
}

func TestCallsAreWrittenAndWhatIsMissingOfThem(t *testing.T) {
	p := planOf()
	dir := t.TempDir() + "/run"
	w, err := record.Create(dir, record.Meta{Tool: "test"}, p)
	require.NoError(t, err)
	rd := newRound(Job{Plan: p, Record: w}, p.Rounds[0])
	w.SetRound(1)
	w.Event(record.Event{Kind: record.RoundBegin})
	code, link := 14, cluster.Link{From: "a", To: "b"}
	begin := time.Now()
	rd.calls(cluster.CallBatch{Calls: []cluster.Call{{Begin: begin, End: begin.Add(time.Second), Link: link, Port: 9, Conn: 3, Proto: "grpc", Method: "POST", Path: "/p", RequestID: "r", TraceID: "t",
		Status: 200, GRPCStatus: &code, Injected: true, Error: "reset"}}})
	rd.calls(cluster.CallBatch{Read: []cluster.Observed{{Link: link, Calls: 5, Dropped: 2, Unreadable: 1, Why: "TLS"}}, Err: errors.New("the plane is gone")})
	require.NoError(t, w.Close())
	run, err := record.Open(dir)
	require.NoError(t, err)
	cs, err := run.Rounds[0].Calls()
	require.NoError(t, err)
	require.Len(t, cs, 1)
	assert.Equal(t, time.Second, cs[0].End-cs[0].Begin)
	assert.InDelta(t, w.At(begin), cs[0].Begin, float64(time.Microsecond))
	cs[0].Begin, cs[0].End = 0, 0
	assert.Equal(t, record.Call{Round: 1, From: "a", To: "b", Port: 9, Conn: 3, Proto: "grpc", Method: "POST", Path: "/p", RequestID: "r", TraceID: "t",
		Status: 200, GRPCStatus: &code, Injected: true, Error: "reset"}, cs[0])
	var read, failed int
	for _, e := range run.Rounds[0].Events {
		switch e.Kind {
		case record.ObserveEnd:
			read++
			assert.Equal(t, "a -> b", e.ID)
			assert.JSONEq(t, `{"calls":5,"dropped":2,"unreadable":1,"why":"TLS"}`, string(e.Data))
		case record.Failure:
			failed++
			assert.Contains(t, e.Error, "the plane is gone")
		}
	}
	assert.Equal(t, []int{1, 1}, []int{read, failed})
}
