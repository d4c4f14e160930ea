package mydb

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness"
)

// The scenarios of a stranger's system are data: they validate against its topology and compile, with every control.
func TestScenariosCompile(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	require.NoError(t, err)
	n := 0
	for _, f := range files {
		if f == "mydb.yaml" {
			continue
		}
		n++
		t.Run(f, func(t *testing.T) {
			s, err := harness.Load(t.Context(), f)
			require.NoError(t, err)
			p, err := s.Plan(1, "")
			require.NoError(t, err)
			require.Len(t, p.Rounds, 3)
			require.NotEmpty(t, p.Controls)
			for _, c := range p.Controls {
				_, err := s.Plan(1, c.Name)
				require.NoError(t, err, c.Name)
			}
		})
	}
	require.Equal(t, 4, n)
}

// Runs with one control of each kind that a stranger's system has: another environment, and other flags. The rest of the
// scenarios and controls run in `gauntlet run --controls examples/mydb`.
func TestScenariosHold(t *testing.T) {
	t.Run("loop", func(t *testing.T) { harness.Test(t, "loop.yaml", harness.WithControls("MYDB_VERSION=v1.0.0")) })
	t.Run("cut-promote", func(t *testing.T) {
		harness.Test(t, "cut-promote.yaml", harness.WithControls("mydb --ack-before-write"))
	})
}
