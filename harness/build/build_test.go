package build

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// helloModule is a copy of the module in testdata that a test may change, with a Compose file's path in it.
func helloModule(t *testing.T) (dir, file string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "hello")
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/hello")))
	return dir, filepath.Join(dir, "topology.yaml")
}

func spec(file string, sources ...cluster.Source) *cluster.Spec {
	s := &cluster.Spec{File: file}
	for i, src := range sources {
		s.Services = append(s.Services, cluster.Service{Name: string(rune('a' + i)), Source: src})
	}
	return s
}

func output(t *testing.T, program string) string {
	t.Helper()
	out, err := exec.Command(program).CombinedOutput()
	require.NoError(t, err, string(out))
	return strings.TrimSpace(string(out))
}

func TestPackageAtHand(t *testing.T) {
	dir, file := helloModule(t)
	b := &Builder{Cache: t.TempDir()}
	var told []string
	build := func() string {
		s := spec(file, cluster.Source{Go: "example.org/hello"}, cluster.Source{Go: "."}, cluster.Source{Image: "x"})
		bin, err := b.Build(context.Background(), s, nil, dir, func(m string) { told = append(told, m) })
		require.NoError(t, err)
		require.Equal(t, s.Services[0].Argv0, s.Services[1].Argv0, "the same program, by two names")
		require.Empty(t, s.Services[2].Argv0, "an image is the driver's business")
		require.Equal(t, map[string]string{"hello": s.Services[0].Argv0}, bin)
		return s.Services[0].Argv0
	}
	first := build()
	require.Equal(t, "hello", output(t, first))
	require.NotEmpty(t, told)

	told = nil
	require.Equal(t, first, build(), "nothing changed")
	require.Empty(t, told)

	// A change in another package of the module is noticed, and does not change what a run that goes on starts again.
	word := filepath.Join(dir, "word", "word.go")
	text, err := os.ReadFile(word)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(word, []byte(strings.ReplaceAll(string(text), `"hello"`, `"changed"`)), 0o644))
	second := build()
	require.NotEqual(t, first, second)
	require.Equal(t, "changed", output(t, second))
	require.Equal(t, "hello", output(t, first))

	require.NoError(t, os.WriteFile(word, text, 0o644))
	require.Equal(t, first, build(), "the same content, the same place")
}

// The go command keeps a test's PASS for as long as nothing changes that the test opened itself. The compiler, which reads a program's
// sources, is another process.
func TestAGoTestSeesTheSourcesOfWhatItBuilds(t *testing.T) {
	if file := os.Getenv("TEST_BUILDS"); file != "" {
		_, err := new(Builder).Build(t.Context(), spec(file, cluster.Source{Go: "."}), nil, filepath.Dir(file), nil)
		require.NoError(t, err)
		return
	}
	dir, file := helloModule(t)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "word", "texts"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "word", "texts", "a.txt"), nil, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "word", "embed.go"), []byte("package word\n\nimport _ \"embed\"\n\n//go:embed texts/a.txt\nvar A string\n"), 0o644))
	log := filepath.Join(t.TempDir(), "log")
	c := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.testlogfile="+log) // as the go command asks what was opened
	c.Env = append(os.Environ(), "TEST_BUILDS="+file, CacheVariable+"="+t.TempDir())
	out, err := c.CombinedOutput()
	require.NoError(t, err, string(out))
	text, err := os.ReadFile(log)
	require.NoError(t, err)
	opened := strings.Split(string(text), "\n")
	for _, name := range []string{"", "main.go", "go.mod", "word", "word/word.go", "word/embed.go", "word/texts/a.txt"} {
		assert.Contains(t, opened, "open "+filepath.Join(dir, name))
	}
}

