package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/sandbox/nodeinit"
)

func TestRestartPolicy(t *testing.T) {
	zero, one, killed := cluster.Exit{}, cluster.Exit{Code: 1}, cluster.Exit{Code: -1, Signal: "SIGKILL"}
	for _, c := range []struct {
		policy cluster.Restart
		exit   cluster.Exit
		count  int
		want   bool
	}{
		{cluster.Restart{}, one, 0, false},
		{cluster.Restart{Policy: "no"}, one, 0, false},
		{cluster.Restart{Policy: "always"}, zero, 0, true},
		{cluster.Restart{Policy: "unless-stopped"}, killed, 0, true},
		{cluster.Restart{Policy: "on-failure"}, zero, 0, false},
		{cluster.Restart{Policy: "on-failure"}, killed, 99, true},
		{cluster.Restart{Policy: "on-failure", MaxRetries: 2}, one, 1, true},
		{cluster.Restart{Policy: "on-failure", MaxRetries: 2}, one, 2, false},
	} {
		r := restarts{policy: c.policy, count: c.count}
		require.Equal(t, c.want, r.wants(c.exit), "%+v", c)
	}
	r := restarts{}
	var waits []time.Duration
	for range 12 {
		waits = append(waits, r.next(time.Second))
	}
	require.Equal(t, []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond}, waits[:3])
	require.Equal(t, time.Minute, waits[11])
	require.Equal(t, 100*time.Millisecond, r.next(11*time.Second), "back to the start after a long run")
}

func TestIDSpace(t *testing.T) {
	def := idSpace{base: 100000, size: 65536}
	require.Equal(t, idSpace{base: 231072, size: 65536}, subordinate([]byte("alice:100000:65536\nroot:231072:65536\n"), def))
	require.Equal(t, def, subordinate([]byte("root:0:65536\nroot:5:10\nnonsense\n"), def), "never 0, and not too few")
	for name, c := range map[string]struct {
		uidMap string
		want   idSpace
	}{
		"the machine itself":         {"         0          0 4294967295\n", def},
		"a container with its own":   {"0 500000 65536\n", idSpace{base: 1, size: 65535}},
		"a root that is a user":      {"0 1000 1\n", idSpace{one: true}},
		"a user with subordinates":   {"0 1000 1\n1 100000 65536\n", idSpace{base: 1, size: 65536}},
		"a container with all of it": {"0 0 200000\n", def},
	} {
		got, err := within(def, []byte(c.uidMap))
		require.NoError(t, err, name)
		require.Equal(t, c.want, got, name)
	}
	_, err := within(def, []byte("a b c\n"))
	require.Error(t, err)
	for _, user := range []string{"no-such-user", "-1", "0:no-such-group", "70000"} {
		_, err := def.identify(user)
		require.Error(t, err, user)
	}
	id, err := idSpace{one: true}.identify("1234:99")
	require.NoError(t, err)
	require.Equal(t, []int{1234, 99}, []int{id.maps.UID.ContainerID, id.maps.GID.ContainerID})
	require.False(t, id.Switch)
}

