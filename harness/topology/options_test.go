package topology

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/schema"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
)

const small = `
services:
  web:
    x-gauntlet: {go: "github.com/hasvc/gauntlet/hasvc@${VERSION:-v1.0.0}", group: front}
    command: [gateway]
  api:
    x-gauntlet: {go: github.com/hasvc/gauntlet/hasvc, group: front}
    environment: {HASVC_DEFECT: slow-start}
  db:
    x-gauntlet: {exec: db}
    command: [--bare]
    environment: [PASSED_ON]
`

func TestOptionEnv(t *testing.T) {
	f := write(t, small)
	s, err := Load(context.Background(), f, Option{Env: map[string]string{"VERSION": "v2.0.0", "PASSED_ON": "x"}})
	require.NoError(t, err)
	assert.Equal(t, "github.com/hasvc/gauntlet/hasvc@v2.0.0", find(t, s, "web").Source.Go)
	assert.Equal(t, map[string]string{"PASSED_ON": "x"}, find(t, s, "db").Env)

	// It wins over the environment, and that over the file .env.
	t.Setenv("VERSION", "v3.0.0")
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(f), ".env"), []byte("VERSION=v4.0.0\nPASSED_ON=from-file\n"), 0o644))
	s, err = Load(context.Background(), f, Option{})
	require.NoError(t, err)
	assert.Equal(t, "github.com/hasvc/gauntlet/hasvc@v3.0.0", find(t, s, "web").Source.Go)
	assert.Equal(t, map[string]string{"PASSED_ON": "from-file"}, find(t, s, "db").Env)

	_, err = Load(context.Background(), f, Option{Env: map[string]string{"VERSIONS": "v2.0.0"}})
	require.ErrorContains(t, err, "does not use it")
	require.ErrorContains(t, err, "did you mean VERSION?")
}

// A misspelt variable is found though services take theirs from other files as well, in which it may be asked for.
func TestOptionEnvInOtherFiles(t *testing.T) {
	f := write(t, `
services:
  web:
    extends: {file: base.yaml, service: web}
    env_file: [web.env, {path: absent.env, required: false}]
    environment: [BARE]
`)
	for name, text := range map[string]string{
		"base.yaml":      "services:\n  web:\n    extends: {file: more/base.yaml, service: web}\n    image: web:${TAG:-1}\n    environment: {BARE_BELOW: null}\n    env_file: base.env\n",
		"more/base.yaml": "services: {web: {command: ['${DEEP:-}']}}\n",
		"web.env":        "ADDRESS=http://${HOST:-x}\nINHERITED\n",
		"base.env":       "BELOW=$BELOW_FROM\n",
	} {
		file := filepath.Join(filepath.Dir(f), name)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	}
	set := map[string]string{}
	for _, name := range []string{"BARE", "TAG", "BARE_BELOW", "DEEP", "HOST", "INHERITED", "BELOW_FROM"} {
		set[name] = "changed"
	}
	s, err := Load(context.Background(), f, Option{Env: set})
	require.NoError(t, err)
	web := find(t, s, "web")
	assert.Equal(t, "web:changed", web.Source.Image)
	assert.Equal(t, []string{"changed"}, web.Command)
	assert.Equal(t, map[string]string{"BARE": "changed", "BARE_BELOW": "changed", "ADDRESS": "http://changed", "INHERITED": "changed", "BELOW": "changed"}, web.Env)

	_, err = Load(context.Background(), f, Option{Env: map[string]string{"TAGG": "x", "ADDRESS": "x"}})
	require.ErrorContains(t, err, "the variable TAGG was to be changed, but this file does not use it")
	require.ErrorContains(t, err, "did you mean TAG?")
	require.ErrorContains(t, err, "the variable ADDRESS was to be changed, but this file does not use it", "the file sets it")

	// What is in a file that only compose-go reads is not known.
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(f), "base.yaml"), []byte("services: {web: {image: web, ports: !reset [], environment: [BELOW]}}"), 0o644))
	s, err = Load(context.Background(), f, Option{Env: map[string]string{"BELOW": "changed"}})
	require.NoError(t, err)
	assert.Equal(t, "changed", find(t, s, "web").Env["BELOW"])
}

