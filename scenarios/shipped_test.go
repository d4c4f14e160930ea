package scenarios

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/plan"
)

func TestShipped(t *testing.T) {
	es := Shipped()
	require.NotEmpty(t, es)
	for _, e := range es {
		require.NotEmpty(t, e.Summary, e.Name)
		f, err := Parse(e.File, must(os.ReadFile(e.File)), realTables())
		require.NoError(t, err)
		require.Equal(t, e.Name, f.Name, "a shipped scenario is called like its file: the command line finds it by that name")
		_, err = os.Stat(f.TopologyPath())
		require.NoError(t, err)
	}
}

// TestShippedAreShort: a shipped scenario takes 15 s by its plan, which is what one waits for.
func TestShippedAreShort(t *testing.T) {
	for _, e := range Shipped() {
		p := loaded(t, e.File, 1)
		begin, end := map[string]time.Duration{}, map[string]time.Duration{}
		var longest time.Duration
		for _, f := range p.Rounds[0].Faults { // each after those that it waits for, as they are written
			require.Nil(t, f.At.When, "%s: when it begins is not known", f.ID)
			at := f.At.Offset.D() + f.At.Plus.D()
			if a := f.At.After; a != nil {
				require.Contains(t, begin, a.Fault, e.Name)
				at += begin[a.Fault]
				if a.Event == plan.Undone || a.Event == plan.Gone {
					at += end[a.Fault] - begin[a.Fault]
				}
			}
			last := f.Occurrences[len(f.Occurrences)-1]
			begin[f.ID], end[f.ID] = at, at+last.Offset.D()+last.For.D()
			longest = max(longest, end[f.ID])
		}
		took := p.Baseline.AtLeast.D() + longest + p.Recovery.D()
		require.LessOrEqual(t, took, 15*time.Second, e.Name)
		require.GreaterOrEqual(t, took, 4*time.Second, e.Name)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestFind(t *testing.T) {
	name := Shipped()[0].Name
	t.Run("a name, in the repository", func(t *testing.T) {
		got, err := Find(name)
		require.NoError(t, err)
		require.Equal(t, []string{name + ".yaml"}, got, "relative to the current directory")
	})
	t.Run("a name, elsewhere", func(t *testing.T) {
		t.Chdir(t.TempDir())
		t.Setenv("XDG_CACHE_HOME", t.TempDir())
		for range 2 { // the second finds what the first one wrote
			got, err := Find(name)
			require.NoError(t, err)
			require.Len(t, got, 1)
			f, err := Parse(got[0], must(os.ReadFile(got[0])), realTables())
			require.NoError(t, err)
			_, err = os.Stat(f.TopologyPath())
			require.NoError(t, err)
		}
		left, err := filepath.Glob(filepath.Join(os.Getenv("XDG_CACHE_HOME"), "gauntlet", "*", ".new-*"))
		require.NoError(t, err)
		require.Empty(t, left)
	})
	t.Run("a name close by", func(t *testing.T) {
		_, err := Find("no-fautl")
		require.ErrorContains(t, err, `did you mean "no-fault"?`)
	})
	t.Run("a file", func(t *testing.T) {
		got, err := Find("testdata/formats.yaml")
		require.NoError(t, err)
		require.Equal(t, []string{"testdata/formats.yaml"}, got)
	})
	t.Run("a directory", func(t *testing.T) {
		got, err := Find("testdata")
		require.NoError(t, err)
		require.Equal(t, []string{"testdata/formats.yaml", "testdata/store-leader-kill.yaml"}, got, "mydb.yaml is a topology")
		_, err = Find("topologies")
		require.ErrorContains(t, err, "has no scenarios")
	})
	t.Run("a directory with files that are no whole scenario", func(t *testing.T) {
		dir := t.TempDir()
		for name, src := range map[string]string{
			"good.yaml":          "version: 1\ntopology: compose.yaml\n",
			"topolgy.yaml":       "version: 1\ntopolgy: compose.yaml\n",
			"no-topology.yaml":   "version: 1\n",
			"verison.yaml":       "verison: 1\ntopology: compose.yaml\n",
			"both.yaml":          "verison: 1\ntopolgy: compose.yaml\nassert: []\n",
			"torn.yaml":          "version: [\n",
			"compose.yaml":       "name: x\nservices: {}\n",
			"compose-old.yaml":   "version: '3'\nservices: {}\n",
			"compose-nets.yaml":  "networks: {}\n",
			"workflow.yaml":      "name: ci\non: push\njobs: {}\n",
			"openapi.yaml":       "openapi: 3.1.0\ninfo: {version: 1}\ntags: []\n",
			"list.yaml":          "- version: 1\n",
			"good.yaml.disabled": "version: 1\ntopology: compose.yaml\n",
		} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(src), 0o644))
		}
		got, err := Find(dir)
		require.NoError(t, err)
		for i := range got {
			got[i] = filepath.Base(got[i])
		}
		require.Equal(t, []string{"both.yaml", "good.yaml", "no-topology.yaml", "topolgy.yaml", "torn.yaml", "verison.yaml"}, got,
			"what is wrong with a scenario is told when it is loaded")
	})
	t.Run("a directory with the name of a scenario", func(t *testing.T) {
		t.Chdir(t.TempDir())
		t.Setenv("XDG_CACHE_HOME", t.TempDir())
		require.NoError(t, os.Mkdir(name, 0o755))
		got, err := Find(name)
		require.NoError(t, err)
		require.Equal(t, name+".yaml", filepath.Base(got[0]))
		_, err = Find("./" + name)
		require.ErrorContains(t, err, "has no scenarios")
	})
}

// The reference service has its own list, which this package must not import.
func TestDefectsAreTheServices(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../hasvc/internal/defect/table.go", nil, 0)
	require.NoError(t, err)
	var theirs []string
	ast.Inspect(file, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := v.Type.(*ast.Ident); !ok || id.Name != "Name" {
			return true
		}
		for _, x := range v.Values {
			s, err := strconv.Unquote(x.(*ast.BasicLit).Value)
			require.NoError(t, err)
			theirs = append(theirs, s)
		}
		return true
	})
	require.NotEmpty(t, theirs)
	require.ElementsMatch(t, theirs, Defects)
	require.Len(t, slices.Compact(slices.Sorted(slices.Values(Defects))), len(Defects))
}
