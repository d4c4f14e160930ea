package clustertest

import (
	"context"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// isolation checks that there is no way round a link, none out of the machine, and none from node to node but the network.
func isolation(t *testing.T, top *topology) {
	ab, ba := cluster.Link{From: "a", To: "b"}, cluster.Link{From: "b", To: "a"}
	check(t, "escape", 30*time.Second, func(t *testing.T, ctx context.Context) {
		undo := top.rule(t, ctx, cluster.Rule{Drop: true}, ab, ba)
		outside := machine(t)
		tried := inside[[]attempt](t, ctx, top, "a", "escape",
			"-peer", top.addr(t, "b").String(), "-via", top.addr(t, "c").String(), "-outside", strings.Join(outside, ","))
		require.GreaterOrEqual(t, len(tried), 20)
		for _, a := range tried {
			if a.Succeeded {
				t.Errorf("%s: it worked: %s", a.Name, a.Detail)
			}
		}
		require.True(t, timedOut(top.refuses(t, ctx, mute, "a", "b:7000")), "the link is still cut")
		undo()
		top.dial(t, ctx, "a", "b:7000").alive(t, patience)
		st, err := top.Status("a")
		require.NoError(t, err)
		require.Equal(t, cluster.StateRunning, st.State)
		require.Zero(t, st.Restarts)
	})
	check(t, "the machine's own answer", 5*time.Second, func(t *testing.T, ctx context.Context) {
		// The listeners of the escape test can be reached from where it is allowed: it was not silence by itself.
		for _, a := range machine(t) {
			c, err := net.DialTimeout("tcp", a, time.Second)
			require.NoError(t, err)
			require.NoError(t, c.Close())
		}
	})
	check(t, "meeting without the network", 10*time.Second, func(t *testing.T, ctx context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		var out buffer
		e, err := top.Exec(ctx, "b", cluster.Process{Argv: []string{probeName, "meet"}, Stdout: &out})
		require.NoError(t, err)
		var open []string
		poll(t, ctx, patience, "the meeting places open", func() error { return json.Unmarshal([]byte(out.String()), &open) })
		require.Contains(t, open, "@gprobe-meet")
		require.Contains(t, open, "/tmp/gprobe-meet")
		require.ElementsMatch(t, open, inside[[]string](t, ctx, top, "b", "visit"), "the same node finds them all")
		for _, node := range []string{"a", cluster.Client} {
			require.Empty(t, inside[[]string](t, ctx, top, node, "visit"), "seen from %s", node)
		}
		cancel()
		_, err = e.Wait()
		require.NoError(t, err)
	})
	check(t, "processes of others", 5*time.Second, func(t *testing.T, ctx context.Context) {
		require.True(t, running(t, ctx, top, "b", "-mark other-node"), "b sees itself")
		require.False(t, running(t, ctx, top, "a", "-mark other-node"), "a sees b")
	})
	check(t, "environment of the harness", 5*time.Second, func(t *testing.T, ctx context.Context) {
		for node, env := range map[string]map[string]string{
			"a": decode[selfInfo](t, ctx, top, "a", "/env").Env, "exec in a": inside[selfInfo](t, ctx, top, "a", "env").Env,
			"client": inside[selfInfo](t, ctx, top, cluster.Client, "env").Env,
		} {
			require.NotContains(t, env, "CLUSTERTEST_SECRET", node)
			for k := range env {
				// GAUNTLET_EXEC is how a driver finds what Exec started, where its engine cannot.
				require.Contains(t, []string{"PATH", "HOME", "HOSTNAME", "TMPDIR", "TERM", "USER", "LANG", "TZ", "PWD", markEnv, "GAUNTLET_EXEC"}, k, "%s has a variable of the harness or of the driver", node)
			}
			require.NotEmpty(t, env["PATH"], node)
		}
	})
}

// machine opens listeners on the addresses of this machine and returns where.
func machine(t *testing.T) []string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	require.NoError(t, err)
	var open []string
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok || n.IP.To4() == nil || n.IP.IsLoopback() { // every node has a loopback of its own
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort(n.IP.String(), "0"))
		if err != nil {
			continue
		}
		t.Cleanup(func() { l.Close() })
		open = append(open, l.Addr().String())
	}
	return open
}

// running reports whether a node shows a process whose command line has the text.
func running(t *testing.T, ctx context.Context, top *topology, node, text string) bool {
	t.Helper()
	for _, p := range inside[[]process](t, ctx, top, node, "ps") {
		if strings.Contains(p.Args, text) {
			return true
		}
	}
	return false
}
