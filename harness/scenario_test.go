package harness

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRunsThatWaitForTheirTurnHaveDirectoriesOfTheirOwn(t *testing.T) {
	out := filepath.Join(t.TempDir(), "runs")
	p := &plan.Plan{Name: "x"}
	assert.Equal(t, filepath.Join(out, "x-1"), RunDir(out, p, ""))
	assert.Equal(t, filepath.Join(out, "x-2"), RunDir(out, p, ""))
	assert.Equal(t, filepath.Join(out, "x-a_b-1"), RunDir(out, p, "a/b"))
	// A place that cannot be written is no endless loop.
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	assert.Equal(t, filepath.Join(file, "x-1"), RunDir(file, p, ""))
}

func TestRunThatNeverBeganLeavesNoDirectory(t *testing.T) {
	files := find(t, "no-fault")
	s, err := Load(t.Context(), files[0])
	require.NoError(t, err)
	out := t.TempDir()
	p, err := s.Plan(1, "")
	require.NoError(t, err)
	_, err = s.Run(t.Context(), Options{Control: "none of that name", Dir: RunDir(out, p, "")})
	require.ErrorContains(t, err, "has no control")
	left, err := os.ReadDir(out)
	require.NoError(t, err)
	assert.Empty(t, left)
}

// keeper is a driver whose volumes are not directories.
type keeper struct{ cluster.Driver }

func (keeper) RemoveVolumes(context.Context, string, ...string) error { return nil }

func TestVolumesThatTheDriverKeepsCannotBeKept(t *testing.T) {
	files := find(t, "no-fault")
	s, err := Load(t.Context(), files[0])
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "run")
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // where it is not refused nothing starts either
	_, err = s.Run(ctx, Options{Driver: keeper{Drivers[0].New()}, Keep: true, Dir: dir})
	require.ErrorContains(t, err, "has volumes in its engine, and none that could be kept in the run directory")
	var input *InputError
	require.ErrorAs(t, err, &input)
	assert.NoDirExists(t, dir)
}