func TestParseCgroups(t *testing.T) {
	v1 := parseCgroups("4:memory:/user\n3:cpu,cpuacct:/\n0::/\n",
		"30 25 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"+
			"32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n")
	require.Equal(t, nodeinit.CgroupVersion(1), v1.version)
	require.Equal(t, []string{"/sys/fs/cgroup/memory/user", "/sys/fs/cgroup/memory"}, v1.dirs["memory"])
	require.Equal(t, []string{"/sys/fs/cgroup/cpu"}, v1.dirs["cpu"])
	v2 := parseCgroups("0::/user.slice/app.scope\n", "30 25 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n")
	require.Equal(t, nodeinit.CgroupVersion(2), v2.version)
	require.Equal(t, []string{"/sys/fs/cgroup/user.slice", "/sys/fs/cgroup", "/sys/fs/cgroup/user.slice/app.scope"}, v2.dirs["cpu"],
		"a group that has processes cannot hand controllers down")
	inside := parseCgroups("0::/\n", "30 25 0:26 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
	require.Equal(t, []string{"/sys/fs/cgroup"}, inside.dirs["memory"])
}

func TestSignals(t *testing.T) {
	for _, s := range []string{"SIGHUP", "HUP", "hup", "1"} {
		sig, err := parseSignal(s)
		require.NoError(t, err)
		require.Equal(t, syscall.SIGHUP, sig)
	}
	for _, s := range []string{"", "0", "65", "-9", "NOPE"} {
		_, err := parseSignal(s)
		require.Error(t, err, s)
	}
	now := time.Now()
	term := asked{syscall.SIGTERM, now}
	require.True(t, term.explains(nodeinit.Exit{Code: 0}, now.Add(time.Second), 2*time.Second))
	require.False(t, term.explains(nodeinit.Exit{Code: 0}, now.Add(3*time.Second), 2*time.Second))
	require.True(t, asked{syscall.SIGUSR1, now}.explains(nodeinit.Exit{Code: -1, Signal: syscall.SIGUSR1}, now, 0))
	require.False(t, asked{syscall.SIGHUP, now}.explains(nodeinit.Exit{Code: 1}, now, time.Minute), "a reload that fails is a death of its own")
}

func TestLevels(t *testing.T) {
	dep := func(name string, on ...string) cluster.Service {
		s := cluster.Service{Name: name}
		for _, d := range on {
			s.DependsOn = append(s.DependsOn, cluster.Dependency{Service: d})
		}
		return s
	}
	sorted, err := levels([]cluster.Service{dep("c", "b", "a"), dep("b", "a"), dep("a")})
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b", "c"}, sorted)
	_, err = levels([]cluster.Service{dep("x", "a"), dep("a", "b"), dep("b", "a")})
	require.ErrorContains(t, err, "a -> b -> a")
	_, err = levels([]cluster.Service{dep("a", "gone")})
	require.ErrorContains(t, err, "gone, which is no service")
}

func TestCheckTellsAll(t *testing.T) {
	err := check(&cluster.Spec{Services: []cluster.Service{
		{Name: "client", Argv0: "/bin/true"},
		{Name: "a", Scaled: true, Replicas: 1, Argv0: "relative"},
		{Name: "a-1", Argv0: "/bin/true", User: "no-such-user", StopSignal: "NOPE", Restart: cluster.Restart{Policy: "sometimes"}},
	}}, idSpace{one: true})
	for _, part := range []string{"client", "relative", "a-1 is also", "no-such-user", "NOPE", "sometimes"} {
		require.ErrorContains(t, err, part)
	}
}

func TestNodeAddresses(t *testing.T) {
	seen := map[string]bool{planeAddr.String(): true}
	for i := 1; i < 3000; i++ {
		a, err := nodeAddr(i)
		require.NoError(t, err)
		require.False(t, seen[a.String()], a)
		seen[a.String()] = true
		last := a.As4()[3]
		require.NotZero(t, last)
		require.NotEqual(t, byte(255), last)
	}
	_, err := nodeAddr(0)
	require.Error(t, err)
	_, err = nodeAddr(1 << 20)
	require.Error(t, err)
}

func TestLogLines(t *testing.T) {
	l, err := openLog(filepath.Join(t.TempDir(), "logs", "n.log"))
	require.NoError(t, err)
	l.copyLines(strings.NewReader("one\ntwo\nno end"))
	l.copyLines(strings.NewReader(strings.Repeat("x", 3*maxLine)))
	l.copyLines(strings.NewReader("after\n"))
	require.NoError(t, errors.Join(l.err, l.close()))
	b, err := os.ReadFile(l.path)
	require.NoError(t, err)
	lines := strings.Split(string(b), "\n")
	require.Equal(t, []string{"one", "two", "no end"}, lines[:3])
	require.Equal(t, "after", lines[len(lines)-2])
	require.Equal(t, 3*maxLine, strings.Count(string(b), "x"))
	last, err := lastLines(l.path, 0, 2)
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(last, "\nafter"))
	none, err := lastLines(l.path, int64(len(b)), 2)
	require.NoError(t, err)
	require.Empty(t, none)
}

// TestCleanLeavesTheLiving removes the cgroups of a dead harness and no other.
func TestCleanLeavesTheLiving(t *testing.T) {
	if err := tryCgroup("memory"); err != nil {
		t.Skipf("no cgroup can be made here: %v", err)
	}
	alive, err := newRunCgroup([]string{"memory"})
	require.NoError(t, err)
	defer func() { require.NoError(t, alive.remove()) }()
	living := alive.dirs["memory"]
	// Its number and its start do not go together: the harness is dead and the number was given again.
	dead := filepath.Join(filepath.Dir(living), fmt.Sprintf("%s%d-1-1", cgroupPrefix, os.Getpid()))
	require.NoError(t, os.MkdirAll(filepath.Join(dead, "node"), 0o755))
	foreign := filepath.Join(filepath.Dir(living), cgroupPrefix+"of-another")
	require.NoError(t, os.Mkdir(foreign, 0o755))
	defer os.Remove(foreign)
	removed, err := Clean()
	require.NoError(t, err)
	require.Contains(t, removed, "cgroup "+dead)
	require.NoDirExists(t, dead)
	require.DirExists(t, living)
	require.DirExists(t, foreign)
}
