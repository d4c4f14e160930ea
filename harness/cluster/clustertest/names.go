package clustertest

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// names checks what programs get when they look a name up.
func names(t *testing.T, top *topology) {
	for _, node := range []string{"a", cluster.Client} {
		check(t, "from "+node, 20*time.Second, func(t *testing.T, ctx context.Context) {
			web := []string{top.addr(t, "web-1").String(), top.addr(t, "web-2").String()}
			slices.Sort(web)
			want := map[string][]string{
				"a": {top.addr(t, "a").String()}, "b": {top.addr(t, "b").String()}, "web-2": {top.addr(t, "web-2").String()}, "web": web, "WEB-2.": {top.addr(t, "web-2").String()},
			}
			lookups := []string{"a", "b", "web-2", "web", "WEB-2."}
			for _, r := range inside[[]resolved](t, ctx, top, node, append([]string{"resolve"}, lookups...)...) {
				slices.Sort(r.Addrs)
				require.Equal(t, want[r.Name], r.Addrs, "%s: %s", r.Name, r.Error)
				require.Less(t, r.Took, time.Second, r.Name)
			}
			for _, r := range inside[[]resolved](t, ctx, top, node, "resolve", "nobody", "web-3", "nobody.example.com") {
				require.True(t, r.NotFound, "%s: %v %s", r.Name, r.Addrs, r.Error)
				require.Less(t, r.Took, time.Second, "an unknown name must be answered, not timed out")
			}
		})
	}
	check(t, "by libc", 20*time.Second, func(t *testing.T, ctx context.Context) {
		e, err := top.Exec(ctx, "a", cluster.Process{Argv: []string{"getent", "ahosts", "a"}})
		if err == nil {
			_, err = e.Wait()
		}
		if err != nil {
			t.Skipf("no getent in a node: %v", err)
		}
		begin := time.Now()
		for name, addr := range map[string]string{"b": top.addr(t, "b").String(), "web-1": top.addr(t, "web-1").String(), "a": top.addr(t, "a").String()} {
			out, exit := top.execArgv(t, ctx, "a", "getent", "ahosts", name)
			require.Zero(t, exit.Code, name)
			require.True(t, strings.HasPrefix(out, addr+" "), "%s: %s", name, out)
		}
		out, exit := top.execArgv(t, ctx, "a", "getent", "ahosts", "nobody")
		require.Equal(t, 2, exit.Code, "unknown: %s", out)
		require.Less(t, time.Since(begin), 3*time.Second, "a missing AAAA or NXDOMAIN answer costs 5 s each")
	})
	check(t, "own hostname", 5*time.Second, func(t *testing.T, ctx context.Context) {
		for _, node := range []string{"b", "web-2"} {
			require.Equal(t, node, inside[selfInfo](t, ctx, top, node, "env").Hostname)
		}
	})
}
