package harness_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/hasvc/gauntlet"

// allowed is the import graph: what each package may import of this module, tests apart. A package that is not listed may import nothing
// of it.
var allowed = map[string][]string{
	"":                                      {"cli"},
	"cli":                                   {"harness", "harness/...", "scenarios", "assertions", "reports", "faults"},
	"harness":                               {"harness/...", "scenarios", "assertions", "reports", "faults"},
	"harness/plan":                          {},
	"harness/cluster":                       {"harness/plan"},
	"harness/cluster/procs":                 {},
	"harness/cluster/plane":                 {"harness/cluster", "harness/plan", "harness/cluster/plane/httpwire"},
	"harness/cluster/supervise":             {"harness/cluster", "harness/cluster/plane", "harness/plan"},
	"harness/cluster/sandbox":               {"harness/cluster", "harness/cluster/plane", "harness/cluster/supervise", "harness/cluster/sandbox/nodeinit", "harness/cluster/procs"},
	"harness/cluster/docker":                {"harness/cluster", "harness/cluster/plane", "harness/cluster/supervise", "harness/cluster/docker/...", "harness/cluster/procs"},
	"harness/cluster/docker/agent":          {"harness/cluster", "harness/cluster/plane"},
	"harness/cluster/docker/engine":         {"harness/cluster"},
	"harness/cluster/docker/images":         {"harness/cluster"},
	"harness/export":                        {"harness/cluster", "harness/topology"},
	"harness/cluster/clustertest":           {"harness/cluster", "harness/plan", "harness/turn"},
	"harness/record":                        {"harness/plan"},
	"harness/engine":                        {"harness/plan", "faults", "harness/record", "harness/cluster"},
	"harness/scrape":                        {"harness/plan", "harness/record", "harness/cluster"},
	"harness/topology":                      {"harness/plan", "harness/record", "harness/cluster"},
	"harness/build":                         {"harness/plan", "harness/record", "harness/cluster"},
	"harness/cluster/toxiproxyapi":          {"harness/cluster"},
	"harness/cluster/replicas":              {"harness/cluster", "harness/plan"},
	"harness/cluster/replicas/replicastest": {"harness/cluster"},
	"harness/load":                          {"harness/plan", "harness/record", "harness/cluster", "harness/cluster/replicas"},
	"harness/workload":                      {"harness/plan", "harness/record", "harness/cluster", "harness/cluster/replicas", "harness/workload/program"},
	"harness/workload/program":              {},
	"faults":                                {"harness/cluster", "harness/plan"},
	"assertions":                            {"harness/plan", "harness/record"},
	"reports":                               {"assertions", "harness/record", "harness/plan"},
	"scenarios":                             {"harness/plan", "faults", "assertions", "harness/cluster"},
}

// TestImportGraph keeps the arrows of ARCHITECTURE.md.
func TestImportGraph(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"/...").Output()
	require.NoError(t, err)
	seen := 0
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(t, err)
		}
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		if strings.HasPrefix(name, "ci/") || strings.HasPrefix(name, "examples/") {
			continue // programs beside the graph: nothing imports them
		}
		seen++
		rules := allowed[name]
		if name == "hasvc" || strings.HasPrefix(name, "hasvc/") {
			rules = []string{"hasvc/..."} // the service knows nothing of what tests it
		}
		for _, i := range p.Imports {
			dep, ours := strings.CutPrefix(i, module+"/")
			if ours && !covered(rules, dep) {
				t.Errorf("%s imports %s, which the graph does not allow", name, dep)
			}
		}
	}
	if seen < len(allowed) {
		t.Errorf("only %d packages were seen, and the graph has %d", seen, len(allowed))
	}
}

func covered(rules []string, dep string) bool {
	for _, r := range rules {
		if tree, ok := strings.CutSuffix(r, "/..."); ok && strings.HasPrefix(dep, tree+"/") || r == dep {
			return true
		}
	}
	return false
}
