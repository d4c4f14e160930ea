package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/plane"
	"github.com/hasvc/gauntlet/harness/cluster/sandbox/nodeinit"
	"github.com/hasvc/gauntlet/harness/cluster/supervise"
)

// A call that was given up while it waited for the one before it does not sweep.
func TestNobodySweepsForWhoHasGone(t *testing.T) {
	p := &planeServer{meter: newMeter()}
	usage, _, err := p.usage(t.Context(), struct{}{})
	require.NoError(t, err)
	require.Contains(t, usage, cluster.Plane)
	ctx, cancel := context.WithCancel(t.Context())
	swept := make(chan error)
	p.meter.mu.Lock()
	go func() {
		_, _, err := p.usage(ctx, struct{}{})
		swept <- err
	}()
	cancel()
	p.meter.mu.Unlock()
	require.ErrorIs(t, <-swept, context.Canceled)
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

// TestAPlaneThatDoesNotEnd: a process in an uninterruptible state keeps the plane, and must not keep the harness.
func TestAPlaneThatDoesNotEnd(t *testing.T) {
	mine, theirs, err := plane.Pair()
	require.NoError(t, err)
	defer theirs.Close()
	conn, err := plane.NewConn(mine)
	require.NoError(t, err)
	cmd := exec.Command("sleep", "1000")
	require.NoError(t, cmd.Start())
	synctest.Test(t, func(t *testing.T) {
		p := &planeProcess{Client: plane.NewClient(conn, nil), proc: cmd.Process, ended: make(chan struct{})}
		begin := time.Now()
		p.stop()
		require.Equal(t, stopTime+auditTime, time.Since(begin))
	})
	require.ErrorContains(t, cmd.Wait(), "killed")
}

// TestAnExecEndsThoughTheInitDoesNotAnswer: what was asked of it before may take for ever, and so may a process.
func TestAnExecEndsThoughTheInitDoesNotAnswer(t *testing.T) {
	mine, theirs, err := plane.Pair()
	require.NoError(t, err)
	defer theirs.Close()
	c, err := newControl(mine)
	require.NoError(t, err)
	defer c.close()
	synctest.Test(t, func(t *testing.T) {
		e := &execution{node: &place{node: &supervise.Node{Info: cluster.NodeInfo{Name: "a"}}, control: c},
			ended: make(chan nodeinit.Exit, 1), done: make(chan struct{})}
		e.proc = c.watch(func(x nodeinit.Exit) { e.ended <- x })
		begin := time.Now()
		require.ErrorIs(t, e.Signal("TERM"), context.DeadlineExceeded)
		require.Equal(t, removeTime, time.Since(begin))
		over, cancel := context.WithCancel(t.Context())
		cancel()
		e.finish(over, &streams{})
		require.Equal(t, 2*removeTime, time.Since(begin))
		x, err := e.Wait()
		require.ErrorContains(t, err, "kill a program in node a: it has not ended within 10s")
		require.Equal(t, -1, x.Code)
	})
}

// TestWhatIsTheMachinesIsNotGivenAway asks only: what would give it away would take this machine apart.
func TestWhatIsTheMachinesIsNotGivenAway(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root gives files away")
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "socket")
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	defer l.Close()
	for source, want := range map[string]string{socket: "socket", "/dev/null": "device", "/": "the root of this machine", dir: ""} {
		st, err := os.Lstat(source)
		require.NoError(t, err)
		if err := ofMachine(source, st); want == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, want)
		}
	}
	roots, err := os.Lstat(dir)
	require.NoError(t, err)
	for source, refused := range map[string]bool{
		"/etc": true, "/etc/app/conf": true, "/usr/share/zoneinfo/Etc/UTC": true, "/run": true, "/run/lock": true, "/lib64": true, "/boot": true,
		"/etcetera": false, "/srv/etc": false, "/var/lib/app": false, "/home/a/usr": false,
	} {
		if err := ofMachine(source, roots); refused {
			require.ErrorContains(t, err, "give root's "+source+", of this machine's system", source)
			require.ErrorContains(t, err, "bind it read-only", source)
		} else {
			require.NoError(t, err, source)
		}
	}
	require.NoError(t, os.Lchown(socket, 1000, 1000))
	st, err := os.Lstat(socket)
	require.NoError(t, err)
	require.NoError(t, ofMachine(socket, st), "it is another's, and stays so")
}