func TestHalfAnOutputIsNotKept(t *testing.T) {
	_, file := helloModule(t)
	cache := t.TempDir()
	b := &Builder{Cache: cache}
	s := spec(file, cluster.Source{Go: "example.org/hello"})
	_, err := b.Build(context.Background(), s, nil, ".", nil)
	require.NoError(t, err)
	whole := s.Services[0].Argv0
	stages, err := filepath.Glob(filepath.Join(cache, "local", "*", "hello"))
	require.NoError(t, err)
	require.Len(t, stages, 1)
	// What an interruption leaves: the mark is taken before the go command starts, and the output is cut off.
	require.NoError(t, os.Remove(filepath.Join(filepath.Dir(stages[0]), "whole")))
	st, err := os.Stat(stages[0])
	require.NoError(t, err)
	require.NoError(t, os.Truncate(stages[0], st.Size()/2))
	_, err = b.Build(context.Background(), s, nil, ".", nil)
	require.NoError(t, err)
	require.Equal(t, whole, s.Services[0].Argv0)
	require.Equal(t, "hello", output(t, s.Services[0].Argv0))
}

func TestSeveralBuildersAtOnce(t *testing.T) {
	_, file := helloModule(t)
	cache := t.TempDir()
	var wg sync.WaitGroup
	paths, errs := make([]string, 4), make([]error, 4)
	for i := range paths {
		wg.Go(func() {
			b := &Builder{Cache: cache} // locks are of an open file: builders in one process are like processes
			s := spec(file, cluster.Source{Go: "example.org/hello"})
			_, errs[i] = b.Build(context.Background(), s, nil, ".", nil)
			paths[i] = s.Services[0].Argv0
		})
	}
	wg.Wait()
	for i := range paths {
		require.NoError(t, errs[i])
		require.Equal(t, paths[0], paths[i])
	}
	require.Equal(t, "hello", output(t, paths[0]))
}

func TestProgramsOfAScenario(t *testing.T) {
	dir, _ := helloModule(t)
	script := filepath.Join(dir, "bin", "ctl")
	require.NoError(t, os.MkdirAll(filepath.Dir(script), 0o755))
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\necho ctl\n"), 0o755))
	b := &Builder{Cache: t.TempDir()}
	bin, err := b.Build(context.Background(), spec(filepath.Join(t.TempDir(), "elsewhere.yaml")), []plan.Program{
		{Name: "say", Go: "../hello"}, {Name: "ctl", Exec: "./bin/ctl"}, {Name: "shell", Exec: "sh"},
	}, dir, nil)
	require.NoError(t, err)
	require.Equal(t, "hello", output(t, bin["say"]))
	require.Equal(t, "ctl", output(t, bin["ctl"]))
	require.True(t, filepath.IsAbs(bin["shell"]))
}

// Each must fail with a text that says what to do, all at once.
func TestErrorsComeAtOnce(t *testing.T) {
	dir, file := helloModule(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "plain"), []byte("x"), 0o644))
	cases := []struct {
		source cluster.Source
		want   string
	}{
		{cluster.Source{Go: "./broken"}, "undefined: undefinedThing"},
		{cluster.Source{Go: "./absent"}, "no such file or directory"},
		{cluster.Source{Go: "./main.go"}, "no directory"},
		{cluster.Source{Go: "example.org/hello/word"}, "no program"},
		{cluster.Source{Go: "example.org/hello/absent"}, "no required module provides package"},
		{cluster.Source{Go: "example.net/nowhere"}, "write example.net/nowhere@VERSION"},
		{cluster.Source{Go: "example.net/nowhere@latest"}, "no exact version"},
		{cluster.Source{Go: "example.net/nowhere@master"}, "no exact version"},
		{cluster.Source{Exec: "surely-not-installed"}, "not found on PATH"},
		{cluster.Source{Exec: "plain"}, "./plain"},
		{cluster.Source{Exec: "./plain"}, "chmod +x"},
		{cluster.Source{Exec: "./word"}, "is a directory"},
		{cluster.Source{Exec: "./absent"}, "does not exist"},
		{cluster.Source{Exec: "/dev/null"}, "no regular file"},
	}
	s := spec(file)
	for _, c := range cases {
		s.Services = append(s.Services, cluster.Service{Name: c.source.Go + c.source.Exec, Source: c.source})
	}
	bin, err := (&Builder{Cache: t.TempDir()}).Build(context.Background(), s, nil, dir, nil)
	require.Nil(t, bin)
	require.Error(t, err)
	for _, one := range err.(interface{ Unwrap() []error }).Unwrap() {
		var e *Error
		require.ErrorAs(t, one, &e)
		found := false
		for _, c := range cases {
			if e.Program == (&source{goPkg: c.source.Go, exec: c.source.Exec}).program() {
				found = true
				assert.Contains(t, one.Error(), c.want)
			}
		}
		assert.True(t, found, e.Program)
	}
	assert.Len(t, err.(interface{ Unwrap() []error }).Unwrap(), len(cases))
}

