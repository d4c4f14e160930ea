package docker_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	gauntlet "github.com/hasvc/gauntlet/harness"
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/docker"
)

// TestAStandingTopologyTakesItsVolumesAway: its directory is another one each time, so nobody would ever use them again.
func TestAStandingTopologyTakesItsVolumesAway(t *testing.T) {
	e := connected(t)
	name := unique()
	file := filepath.Join(t.TempDir(), "compose.yaml")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `
name: %s
services:
  a: {x-gauntlet: {exec: %s}, command: [serve], init: true, expose: ["7000"], volumes: ["kept:/kept"]}
volumes: {kept: {}}
`, name, program(t)), 0o644))
	s, err := gauntlet.Stand(t.Context(), file, gauntlet.StandOptions{
		Driver: docker.New(), API: "127.0.0.1:0", Dir: t.TempDir(), Observe: func(cluster.Event) {}, Progress: func(string) {},
	})
	require.NoError(t, err)
	require.NotEmpty(t, of(t, e, name))
	left, err := s.Close(t.Context())
	require.NoError(t, err)
	require.Empty(t, left)
	require.Empty(t, of(t, e, name))
}
