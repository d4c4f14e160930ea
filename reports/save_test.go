package reports

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

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

func TestSaveSaysWhatItCannotWrite(t *testing.T) {
	err := Save(Result{Run: &record.Run{Dir: filepath.Join(t.TempDir(), "gone"), Plan: &plan.Plan{}}})
	require.ErrorContains(t, err, "write run.json into the run directory")
	require.ErrorContains(t, err, "write junit.xml into the run directory")
}
