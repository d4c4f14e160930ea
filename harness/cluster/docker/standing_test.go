package docker_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"

	gauntlet "github.com/hasvc/gauntlet/harness"
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/docker"
	"github.com/hasvc/gauntlet/harness/cluster/docker/engine"
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

// TestADirectoryOfVolumesMadeAnewHasNewOnes: a run that was killed left its volume, its workspace was wiped, and the next run has the
// same path.
func TestADirectoryOfVolumesMadeAnewHasNewOnes(t *testing.T) {
	e := connected(t)
	dir, name := filepath.Join(t.TempDir(), "volumes"), unique()
	s := serving("a", program(t))
	s.Volumes = []cluster.Mount{{Kind: "volume", Source: "data", Target: "/data"}}
	round := func() {
		c, err := docker.New().Up(t.Context(), &cluster.Spec{Name: name, Services: []cluster.Service{s}, Volumes: []string{"data"}}, cluster.Options{Dir: t.TempDir(), Volumes: dir})
		require.NoError(t, err)
		left, err := c.Down(t.Context())
		require.NoError(t, err)
		require.Empty(t, left)
	}
	round()
	round()
	first := of(t, e, name)
	require.Len(t, first, 1, "two rounds have one volume")
	t.Cleanup(func() { require.NoError(t, remove(e, first[0])) })
	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, docker.New().RemoveVolumes(t.Context(), dir), "of a directory that is not there")
	round()
	require.Len(t, of(t, e, name), 2)
	require.NoError(t, docker.New().RemoveVolumes(t.Context(), dir))
	require.Equal(t, first, of(t, e, name), "another directory's")
}

// TestUnnamedVolumes: what an image keeps in a volume of its own stays when the container is made anew, as with docker compose, and goes
// with the node.
func TestUnnamedVolumes(t *testing.T) {
	e := connected(t)
	name := unique()
	s := serving("a", "")
	s.Source, s.Scaled = dockerfile(t, "FROM scratch\nCOPY hostile /hostile\nVOLUME /state /named\nENTRYPOINT [\"/hostile\"]\n"), true
	s.Volumes = []cluster.Mount{{Kind: "tmpfs", Target: "/named/"}}
	c := up(t, name, s)
	mark := func(node string) string {
		var out bytes.Buffer
		x, err := c.Exec(t.Context(), node, cluster.Process{Argv: []string{"/hostile", "mark", "/state/file"}, Stdout: &out, Stderr: &out})
		require.NoError(t, err)
		_, err = x.Wait()
		require.NoError(t, err)
		return out.String()
	}
	require.NoError(t, c.Scale(t.Context(), "a", 2))
	require.Equal(t, "x", mark("a-1"))
	require.Equal(t, "x", mark("a-2"), "each has its own")
	require.NoError(t, c.Restart(t.Context(), "a-1", map[string]string{"MORE": "1"}))
	require.Equal(t, "xx", mark("a-1"))
	volumes := func() (n int) { return strings.Count(strings.Join(of(t, e, name), "\n"), "volume gauntlet-") }
	require.Equal(t, 2, volumes(), "with labels, so that clean finds them")
	require.NoError(t, c.Scale(t.Context(), "a", 1))
	require.Equal(t, 1, volumes())
	require.NoError(t, c.Scale(t.Context(), "a", 2))
	require.Equal(t, "x", mark("a-2"), "it is another node")
	left, err := c.Down(t.Context())
	require.NoError(t, err)
	require.Empty(t, left)
	require.Empty(t, of(t, e, name))
}

// remove removes a volume that was listed by of.
func remove(e *engine.Engine, listed string) error {
	_, err := e.API().VolumeRemove(context.Background(), strings.TrimPrefix(listed, "volume "), client.VolumeRemoveOptions{})
	return err
}