func TestOptionFlags(t *testing.T) {
	f := write(t, small)
	s, err := Load(context.Background(), f, Option{Flags: map[string][]string{"front": {"--fast"}, "db": {"--ack", "early"}}})
	require.NoError(t, err)
	assert.Equal(t, []string{"gateway", "--fast"}, find(t, s, "web").Command)
	assert.Equal(t, []string{"--fast"}, find(t, s, "api").Command)
	assert.Equal(t, []string{"--bare", "--ack", "early"}, find(t, s, "db").Command)

	// Of an image's command nothing is known: flags in its place would run something else.
	image := "services:\n  web: {image: a}\n  api: {build: .}\n  cmd: {image: a, command: [serve]}\n  entry: {image: a, entrypoint: [serve]}\n"
	for name, want := range map[string]string{"web": "topology.yaml:2:3: flags were to be added to the command of web", "api": "topology.yaml:3:3: flags were to be added to the command of api"} {
		_, err = Load(context.Background(), write(t, image), Option{Flags: map[string][]string{name: {"--fast"}}})
		require.ErrorContains(t, err, want)
	}
	s, err = Load(context.Background(), write(t, image), Option{Flags: map[string][]string{"cmd": {"--fast"}, "entry": {"--fast"}}})
	require.NoError(t, err)
	assert.Equal(t, []string{"serve", "--fast"}, find(t, s, "cmd").Command)
	assert.Equal(t, []string{"--fast"}, find(t, s, "entry").Command)

	_, err = Load(context.Background(), f, Option{Flags: map[string][]string{"frnt": {"--fast"}}})
	require.ErrorContains(t, err, "did you mean front?")
}

func TestOptionDefects(t *testing.T) {
	f := write(t, small)
	s, err := Load(context.Background(), f, Option{Defects: map[string][]string{"": {"no-drain", "ack-early"}}})
	require.NoError(t, err)
	assert.Equal(t, "no-drain,ack-early", find(t, s, "web").Env[DefectVariable])
	assert.Equal(t, "slow-start,no-drain,ack-early", find(t, s, "api").Env[DefectVariable])
	assert.NotContains(t, find(t, s, "db").Env, DefectVariable)

	s, err = Load(context.Background(), f, Option{Defects: map[string][]string{"web": {"no-drain"}}})
	require.NoError(t, err)
	assert.Equal(t, "no-drain", find(t, s, "web").Env[DefectVariable])
	assert.Equal(t, "slow-start", find(t, s, "api").Env[DefectVariable])

	_, err = Load(context.Background(), f, Option{Defects: map[string][]string{"wbe": {"no-drain"}}})
	require.ErrorContains(t, err, "did you mean web?")
	_, err = Load(context.Background(), write(t, "services: {a: {image: a}}"), Option{Defects: map[string][]string{"": {"no-drain"}}})
	require.ErrorContains(t, err, "no service runs hasvc")
}

func TestProfiles(t *testing.T) {
	f := write(t, "services: {a: {image: a}, b: {image: b, profiles: [extra]}}")
	s, err := Load(context.Background(), f, Option{})
	require.NoError(t, err)
	require.Len(t, s.Services, 1)
	for _, set := range []string{"other,extra", "other, extra", " extra , other"} {
		t.Setenv("COMPOSE_PROFILES", set)
		s, err = Load(context.Background(), f, Option{})
		require.NoError(t, err)
		require.Len(t, s.Services, 2, set)
	}
}

func TestUnsetVariableIsAWarning(t *testing.T) {
	s, err := Load(context.Background(), write(t, "services: {a: {image: a, command: ['${SURELY_NOT_SET}', '${NOR_THIS:-}', '${SURELY-}']}}"), Option{})
	require.NoError(t, err)
	require.Len(t, s.Warnings, 1)
	require.Contains(t, s.Warnings[0], "SURELY_NOT_SET is not set")
}

func TestNodeNames(t *testing.T) {
	s, err := Load(context.Background(), write(t, "services: {one: {image: a}, many: {image: a, deploy: {replicas: 2}}, none: {image: a, scale: 0}}"), Option{})
	require.NoError(t, err)
	assert.Equal(t, []string{"one"}, NodeNames(find(t, s, "one")))
	assert.Equal(t, []string{"many-1", "many-2"}, NodeNames(find(t, s, "many")))
	assert.Empty(t, NodeNames(find(t, s, "none")))
}

func TestFileThatIsNotThere(t *testing.T) {
	for _, path := range []string{filepath.Join(t.TempDir(), "absent.yaml"), t.TempDir(), "/dev/zero"} {
		_, err := Load(context.Background(), path, Option{})
		require.ErrorContains(t, err, "reading the topology")
	}
}

