package toxiproxyapi_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// toxiproxysCLI builds toxiproxy's own command.
func toxiproxysCLI(t *testing.T) string {
	t.Helper()
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	require.NoError(t, err)
	tools := filepath.Join(filepath.Dir(strings.TrimSpace(string(mod))), "ci", "tools", "go.mod")
	file := filepath.Join(t.TempDir(), "toxiproxy-cli")
	said, err := exec.Command("go", "build", "-modfile="+tools, "-o", file, "github.com/Shopify/toxiproxy/v2/cmd/cli").CombinedOutput()
	require.NoError(t, err, "%s", said)
	return file
}

func TestToxiproxysCommandDrivesALink(t *testing.T) {
	file := toxiproxysCLI(t)
	r := &rules{now: map[cluster.RuleID]cluster.Rule{}}
	_, url := serveAPI(t, r, cluster.Link{From: "gateway-1", To: "orders"}, cluster.Link{From: "client", To: "gateway-1"})
	run := func(args ...string) (string, error) {
		said, err := exec.Command(file, append([]string{"--host", url}, args...)...).CombinedOutput()
		return string(said), err
	}
	for _, c := range []struct {
		args string
		says []string
		held int // rules
	}{
		{"list", []string{"gateway-1_orders", "client_gateway-1", "orders:7000"}, 0},
		{"toxic add -t latency -a latency=200 gateway-1_orders", []string{"Added downstream latency toxic 'latency_downstream' on proxy 'gateway-1_orders'"}, 1},
		{"toxic add -t bandwidth -n slow -u --toxicity 0.5 -a rate=10 gateway-1_orders", []string{"Added upstream bandwidth toxic 'slow'"}, 2},
		{"inspect gateway-1_orders", []string{"latency_downstream", "latency=200", "slow", "rate=10"}, 2},
		{"toxic update -n slow -a rate=20 gateway-1_orders", []string{"Updated toxic 'slow'"}, 2},
		{"inspect gateway-1_orders", []string{"rate=20"}, 2},
		{"toxic remove -n slow gateway-1_orders", []string{"Removed toxic 'slow'"}, 1},
		{"toggle gateway-1_orders", []string{"now disabled"}, 2},
		{"toggle gateway-1_orders", []string{"now enabled"}, 1},
		{"toxic remove -n latency_downstream gateway-1_orders", []string{"Removed toxic"}, 0},
		{"toxic add -t http_error --toxicity 0.3 -a status=503 -a path=^/orders -a retry_after=1 gateway-1_orders", []string{"Added downstream http_error toxic"}, 1},
		{"inspect gateway-1_orders", []string{"status=503", "path=^/orders", "retry_after=1"}, 1},
		{"toxic remove -n http_error_downstream gateway-1_orders", []string{"Removed toxic"}, 0},
	} {
		said, err := run(strings.Fields(c.args)...)
		require.NoError(t, err, "%s: %s", c.args, said)
		for _, s := range c.says {
			require.Contains(t, said, s, c.args)
		}
		require.Len(t, r.held(), c.held, c.args)
	}
	for args, says := range map[string]string{
		"inspect nobody": "proxy not found",
		"toxic add -t warp -a speed=9 gateway-1_orders":            "invalid toxic type",
		"create -l localhost:1 -u localhost:2 gateway-1_inventory": "link",
		"toxic remove -n nothing gateway-1_orders":                 "toxic not found",
	} {
		said, err := run(strings.Fields(args)...)
		require.Error(t, err, "%s: %s", args, said)
		require.Contains(t, said, says, args)
	}
	require.Empty(t, r.held())
}
