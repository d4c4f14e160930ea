package reports

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/assertions"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

func TestSaveReplacesWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	r := Result{Run: &record.Run{Dir: dir, Plan: &plan.Plan{Name: "saved"}}}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "run.json"), []byte("old"), 0o644))
	require.NoError(t, Save(r))
	for file, render := range map[string]Format{"run.json": {Render: JSON}, "junit.xml": {Render: JUnit}} {
		var want bytes.Buffer
		require.NoError(t, render.Render(&want, []Result{r}))
		got, err := os.ReadFile(filepath.Join(dir, file))
		require.NoError(t, err)
		require.Equal(t, want.String(), string(got))
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2, "no temporary file is left")
}

// What is read of a run directory is told like what was written into it.
func TestSavedControlsAreThoseThatWereSaved(t *testing.T) {
	r := passed().result(t)
	r.Run.Dir = t.TempDir()
	window := assertions.Evidence{What: "requests", File: "requests/web.csv", Window: &assertions.Window{From: 1100 * ms, To: 4208123457}, Count: 3,
		Nodes: []string{"web-1"}, Values: map[string]float64{"p99": 0.25}, Detail: "a line"}
	r.Controls = append(r.Controls, ControlResult{Name: "no-fault", NoFault: true, Reason: "it was loud", Unread: "it is gone", Dir: "runs/x-no-fault-1", Findings: []assertions.Finding{
		finding(assertions.Fail, assertions.Service, "steady", "slo", 1, "too slow", window), finding(assertions.Invalid, assertions.Premise, "audit", "audit", 0, "none")}})
	require.NoError(t, Save(r))
	saved := r
	var err error
	saved.Controls, err = SavedControls(r.Run.Dir)
	require.NoError(t, err)
	for _, f := range Table {
		var want, got bytes.Buffer
		require.NoError(t, f.Render(&want, []Result{r}))
		require.NoError(t, f.Render(&got, []Result{saved}))
		require.Equal(t, want.String(), got.String(), f.Name)
	}
	none, err := SavedControls(t.TempDir())
	require.NoError(t, err)
	require.Empty(t, none)
}

func TestSaveSaysWhatItCannotWrite(t *testing.T) {
	err := Save(Result{Run: &record.Run{Dir: filepath.Join(t.TempDir(), "gone"), Plan: &plan.Plan{}}})
	require.ErrorContains(t, err, "write run.json into the run directory")
	require.ErrorContains(t, err, "write junit.xml into the run directory")
}
