package harness

import (
	"os"
	"testing"

	"github.com/hasvc/gauntlet/assertions"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
	"github.com/hasvc/gauntlet/reports"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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

// Two trees have directories of the same names, and a control's is written down relative to where the run was asked for.
func TestAControlIsCheckedByTheRecordOfItsOwnRun(t *testing.T) {
	t.Chdir(t.TempDir())
	recorded := func(dir string, seed uint64, control string) {
		p := &plan.Plan{Version: plan.Version, Name: "x", Seed: seed, Controls: []plan.Control{{Name: "one", NoFault: true}}}
		if control != "" {
			p.Control = &plan.Control{Name: control}
		}
		w, err := record.Create(dir, record.Meta{}, p)
		require.NoError(t, err)
		require.NoError(t, w.Close())
	}
	check := func(dir string) reports.ControlResult {
		t.Helper()
		run, err := record.Open(dir)
		require.NoError(t, err)
		require.NoError(t, reports.Save(reports.Result{Run: run, Controls: []reports.ControlResult{{Name: "one", NoFault: true, Killed: true, Dir: "runs/x-one-1"}}}))
		r, err := Check(t.Context(), dir)
		require.NoError(t, err)
		require.Len(t, r.Controls, 1)
		return r.Controls[0]
	}
	recorded("runs/x-1", 1, "")
	recorded("runs/x-one-1", 1, "one")
	recorded("other/runs/x-1", 2, "")
	recorded("other/runs/x-one-1", 2, "one")
	require.Equal(t, "runs/x-one-1", check("runs/x-1").Dir)
	require.Equal(t, "other/runs/x-one-1", check("other/runs/x-1").Dir)

	refused := func(dir, why string) {
		t.Helper()
		c := check(dir)
		require.False(t, c.Killed)
		require.True(t, c.NoFault)
		require.Empty(t, c.Findings, "nothing was judged")
		require.Contains(t, c.Reason, why)
	}
	require.NoError(t, os.RemoveAll("other/runs/x-one-1"))
	refused("other/runs/x-1", "runs/x-one-1 is that of another run")
	recorded("other/runs/x-one-1", 2, "two")
	refused("other/runs/x-1", "runs/x-one-1 is that of another run")

	// A run that was moved alone finds its control where that was written.
	require.NoError(t, os.MkdirAll("away", 0o755))
	require.NoError(t, os.Rename("runs/x-1", "away/x-1"))
	require.Equal(t, "runs/x-one-1", check("away/x-1").Dir)
	require.NoError(t, os.RemoveAll("runs"))
	refused("away/x-1", "runs/x-one-1 is not a run directory")
}
