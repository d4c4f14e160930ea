package harness

import (
	"context"
	"errors"
	"os"
	"path/filepath"
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
	late := assertions.Finding{ID: "load", Kind: "load", Class: assertions.Premise, Reason: "it was late"}
	failed := finding("lost", "no-lost-writes", assertions.Fail)
	for _, c := range []struct {
		name      string
		unchanged assertions.Verdict
		mustFail  []string
		findings  []assertions.Finding
		verdict   assertions.Verdict
		why       string
	}{
		{"the named one failed", assertions.Pass, []string{"lost"}, []assertions.Finding{proved, failed}, assertions.Pass, "lost"},
		{"without faults there is nothing to prove", assertions.Pass, []string{"lost"}, []assertions.Finding{failed}, assertions.Pass, "lost"},
		{"in one round of several", assertions.Pass, []string{"lost"}, []assertions.Finding{proved, finding("lost", "x", assertions.Pass), failed}, assertions.Pass, "lost"},
		{"the unchanged run failed", assertions.Fail, []string{"lost"}, []assertions.Finding{proved, failed}, assertions.Invalid, "the unchanged run is FAIL"},
		{"the unchanged run is invalid", assertions.Invalid, []string{"lost"}, []assertions.Finding{proved, failed}, assertions.Invalid, "the unchanged run is INVALID"},
		{"no verdict at all", assertions.Verdict(0), []string{"lost"}, []assertions.Finding{proved, failed}, assertions.Invalid, "INVALID"},
		{"its faults were not proved", assertions.Pass, []string{"lost"}, []assertions.Finding{unproved, failed}, assertions.Invalid, "nothing to act on"},
		{"in one round of several they were not", assertions.Pass, []string{"lost"}, []assertions.Finding{proved, failed, unproved}, assertions.Invalid, "nothing to act on"},
		{"it passed", assertions.Pass, []string{"lost"}, []assertions.Finding{proved, finding("lost", "x", assertions.Pass)}, assertions.Fail, "PASS"},
		{"invalid is no failure", assertions.Pass, []string{"lost"}, []assertions.Finding{proved, finding("lost", "x", assertions.Invalid)}, assertions.Invalid, "INVALID"},
		{"another one failed", assertions.Pass, []string{"lost"}, []assertions.Finding{proved, finding("twice", "x", assertions.Fail)}, assertions.Invalid, "lost"},
		{"one of two failed", assertions.Pass, []string{"lost", "twice"}, []assertions.Finding{proved, failed, finding("twice", "x", assertions.Pass)}, assertions.Fail, "twice"},
		{"it was never judged", assertions.Pass, []string{"lost"}, nil, assertions.Invalid, "lost"},
		{"one of two passed and the other is invalid", assertions.Pass, []string{"lost", "twice"}, []assertions.Finding{finding("lost", "x", assertions.Invalid), finding("twice", "x", assertions.Pass)}, assertions.Fail, "twice"},
		{"one of two failed and the other is invalid", assertions.Pass, []string{"lost", "twice"}, []assertions.Finding{failed, finding("twice", "x", assertions.Invalid)}, assertions.Invalid, "twice"},
		{"in one round it passed, and in another it is invalid", assertions.Pass, []string{"lost"}, []assertions.Finding{finding("lost", "x", assertions.Pass), finding("lost", "x", assertions.Invalid)}, assertions.Invalid, "PASS (said so), INVALID"},
		{"it passed beside what is invalid", assertions.Pass, []string{"lost"}, []assertions.Finding{finding("lost", "x", assertions.Pass), finding("twice", "x", assertions.Invalid)}, assertions.Fail, "PASS"},
		{"it passed in a run that is invalid", assertions.Pass, []string{"lost"}, []assertions.Finding{finding("lost", "x", assertions.Pass), late}, assertions.Invalid, "what it rests on does not hold: load (it was late)"},
		{"it failed in a run that is invalid", assertions.Pass, []string{"lost"}, []assertions.Finding{failed, late}, assertions.Pass, "lost"},
		{"none is named", assertions.Pass, nil, []assertions.Finding{proved, failed}, assertions.Fail, "names no assertion"},
	} {
		t.Run(c.name, func(t *testing.T) {
			verdict, why := Killed(c.unchanged, plan.Control{MustFail: c.mustFail}, c.findings)
			assert.Equal(t, c.verdict, verdict)
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
		require.NoError(t, reports.Save(reports.Result{Run: run, Controls: []reports.ControlResult{{Name: "one", NoFault: true, Verdict: assertions.Pass, Reason: "quiet then", Dir: "runs/x-one-1",
			Findings: []assertions.Finding{{ID: "kept", Verdict: assertions.Pass}}}}}))
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
		require.Contains(t, c.Unread, why)
		require.True(t, c.NoFault)
		require.Equal(t, assertions.Pass, c.Verdict, "what was judged before stands")
		require.Equal(t, "quiet then", c.Reason)
		require.Len(t, c.Findings, 1)
		saved, err := reports.SavedControls(dir)
		require.NoError(t, err)
		require.Equal(t, []reports.ControlResult{c}, saved, "and is kept for the next time")
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

// A check that is interrupted judges nothing: what was judged before stands.
func TestAnInterruptedCheckLeavesTheFindings(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	w, err := record.Create(dir, record.Meta{}, &plan.Plan{Version: plan.Version, Name: "x"})
	require.NoError(t, err)
	require.NoError(t, w.Close())
	_, err = Check(t.Context(), dir)
	require.NoError(t, err)
	files := func() map[string]string {
		t.Helper()
		all := map[string]string{}
		for _, name := range []string{"findings.json", "run.json", "junit.xml"} {
			b, err := os.ReadFile(filepath.Join(dir, name))
			require.NoError(t, err)
			all[name] = string(b)
		}
		return all
	}
	before := files()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("interrupted by hand"))
	r, err := Check(ctx, dir)
	require.ErrorContains(t, err, "interrupted by hand")
	require.Nil(t, r)
	require.Equal(t, before, files())
}
