package harness

import (
	"testing"

	"github.com/hasvc/gauntlet/assertions"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/stretchr/testify/assert"
)

func TestKilled(t *testing.T) {
	finding := func(id, kind string, v assertions.Verdict) assertions.Finding {
		return assertions.Finding{ID: id, Kind: kind, Verdict: v, Summary: "said so"}
	}
	proved := finding("faults", assertions.FaultsProved, assertions.Pass)
	unproved := assertions.Finding{ID: "faults", Kind: assertions.FaultsProved, Reason: "fault cut had nothing to act on"}
	failed := finding("lost", "no-lost-writes", assertions.Fail)
	for _, c := range []struct {
		name      string
		unchanged assertions.Verdict
		mustFail  []string
		findings  []assertions.Finding
		killed    bool
		why       string
	}{
		{"the named one failed", assertions.Pass, []string{"lost"}, []assertions.Finding{proved, failed}, true, "lost"},
		{"without faults there is nothing to prove", assertions.Pass, []string{"lost"}, []assertions.Finding{failed}, true, "lost"},
		{"in one round of several", assertions.Pass, []string{"lost"}, []assertions.Finding{proved, finding("lost", "x", assertions.Pass), failed}, true, "lost"},
		{"the unchanged run failed", assertions.Fail, []string{"lost"}, []assertions.Finding{proved, failed}, false, "the unchanged run is FAIL"},
		{"the unchanged run is invalid", assertions.Invalid, []string{"lost"}, []assertions.Finding{proved, failed}, false, "the unchanged run is INVALID"},
		{"no verdict at all", assertions.Verdict(0), []string{"lost"}, []assertions.Finding{proved, failed}, false, "INVALID"},
		{"its faults were not proved", assertions.Pass, []string{"lost"}, []assertions.Finding{unproved, failed}, false, "nothing to act on"},
		{"in one round of several they were not", assertions.Pass, []string{"lost"}, []assertions.Finding{proved, failed, unproved}, false, "nothing to act on"},
		{"it passed", assertions.Pass, []string{"lost"}, []assertions.Finding{proved, finding("lost", "x", assertions.Pass)}, false, "PASS"},
		{"invalid is no failure", assertions.Pass, []string{"lost"}, []assertions.Finding{proved, finding("lost", "x", assertions.Invalid)}, false, "INVALID"},
		{"another one failed", assertions.Pass, []string{"lost"}, []assertions.Finding{proved, finding("twice", "x", assertions.Fail)}, false, "lost"},
		{"one of two failed", assertions.Pass, []string{"lost", "twice"}, []assertions.Finding{proved, failed, finding("twice", "x", assertions.Pass)}, false, "twice"},
		{"it was never judged", assertions.Pass, []string{"lost"}, nil, false, "lost"},
		{"none is named", assertions.Pass, nil, []assertions.Finding{proved, failed}, false, "names no assertion"},
	} {
		t.Run(c.name, func(t *testing.T) {
			killed, why := Killed(c.unchanged, plan.Control{MustFail: c.mustFail}, c.findings)
			assert.Equal(t, c.killed, killed)
			assert.Contains(t, why, c.why)
		})
	}
}
