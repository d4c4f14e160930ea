package topology

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err, "run the test with -update to make it")
	assert.Equal(t, string(want), got)
}

func TestGoodFiles(t *testing.T) {
	t.Setenv("FROM_OUTSIDE", "outside")
	files, err := filepath.Glob("testdata/good/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	here, err := filepath.Abs("testdata/good")
	require.NoError(t, err)
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			spec, err := Load(context.Background(), f, Option{})
			require.NoError(t, err)
			j, err := json.MarshalIndent(spec, "", "  ")
			require.NoError(t, err)
			golden(t, strings.TrimSuffix(f, ".yaml")+".json", strings.ReplaceAll(string(j), here, "HERE")+"\n")
		})
	}
}

// Every file of testdata/bad must be refused, with the text beside it.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	here, err := filepath.Abs("testdata/bad")
	require.NoError(t, err)
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			spec, err := Load(context.Background(), f, Option{})
			require.Error(t, err)
			require.Nil(t, spec)
			var es Errors
			require.ErrorAs(t, err, &es, "an error in the file is of type Errors")
			for _, e := range es {
				assert.NotContains(t, e.Msg, "compose-go cannot read")
			}
			golden(t, strings.TrimSuffix(f, ".yaml")+".txt", strings.ReplaceAll(err.Error(), here, "HERE")+"\n")
		})
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	f := filepath.Join(t.TempDir(), "topology.yaml")
	require.NoError(t, os.WriteFile(f, []byte(text), 0o644))
	return f
}

func find(t *testing.T, s *cluster.Spec, name string) cluster.Service {
	t.Helper()
	for _, x := range s.Services {
		if x.Name == name {
			return x
		}
	}
	t.Fatalf("no service %s", name)
	return cluster.Service{}
}
