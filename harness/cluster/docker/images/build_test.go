package images

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// contextWith is a directory with these files and the program inside.
func contextWith(t *testing.T, files map[string]string) string {
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
	}
	return dir
}

func TestBuild(t *testing.T) {
	api := engine(t)
	store := New(api)
	dir := contextWith(t, map[string]string{
		"Dockerfile": "FROM scratch AS one\nCOPY inside /inside\nCOPY data /data/\nARG WORD\nENV WORD=$WORD\nENTRYPOINT [\"/inside\"]\n" +
			"FROM one AS two\nLABEL stage=two\n",
		".dockerignore": "data/*\n!data/kept\nDockerfile\n",
		"data/kept":     fmt.Sprint("kept ", os.Getpid(), time.Now().UnixNano()),
		"data/secret":   "secret",
	})
	exe, err := os.ReadFile(program(t, "inside"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "inside"), exe, 0o755))
	b := cluster.Build{Context: dir, Target: "one", Args: map[string]string{"WORD": "hello"}}
	id, err := store.Build(t.Context(), b)
	require.NoError(t, err)
	forget(t, api, id)
	assert.Contains(t, run(t, api, id, nil, nil, nil, "/data/kept"), `read "kept `)
	assert.Contains(t, run(t, api, id, nil, nil, nil, "/data/secret"), "no such file")
	got, err := api.ImageInspect(t.Context(), id)
	require.NoError(t, err)
	assert.Contains(t, got.Config.Env, "WORD=hello")
	assert.Equal(t, "1", got.Config.Labels[Label])
	assert.NotContains(t, got.Config.Labels, "stage")

	now := time.Now().Add(time.Hour)
	require.NoError(t, os.Chtimes(filepath.Join(dir, "inside"), now, now))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "data/secret"), []byte("another"), 0o644))
	began := time.Now()
	again, err := store.Build(t.Context(), b)
	require.NoError(t, err)
	t.Log("found again in", time.Since(began))
	assert.Equal(t, id, again, "neither times nor what is ignored matters")

	b.Target = "two"
	two, err := store.Build(t.Context(), b)
	require.NoError(t, err)
	forget(t, api, two)
	assert.NotEqual(t, id, two)
	b.Target = "one"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "data/kept"), []byte("changed"), 0o644))
	changed, err := store.Build(t.Context(), b)
	require.NoError(t, err)
	forget(t, api, changed)
	assert.Contains(t, run(t, api, changed, nil, nil, nil, "/data/kept"), `read "changed"`)
}

func TestBuildFails(t *testing.T) {
	api := engine(t)
	store := New(api)
	label := fmt.Sprint("dev.gauntlet.test=", os.Getpid())
	t.Cleanup(func() { // a build that fails leaves the engine's cache of its first steps
		list, err := api.ImageList(context.Background(), client.ImageListOptions{Filters: make(client.Filters).Add("label", label)})
		assert.NoError(t, err)
		for _, i := range list.Items {
			forget(t, api, i.ID)
		}
	})
	dir := contextWith(t, map[string]string{"Dockerfile": "FROM scratch\nLABEL " + label + "\nCOPY nothing /\n"})
	_, err := store.Build(t.Context(), cluster.Build{Context: dir})
	var failed *BuildError
	require.ErrorAs(t, err, &failed)
	assert.Contains(t, failed.Output, "LABEL "+label)
	assert.ErrorContains(t, failed.Err, "nothing")
	assert.ErrorContains(t, err, dir)

	_, err = store.Build(t.Context(), cluster.Build{Context: filepath.Join(dir, "none")})
	assert.ErrorIs(t, err, os.ErrNotExist)
	_, err = store.Build(t.Context(), cluster.Build{Context: dir, Dockerfile: "Otherfile"})
	assert.ErrorIs(t, err, os.ErrNotExist)

	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	_, err = store.Build(ctx, cluster.Build{Context: dir})
	assert.ErrorIs(t, err, why)
}

// TestContext: what the builder is sent.
func TestContext(t *testing.T) {
	files := map[string]string{"a/Dockerfile": "FROM scratch\n", "b/c/file": "x", "b/d": "y", "log/1": "", "log/keep/2": ""}
	names := func(files map[string]string, b cluster.Build) []string {
		dir := contextWith(t, files)
		b.Context = filepath.Join(dir, b.Context)
		c, err := newBuildContext(b)
		require.NoError(t, err)
		var out bytes.Buffer
		require.NoError(t, c.write(t.Context(), &out))
		var names []string
		for r := tar.NewReader(&out); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				return names
			}
			require.NoError(t, err)
			names = append(names, h.Name)
		}
	}
	with := func(name, content string) map[string]string {
		all := map[string]string{name: content}
		for k, v := range files {
			all[k] = v
		}
		return all
	}
	assert.Equal(t, []string{"a/", "a/Dockerfile", "b/", "b/c/", "b/c/file", "b/d", "log/", "log/1", "log/keep/", "log/keep/2"},
		names(files, cluster.Build{Dockerfile: "a/Dockerfile"}))
	assert.Equal(t, []string{".dockerignore", "a/Dockerfile", "b/", "b/d"},
		names(with(".dockerignore", "a\n**/c\nlog\n"), cluster.Build{Dockerfile: "a/Dockerfile"}))
	assert.Equal(t, []string{".dockerignore", "a/", "a/Dockerfile", "log/keep/2"},
		names(with(".dockerignore", "b\nlog/*\nlog\n!log/keep/2\n"), cluster.Build{Dockerfile: "a/Dockerfile"}))
	assert.Equal(t, []string{"a/", "a/Dockerfile", "a/Dockerfile.dockerignore"},
		names(with("a/Dockerfile.dockerignore", "b\nlog\n"), cluster.Build{Dockerfile: "a/Dockerfile"}))
	assert.Equal(t, []string{outside, "c/", "c/file", "d"},
		names(files, cluster.Build{Context: "b", Dockerfile: "../a/Dockerfile"}))
}