func TestParseCgroups(t *testing.T) {
	v1 := parseCgroups("4:memory:/user\n3:cpu,cpuacct:/\n0::/\n",
		"30 25 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"+
			"32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n")
	require.Equal(t, nodeinit.CgroupVersion(1), v1.version)
	require.Equal(t, []string{"/sys/fs/cgroup/memory/user", "/sys/fs/cgroup/memory"}, v1.dirs["memory"])
	require.Equal(t, []string{"/sys/fs/cgroup/cpu"}, v1.dirs["cpu"])
	require.Empty(t, v1.dirs["pids"], "programs join one version")
	v2 := parseCgroups("0::/user.slice/app.scope\n", "30 25 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n")
	require.Equal(t, nodeinit.CgroupVersion(2), v2.version)
	require.Equal(t, []string{"/sys/fs/cgroup/user.slice", "/sys/fs/cgroup", "/sys/fs/cgroup/user.slice/app.scope"}, v2.dirs["cpu"],
		"a group that has processes cannot hand controllers down")
	inside := parseCgroups("0::/\n", "30 25 0:26 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
	require.Equal(t, []string{"/sys/fs/cgroup"}, inside.dirs["memory"])
}

// TestOneCgroupForAllLimits: in version 2 a program is in one cgroup, which must have all that the limits need.
func TestOneCgroupForAllLimits(t *testing.T) {
	some, all := t.TempDir(), t.TempDir()
	parents := cgroupParents{version: 2, dirs: map[string][]string{}}
	for _, c := range limitControllers {
		parents.dirs[c] = []string{some, all}
	}
	noCPU := func(parent, _, controller string) error {
		if parent == some && controller == "cpu" {
			return errors.New("not delegated")
		}
		return nil
	}
	g, err := parents.make("run", []string{"memory", "cpu"}, noCPU)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"memory": filepath.Join(all, "run"), "cpu": filepath.Join(all, "run")}, g.dirs)
	require.NoDirExists(t, filepath.Join(some, "run"))
	require.NoError(t, os.MkdirAll(filepath.Join(all, "run", "busy-when-it-was-removed"), 0o755))
	require.NoError(t, g.remove())
	require.NoDirExists(t, filepath.Join(all, "run"))

	parents.dirs["memory"] = []string{some}
	g, err = parents.make("run", []string{"memory", "cpu"}, noCPU)
	require.Nil(t, g)
	require.EqualError(t, err, "no cgroup can be made for memory, cpu: not delegated")
	require.NoDirExists(t, filepath.Join(some, "run"))
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

// TestCleanRemovesDeadDoctors leaves what a living doctor uses, and what is none of it.
func TestCleanRemovesDeadDoctors(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	name, err := ownName(doctorPrefix)
	require.NoError(t, err)
	living, err := os.MkdirTemp("", name)
	require.NoError(t, err)
	foreign := filepath.Join(os.TempDir(), doctorPrefix+"notes")
	require.NoError(t, os.Mkdir(foreign, 0o755))
	dead := filepath.Join(os.TempDir(), fmt.Sprintf("%s%d-1-123456789", doctorPrefix, os.Getpid()))
	require.NoError(t, os.MkdirAll(filepath.Join(dead, "logs"), 0o755))
	removed, err := Clean()
	require.NoError(t, err)
	require.Contains(t, removed, "directory "+dead)
	require.NoDirExists(t, dead)
	require.DirExists(t, living)
	require.DirExists(t, foreign)
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
