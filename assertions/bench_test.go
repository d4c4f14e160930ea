package assertions

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	vegeta "github.com/tsenart/vegeta/v12/lib"
	"github.com/tsenart/vegeta/v12/lib/plot"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// BenchmarkJudge and its peer are P10 without the rendering: a run of a million requests, judged by every assertion that can be asked of
// it, against vegeta's report and plot of the same log.
func BenchmarkJudge(b *testing.B) {
	const n = 1_000_000
	s := newStory()
	s.reqs = make([]record.Request, n)
	for i := range s.reqs {
		due := time.Duration(i) * 12 * time.Microsecond
		took := 5*ms + time.Duration(i*7919%5000)*time.Microsecond
		s.reqs[i] = record.Request{Seq: uint64(i), Round: 1, Phase: "fault", Request: []string{"create", "read"}[i%2], ID: "orders-0123456789", Due: due, Sent: due + 50*time.Microsecond, Done: due + took, Code: 200, OK: true, Node: "gateway-1"}
	}
	bounds := Bounds{Success: bound(b, ">= 99%"), P95: bound(b, "<= 3x baseline"), P999: bound(b, "<= 1s")}
	ask := func(kind string, p any) {
		s.ask(b, kind, p)
		a := &s.plan.Assert[len(s.plan.Assert)-1]
		a.ID = string(rune('a' + len(s.plan.Assert)))
	}
	for _, during := range []string{"fault", "recovery", "kill", ""} {
		ask("slo", &SLO{Source: Source{Load: "orders"}, During: during, Bounds: bounds})
	}
	ask("slo", &SLO{Source: Source{Load: "orders", Request: "create"}, During: "kill", Bounds: bounds})
	ask("recovers", &Recovers{Source: Source{Load: "orders"}, After: "kill.in-effect", Within: plan.Duration(3 * time.Second), Bounds: bounds})
	ask("no-lost-writes", NoLostWrites{Workload: "regs"})
	ask("no-duplicates", NoDuplicates{Workload: "regs"})
	ask("members-agree", MembersAgree{Workload: "regs", Group: "store"})
	ask("linearizable", Linearizable{Workload: "regs"})
	ask("unique-leader", UniqueLeader{Group: "store"})
	dir := s.write(b).Dir
	s.reqs = nil
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			run, err := record.Open(dir)
			require.NoError(b, err)
			_, v := Judge(context.Background(), run)
			require.Equal(b, Pass, v)
		}
	})
	log := filepath.Join(dir, "requests", "orders.bin")
	each := func(b *testing.B, do func(*vegeta.Result)) {
		f, err := os.Open(log)
		require.NoError(b, err)
		defer f.Close()
		dec := vegeta.NewDecoder(bufio.NewReader(f))
		for {
			var r vegeta.Result
			err := dec(&r)
			if err == io.EOF {
				return
			}
			require.NoError(b, err)
			do(&r)
		}
	}
	b.Run("vegeta report and plot", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var m vegeta.Metrics
			each(b, func(r *vegeta.Result) { m.Add(r) })
			m.Close()
			require.NoError(b, vegeta.NewTextReporter(&m).Report(io.Discard))
			p := plot.New(plot.Downsample(4000), plot.Label(plot.ErrorLabeler))
			each(b, func(r *vegeta.Result) { require.NoError(b, p.Add(r)) })
			p.Close()
			_, err := p.WriteTo(io.Discard)
			require.NoError(b, err)
		}
	})
}