func TestNoHome(t *testing.T) {
	t.Setenv(CacheVariable, "")
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", "")
	_, err := (&Builder{}).Build(context.Background(), spec("x.yaml", cluster.Source{Go: "."}), nil, ".", nil)
	require.ErrorContains(t, err, "set GAUNTLET_CACHE")
}

func TestNoGoCommand(t *testing.T) {
	_, file := helloModule(t)
	_, err := (&Builder{Cache: t.TempDir(), Go: "no-such-go"}).Build(context.Background(), spec(file, cluster.Source{Go: "."}), nil, ".", nil)
	require.ErrorContains(t, err, "install Go")
}

func TestCancelled(t *testing.T) {
	_, file := helloModule(t)
	cache := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	// Cancelled at the moment the go command is about to start.
	_, err := (&Builder{Cache: cache}).Build(ctx, spec(file, cluster.Source{Go: "."}), nil, ".", func(string) { cancel() })
	require.ErrorIs(t, err, context.Canceled)
	s := spec(file, cluster.Source{Go: "."})
	_, err = (&Builder{Cache: cache}).Build(context.Background(), s, nil, ".", nil)
	require.NoError(t, err)
	require.Equal(t, "hello", output(t, s.Services[0].Argv0))
}

func TestWaitForALockEndsWithTheContext(t *testing.T) {
	cache := t.TempDir()
	release, err := lock(context.Background(), cache, "k", func() {})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	_, err = lock(ctx, cache, "k", cancel)
	require.ErrorIs(t, err, context.Canceled)
	release()
	again, err := lock(context.Background(), cache, "k", func() { t.Error("the lock was not given back") })
	require.NoError(t, err)
	again()
}

// A published program, from the module proxy: small, and without anything else.
func TestPublishedProgram(t *testing.T) {
	const hello = "golang.org/x/example/hello@v0.0.0-20250915201037-7f05d217867b"
	cache := t.TempDir()
	var told []string
	build := func(ctx context.Context) (string, error) {
		s := spec("nowhere.yaml", cluster.Source{Go: hello})
		_, err := (&Builder{Cache: cache}).Build(ctx, s, nil, ".", func(m string) { told = append(told, m) })
		return s.Services[0].Argv0, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := build(ctx)
	require.ErrorIs(t, err, context.Canceled)
	results, err := filepath.Glob(filepath.Join(cache, "go", "*"))
	require.NoError(t, err)
	require.Empty(t, results, "an interrupted build leaves nothing")

	path, err := build(context.Background())
	require.NoError(t, err)
	require.Equal(t, "Hello, world!", output(t, path))
	require.NotEmpty(t, told)
	told = nil
	again, err := build(context.Background())
	require.NoError(t, err)
	require.Equal(t, path, again)
	require.Empty(t, told, "it is not built twice")
	results, err = filepath.Glob(filepath.Join(cache, "go", "*"))
	require.NoError(t, err)
	require.Len(t, results, 1, "nothing but the result is left")
}

// A module that requires another one by a directory builds that one's programs: so a user's tests find the reference service.
func TestProgramOfARequiredModule(t *testing.T) {
	hello, _ := helloModule(t)
	user := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(user, "go.mod"), []byte("module example.org/user\n\ngo 1.21\n\nrequire example.org/hello v0.0.0\n\nreplace example.org/hello => "+hello+"\n"), 0o644))
	s := spec(filepath.Join(user, "topology.yaml"), cluster.Source{Go: "example.org/hello"})
	_, err := (&Builder{Cache: t.TempDir()}).Build(context.Background(), s, nil, user, nil)
	require.NoError(t, err)
	require.Equal(t, "hello", output(t, s.Services[0].Argv0))
}

func TestBinaryName(t *testing.T) {
	for pkg, want := range map[string]string{
		"go.etcd.io/etcd/server/v3": "server", "example.org/x/cmd/tool": "tool", "example.org/v2ray": "v2ray", "hello": "hello",
	} {
		assert.Equal(t, want, binaryName(pkg), pkg)
	}
}
