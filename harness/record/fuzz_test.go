package record

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hasvc/gauntlet/harness/plan"
)

// FuzzOpen reads a run directory of any content: it is an error or a count of torn rows, never a panic, and what was read obeys
// the order that is promised.
func FuzzOpen(f *testing.F) {
	w, err := Create(filepath.Join(f.TempDir(), "run"), Meta{Tool: "v0"}, testPlan())
	if err != nil {
		f.Fatal(err)
	}
	w.SetRound(1)
	w.Event(Event{Kind: RoundBegin})
	w.Event(Event{Kind: PhaseBegin, Phase: "up"})
	w.Event(Event{Kind: FaultStarted, Fault: "kill", Occurrence: 1})
	for i := range 3 {
		w.Request("web", Request{Seq: uint64(i), Request: "create", ID: "x", Error: "refused", Sent: 5, Done: 9})
	}
	w.Op("regs", Op{Kind: "read", Key: "k", Found: yes()})
	w.Leader(LeaderPoll{Group: "g", Member: "m"})
	w.Ready(Readiness{Node: "n"})
	w.Event(Event{Kind: RunEnd})
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	files := []string{metaFile, planFile, eventsFile, "requests/web.bin", "requests/web.jsonl", "histories/regs.jsonl", leadersFile, readinessFile}
	var good [][]byte
	for _, name := range files {
		b, err := os.ReadFile(filepath.Join(w.Dir(), name))
		if err != nil {
			f.Fatal(err)
		}
		good = append(good, b)
	}
	for i := range files {
		f.Add(uint8(i), good[i])
		f.Add(uint8(i), good[i][:len(good[i])/2])
		f.Add(uint8(i), []byte("garbage\n{}\nnull\n\n"))
	}
	f.Fuzz(func(t *testing.T, which uint8, content []byte) {
		dir := t.TempDir()
		for _, d := range []string{"requests", "histories"} {
			if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for i, name := range files {
			b := good[i]
			if i == int(which)%len(files) {
				b = content
			}
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		r, err := Open(dir)
		if err != nil {
			return
		}
		r.Lost()
		for _, round := range r.Rounds {
			reqs, _ := round.Requests("web")
			for i := range reqs {
				if i > 0 && reqs[i].Due < reqs[i-1].Due {
					t.Fatal("requests are not in the order of their due times")
				}
			}
			if _, err := round.History("regs"); err != nil {
				t.Fatal(err)
			}
			for _, p := range []string{"up", "fault"} {
				if from, to, ok := round.Phase(p); ok && to < from {
					t.Fatal("a phase ends before it begins")
				}
			}
			round.Moment(plan.EventRef{Fault: "kill", Event: plan.Started})
			round.Leaders("g")
			round.Readiness()
		}
	})
}
