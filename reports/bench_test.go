package reports

import (
	"io"
	"testing"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// BenchmarkText opens the record of a million requests and renders it.
func BenchmarkText(b *testing.B) {
	pl := &plan.Plan{Version: plan.Version, Name: "million", Loads: []plan.Load{{Name: "orders"}}, Rounds: []plan.Round{{N: 1}}}
	w, err := record.Create(b.TempDir()+"/run", record.Meta{}, pl)
	if err != nil {
		b.Fatal(err)
	}
	const n = 1_000_000
	end := n * time.Millisecond
	w.Event(record.Event{T: 1, Round: 1, Kind: record.PhaseBegin, Phase: plan.PhaseBaseline})
	for i := range n {
		due := time.Duration(i) * time.Millisecond
		w.Request("orders", record.Request{Seq: uint64(i), Round: 1, Request: "create", Due: due, Sent: due, Done: due + time.Duration(i*7919%5000)*time.Microsecond, Code: 200, OK: true})
	}
	w.Event(record.Event{T: end, Round: 1, Kind: record.PhaseEnd, Phase: plan.PhaseBaseline})
	w.Event(record.Event{T: end, Kind: record.RunEnd})
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	var render time.Duration
	for b.Loop() {
		run, err := record.Open(w.Dir())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := run.Rounds[0].Requests("orders"); err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		if err := Text(io.Discard, []Result{{Run: run}}); err != nil {
			b.Fatal(err)
		}
		render += time.Since(start)
	}
	b.ReportMetric(float64(render.Milliseconds())/float64(b.N), "ms/rendering")
}