// Every key that Compose's schema has must have a row: one that compose-go learns must not pass in silence.
func TestEveryComposeKeyHasATreatment(t *testing.T) {
	var s struct {
		Properties map[string]any `json:"properties"`
		Defs       map[string]struct {
			Properties map[string]any `json:"properties"`
		} `json:"$defs"`
	}
	require.NoError(t, json.Unmarshal([]byte(schema.Schema), &s))
	if len(s.Defs) == 0 {
		var d struct {
			Defs json.RawMessage `json:"definitions"`
		}
		require.NoError(t, json.Unmarshal([]byte(schema.Schema), &d))
		require.NoError(t, json.Unmarshal(d.Defs, &s.Defs))
	}
	check := func(def, prefix string) {
		props := s.Properties
		if def != "" {
			props = s.Defs[def].Properties
		}
		require.NotEmpty(t, props, def)
		for name := range props {
			assert.Contains(t, keys, prefix+name)
		}
	}
	check("", "")
	for _, def := range []string{"service", "container_spec", "workload_spec"} {
		check(def, "services.*.")
	}
	build, _ := s.Defs["workload_spec"].Properties["build"].(map[string]any)
	forms, _ := build["oneOf"].([]any)
	require.Len(t, forms, 2, "a path or a mapping")
	ofBuild, _ := forms[1].(map[string]any)["properties"].(map[string]any)
	require.NotEmpty(t, ofBuild)
	for name := range ofBuild {
		assert.Contains(t, keys, "services.*.build."+name)
	}
	check("healthcheck", "services.*.healthcheck.")
	check("deployment", "services.*.deploy.")
	check("network", "networks.*.")
	check("volume", "volumes.*.")
	check("config", "configs.*.")
	check("secret", "secrets.*.")
	for _, k := range Keys() {
		if k.Treatment != Honoured {
			assert.NotEmpty(t, k.Why, k.Path)
		}
	}
}

// What ships beside the scenarios must load.
func TestShippedTopologies(t *testing.T) {
	files, err := filepath.Glob("../../scenarios/topologies/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".yaml"), func(t *testing.T) {
			s, err := Load(context.Background(), f, Option{})
			require.NoError(t, err)
			assert.Empty(t, s.Warnings)
			for _, svc := range s.Services {
				assert.True(t, svc.Source.Go != "" || svc.Source.Exec != "", "%s runs without an image", svc.Name)
			}
		})
	}
}

// FuzzLoad: whatever a file holds, Load ends, does not panic, and gives a Spec or an error with a text.
func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*.yaml", "testdata/bad/*.yaml"} {
		files, err := filepath.Glob(pattern)
		require.NoError(f, err)
		for _, name := range files {
			data, err := os.ReadFile(name)
			require.NoError(f, err)
			f.Add(data)
		}
	}
	f.Add([]byte("services: {a: {image: '${A:-${B:-${C}}}', ports: ['1-5:6-10/udp']}}"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := load(context.Background(), filepath.Join(dir, "fuzz.yaml"), data, Option{})
		if err == nil && (s == nil || len(s.Services) == 0 && len(s.Volumes) == 0 && s.Name == "") {
			t.Fatal("neither a topology nor an error")
		}
		if err != nil && strings.TrimSpace(err.Error()) == "" {
			t.Fatal("an error without a text")
		}
	})
}

func TestMetrics(t *testing.T) {
	const form = "services:\n  web:\n    x-gauntlet: {exec: web, metrics: %s}\n"
	for text, want := range map[string]cluster.Endpoint{
		`":8080/metrics"`: {Port: 8080, Path: "/metrics"}, `":9100/a/b"`: {Port: 9100, Path: "/a/b"}, `":1"`: {Port: 1, Path: "/metrics"},
	} {
		s, err := Load(context.Background(), write(t, fmt.Sprintf(form, text)), Option{})
		require.NoError(t, err, text)
		assert.Equal(t, &want, find(t, s, "web").Metrics)
	}
	for text, says := range map[string]string{
		`8080`: "is no address of a node", `"8080/metrics"`: "is no address of a node", `":0/metrics"`: "is no address of a node",
		`":65536"`: "is no address of a node", `":80/m?x=y"`: "is no address of a node", `"web:8080/metrics"`: "names a host", `""`: "must be a string", `[1]`: "must be a string",
	} {
		_, err := Load(context.Background(), write(t, fmt.Sprintf(form, text)), Option{})
		require.ErrorContains(t, err, says, text)
	}
	s, err := Load(context.Background(), write(t, small), Option{})
	require.NoError(t, err)
	assert.Nil(t, find(t, s, "web").Metrics)
}
