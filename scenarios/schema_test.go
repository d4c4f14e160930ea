package scenarios

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	schema "github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/assertions"
	"github.com/hasvc/gauntlet/faults"
)

// realTables are those of the program; the stand-ins of fake_test.go test the format apart from them.
func realTables() Tables {
	return Tables{Faults: faults.Table, Assertions: assertions.Table, Defects: Defects}
}

// everyScenario is every scenario file of the repository.
func everyScenario(t *testing.T) []string {
	t.Helper()
	var all []string
	dirs, err := filepath.Glob("../examples/*")
	require.NoError(t, err)
	for _, dir := range append(dirs, ".", "testdata") {
		if files, err := inDirectory(dir); err == nil { // an example may have none
			all = append(all, files...)
		}
	}
	require.Greater(t, len(all), 6)
	return all
}

var update = flag.Bool("update", false, "write generated files")

func TestSchemaIsCurrent(t *testing.T) {
	want, err := Schema(realTables())
	require.NoError(t, err)
	if *update {
		require.NoError(t, os.WriteFile("scenario.schema.json", want, 0o644))
	}
	got, err := os.ReadFile("scenario.schema.json")
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got), "scenario.schema.json is not what the types say; run go generate ./scenarios")
}

// compiled is the schema of the tables in use.
func compiled(t *testing.T, tables Tables) *schema.Schema {
	t.Helper()
	src, err := Schema(tables)
	require.NoError(t, err)
	doc, err := schema.UnmarshalJSON(bytes.NewReader(src))
	require.NoError(t, err)
	c := schema.NewCompiler()
	require.NoError(t, c.AddResource(SchemaID, doc))
	s, err := c.Compile(SchemaID)
	require.NoError(t, err)
	return s
}

// asJSON reads a scenario as an editor does: as YAML, without any of this package's types.
func asJSON(t *testing.T, file string) any {
	t.Helper()
	src, err := os.ReadFile(file)
	require.NoError(t, err)
	d := newDocument(file, src)
	root := readYAML(d, src)
	require.NoError(t, d.err())
	dec := json.NewDecoder(bytes.NewReader(root.json()))
	dec.UseNumber()
	var v any
	require.NoError(t, dec.Decode(&v))
	return v
}

func TestFilesMatchTheSchema(t *testing.T) {
	s := compiled(t, realTables())
	for _, file := range everyScenario(t) {
		require.NoError(t, s.Validate(asJSON(t, file)), file)
	}
}

func TestSchemaRefuses(t *testing.T) {
	s := compiled(t, realTables())
	base := func() map[string]any {
		return map[string]any{"version": json.Number("1"), "topology": "t.yaml"}
	}
	require.NoError(t, s.Validate(base()))
	for name, change := range map[string]func(map[string]any){
		"an unknown key":          func(m map[string]any) { m["topologie"] = "x" },
		"no version":              func(m map[string]any) { delete(m, "version") },
		"a baseline without unit": func(m map[string]any) { m["baseline"] = json.Number("3") },
		"two kinds in one fault": func(m map[string]any) {
			m["faults"] = []any{map[string]any{"id": "a", "kill": map[string]any{"node": "n"}, "pause": map[string]any{"node": "n"}}}
		},
		"an unknown fault": func(m map[string]any) {
			m["faults"] = []any{map[string]any{"id": "a", "kil": map[string]any{"node": "n"}}}
		},
		"an unknown parameter": func(m map[string]any) {
			m["faults"] = []any{map[string]any{"id": "a", "kill": map[string]any{"nod": "n"}}}
		},
		"a bound without operator": func(m map[string]any) {
			m["abort"] = []any{map[string]any{"slo": map[string]any{"load": "l", "success": "10%", "for": "5s"}}}
		},
	} {
		m := base()
		change(m)
		require.Error(t, s.Validate(m), name)
	}
}
