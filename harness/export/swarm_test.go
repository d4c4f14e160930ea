package export

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"text/template"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/topology"
)

var update = flag.Bool("update", false, "write the golden files")

// golden are the topologies and the stacks that they make.
var golden = map[string]string{
	"testdata/full.yaml":                        "testdata/full.stack.yaml",
	"../../scenarios/topologies/reference.yaml": "testdata/reference.stack.yaml",
}

func TestSwarm(t *testing.T) {
	t.Setenv("STORE_VERSION", "") // the reference topology's own
	for file, want := range golden {
		t.Run(filepath.Base(file), func(t *testing.T) {
			var out bytes.Buffer
			require.NoError(t, Swarm(t.Context(), file, &out))
			for range 3 {
				var again bytes.Buffer
				require.NoError(t, Swarm(t.Context(), file, &again))
				require.Equal(t, out.String(), again.String(), "the same file gives the same bytes")
			}
			if *update {
				require.NoError(t, os.WriteFile(want, out.Bytes(), 0o644))
			}
			golden, err := os.ReadFile(want)
			require.NoError(t, err)
			assert.Equal(t, string(golden), out.String(), "after a wanted change: go test ./harness/export -update")
		})
	}
}

// TestStackConfig has docker read the stacks, and compares what it understood with the topology.
func TestStackConfig(t *testing.T) {
	if err := exec.Command("docker", "stack", "config", "--help").Run(); err != nil {
		t.Skip("there is no docker stack config: ", err)
	}
	t.Setenv("STORE_VERSION", "")
	for file, stack := range golden {
		t.Run(filepath.Base(file), func(t *testing.T) {
			var said bytes.Buffer
			cmd := exec.Command("docker", "stack", "config", "-c", stack)
			cmd.Stderr = &said
			out, err := cmd.Output()
			require.NoError(t, err, said.String())
			assert.Empty(t, said.String(), "nothing of it is ignored")
			var understood struct {
				Services map[string]struct {
					Environment map[string]string
					Deploy      struct{ Replicas int }
				}
			}
			require.NoError(t, yaml.Unmarshal(out, &understood))
			spec, err := topology.Load(t.Context(), file, topology.Option{})
			require.NoError(t, err)
			require.Len(t, understood.Services, len(spec.Services))
			for _, s := range spec.Services {
				env := understood.Services[s.Name].Environment
				for k, v := range env { // its answer is escaped as a stack is
					env[k] = expanded(t, strings.ReplaceAll(v, "$$", "$"))
				}
				want := s.Env
				if len(want) == 0 {
					want = nil
				}
				assert.Equal(t, want, env, s.Name)
				if s.Scaled {
					assert.Equal(t, s.Replicas, understood.Services[s.Name].Deploy.Replicas, s.Name)
				}
			}
		})
	}
}

// expanded is what Swarm makes of a value.
func expanded(t *testing.T, value string) string {
	t.Helper()
	tmpl, err := template.New("").Parse(value)
	require.NoError(t, err, value)
	var out strings.Builder
	require.NoError(t, tmpl.Execute(&out, nil), value)
	return out.String()
}

func TestLiteral(t *testing.T) {
	for _, s := range []string{"", "plain }}", "{{", "{{{", "{{{{", "{ {", "a{{.Service.Name}}b", "x {{- y -}} z", `{{"{{"}}`, "{{/* c */}}"} {
		assert.Equal(t, s, expanded(t, literal(s)))
	}
}

func TestNoWord(t *testing.T) {
	var out bytes.Buffer
	err := Swarm(t.Context(), "testdata/bad.yaml", &out)
	require.Error(t, err)
	assert.Empty(t, out.String())
	for _, want := range []string{
		"testdata/bad.yaml:3: services.job.build has no word in a stack: Swarm does not build; name the image",
		"testdata/bad.yaml:5: services.web.command has no word in a stack",
		"testdata/bad.yaml:5: services.web.ports has no word in a stack: Swarm publishes on every address, not on 127.0.0.1 alone",
		"testdata/bad.yaml:5: services.web.depends_on.job has no word in a stack: Swarm waits for no service to end",
		"testdata/bad.yaml:5: services.web.cpu_shares has no word in a stack",
		"testdata/bad.yaml: configs.inline has no word in a stack: its content must come from a file",
	} {
		assert.ErrorContains(t, err, want)
	}

	assert.ErrorIs(t, Swarm(t.Context(), "testdata/none.yaml", &out), os.ErrNotExist)
}

// TestDotEnv: the stack is of the variables and profiles that the topology is of.
func TestDotEnv(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "compose.yaml")
	require.NoError(t, os.WriteFile(file, []byte("services:\n  web: {image: 'web:${TAG:-none}'}\n  extra: {image: extra, profiles: [more], tmpfs: [/run]}\n"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".env"), []byte("TAG=from-file\nCOMPOSE_PROFILES=other, more\n"), 0o644))
	t.Setenv("COMPOSE_DISABLE_ENV_FILE", "true") // which a run does not know either
	var out bytes.Buffer
	require.NoError(t, Swarm(t.Context(), file, &out))
	assert.Contains(t, out.String(), "image: web:from-file\n")
	assert.Contains(t, out.String(), "image: extra\n")
	assert.Contains(t, out.String(), "target: /run\n")

	t.Setenv("TAG", "from-outside")
	out.Reset()
	require.NoError(t, Swarm(t.Context(), file, &out))
	assert.Contains(t, out.String(), "image: web:from-outside\n", "over the file")
}

func TestAServiceThatTheProjectHasNot(t *testing.T) {
	s := &swarm{spec: &cluster.Spec{File: "f.yaml", Services: []cluster.Service{{Name: "web", Line: 3, Volumes: []cluster.Mount{{Kind: "tmpfs", Target: "/run"}}}}}, project: &types.Project{}}
	s.stack()
	require.Len(t, s.errs, 1)
	assert.ErrorContains(t, s.errs[0], "f.yaml:3: services.web is in the topology and not in the Compose project")
}
