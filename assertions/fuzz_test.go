package assertions

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// FuzzJudge judges records whose events, history, polls or parameters are anything: there is a verdict, never a panic, and
// each INVALID has its reason.
func FuzzJudge(f *testing.F) {
	s := newStory()
	ask := func(kind string, p any) {
		s.ask(f, kind, p)
		s.plan.Assert[len(s.plan.Assert)-1].ID = kind
	}
	bounds := Bounds{Success: bound(f, ">= 99%"), P50: bound(f, "<= 3x baseline"), Throughput: bound(f, ">= 1/s")}
	ask("slo", &SLO{Source: Source{Load: "orders"}, During: "kill", Bounds: bounds})
	ask("recovers", &Recovers{Source: Source{Workload: "regs"}, After: "kill.in-effect", Within: plan.Duration(time.Second), Bounds: bounds})
	ask("no-lost-writes", NoLostWrites{Workload: "regs"})
	ask("no-duplicates", NoDuplicates{Workload: "regs"})
	ask("members-agree", MembersAgree{Workload: "regs", Group: "store"})
	ask("linearizable", Linearizable{Workload: "regs"})
	ask("unique-leader", UniqueLeader{Group: "store"})
	ask("exec", Exec{Exec: []string{"check"}})
	ask("zero-drop", &ZeroDrop{Load: "orders"})
	ask("logs", &Logs{Load: "orders", Hops: []string{"edge"}})
	s.reqs[0].ID = "r-0"
	s.says(&s.reqs[0], "edge-1", ms, "accepted", nil)
	s.reqs, s.ops = s.reqs[:50], s.ops[:40]
	run := s.write(f)
	files := []string{"events.jsonl", "plan.json", record.HistoryFile("regs"), record.LeadersFile(), "meta.json", record.LogFile("edge-1")}
	for i, name := range files {
		b, err := os.ReadFile(filepath.Join(run.Dir, name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), b)
	}
	f.Fuzz(func(t *testing.T, which uint8, content []byte) {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(run.Dir)); err != nil {
			t.Fatal(err)
		}
		i := int(which) % len(files)
		if err := os.WriteFile(filepath.Join(dir, files[i]), content, 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := record.Open(dir)
		if err != nil {
			return
		}
		fs, v := JudgeWithin(context.Background(), r, time.Second)
		worst := Pass
		for _, x := range fs {
			worst = Worst(worst, x.Verdict)
			if x.Verdict == Invalid && x.Reason == "" {
				t.Fatalf("%s is INVALID without a reason: %s", x.ID, x.Summary)
			}
			for _, e := range x.Evidence {
				if e.What == "stack of the checker" {
					t.Fatal(x.Reason, e.Detail)
				}
			}
		}
		if v != worst {
			t.Fatalf("the verdict is %s, the worst finding %s", v, worst)
		}
		if err := Save(dir, fs, v); err != nil {
			t.Fatal(err)
		}
	})
}
