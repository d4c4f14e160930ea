package sandbox_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/sandbox"
	"github.com/hasvc/gauntlet/harness/plan"
)

// output runs a script in a node and returns what it wrote.
func output(t *testing.T, c cluster.Cluster, node, script string) string {
	t.Helper()
	var out bytes.Buffer
	e, err := c.Exec(t.Context(), node, cluster.Process{Argv: []string{"/bin/sh", "-c", script}, Stdout: &out, Stderr: &out})
	require.NoError(t, err)
	_, err = e.Wait()
	require.NoError(t, err)
	return out.String()
}

// TestSignalsToInit: what a program does to process 1 of its node must not end the node, and what is done to the
// program ends it as on a host.
func TestSignalsToInit(t *testing.T) {
	c := up(t, cluster.Options{}, shell("a", "while :; do sleep 0.05; done"))
	before, err := c.Status("a")
	require.NoError(t, err)
	out := output(t, c, "a", "for s in TERM INT HUP QUIT USR1 SEGV KILL STOP; do kill -$s 1; done; kill -0 $$ && echo survived")
	require.Contains(t, out, "survived")
	after, err := c.Status("a")
	require.NoError(t, err)
	require.Equal(t, cluster.StateRunning, after.State)
	require.Equal(t, before.Pids[0], after.Pids[0])

	// A program that is process 1 of its namespace ignores a SIGTERM for which it has no handler; under an init it
	// does not.
	began := time.Now()
	x, err := c.Stop(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, "SIGTERM", x.Signal)
	require.Less(t, time.Since(began), 150*time.Millisecond, "killed only after its grace")
	require.NoError(t, c.Start(t.Context(), "a"))
	_, err = c.Signal(t.Context(), "a", "SEGV", "while")
	require.NoError(t, err)
	deadline := time.Now().Add(5 * time.Second)
	for {
		st, err := c.Status("a")
		require.NoError(t, err)
		if st.State == cluster.StateExited {
			require.Equal(t, "SIGSEGV", st.Exit.Signal)
			break
		}
		require.True(t, time.Now().Before(deadline), "it survived SIGSEGV")
		time.Sleep(time.Millisecond)
	}
	require.ErrorContains(t, c.AwaitReady(t.Context(), "a"), "SIGSEGV")
}

// TestWhatNobodyWaitsForIsGone: a start that was given up is undone, though its answer has not come.
func TestWhatNobodyWaitsForIsGone(t *testing.T) {
	c := up(t, cluster.Options{}, shell("a", "exec sleep 1001"))
	over, cancel := context.WithCancel(t.Context())
	cancel()
	list := "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null; echo; done"
	for range 20 {
		_, err := c.Exec(over, "a", cluster.Process{Argv: []string{"sleep", "1002"}})
		require.ErrorIs(t, err, context.Canceled)
		require.Eventually(t, func() bool { return !strings.Contains(output(t, c, "a", list), "sleep 1002") }, 5*time.Second, time.Millisecond)
	}
	_, err := c.Kill(t.Context(), "a")
	require.NoError(t, err)
	for range 20 {
		require.ErrorIs(t, c.Start(over, "a"), context.Canceled)
		require.NotContains(t, output(t, c, "a", list), "sleep 1001")
	}
	require.NoError(t, c.Start(t.Context(), "a"))
	require.Contains(t, output(t, c, "a", list), "sleep 1001")
}

// TestAnExecEndsThoughAnotherGoesOnWriting: what a program left behind holds its output open, and fills it without end.
func TestAnExecEndsThoughAnotherGoesOnWriting(t *testing.T) {
	c := up(t, cluster.Options{}, shell("a", "exec sleep 1000"))
	var out lockedBuffer
	e, err := c.Exec(t.Context(), "a", cluster.Process{Argv: []string{"/bin/sh", "-c", "yes & echo done"}, Stdout: &slowWriter{w: &out}})
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() {
		_, err := e.Wait()
		ended <- err
	}()
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(10 * time.Second):
		t.Fatal("it is still waited for")
	}
	require.Contains(t, out.String(), "done")
}

// TestTheEndOfAnExecIsThatOfWhatForks: new processes come while those that are there are looked at.
func TestTheEndOfAnExecIsThatOfWhatForks(t *testing.T) {
	c := up(t, cluster.Options{}, shell("a", "exec sleep 1000"))
	forks := "i=0; while :; do sleep 1003 & i=$((i+1)); [ $i = 50 ] && echo there; done"
	for range 5 {
		over, cancel := context.WithCancel(t.Context())
		var out lockedBuffer
		e, err := c.Exec(over, "a", cluster.Process{Argv: []string{"/bin/sh", "-c", forks}, Stdout: &out})
		require.NoError(t, err)
		require.Eventually(t, func() bool { return out.String() != "" }, 5*time.Second, time.Millisecond)
		cancel()
		x, err := e.Wait()
		require.NoError(t, err)
		require.Equal(t, "SIGKILL", x.Signal)
		require.Eventually(t, func() bool {
			return !strings.Contains(output(t, c, "a", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '"), "1003")
		}, 5*time.Second, 10*time.Millisecond)
	}
}

// slowWriter takes its time, as a terminal does: what it reads from is never empty.
type slowWriter struct{ w *lockedBuffer }

func (s *slowWriter) Write(p []byte) (int, error) {
	time.Sleep(20 * time.Millisecond)
	return s.w.Write(p)
}

// TestNoCapability: neither the program nor what is executed beside it has any, whatever its user.
func TestNoCapability(t *testing.T) {
	root := shell("root", "exec sleep 100")
	other := shell("other", "exec sleep 100")
	other.User = "1234:1234"
	c := up(t, cluster.Options{}, root, other)
	for node, uid := range map[string]string{"root": "0", "other": "1234", cluster.Client: "0"} {
		out := output(t, c, node, "id -u; grep ^Cap /proc/self/status; grep NoNewPrivs /proc/self/status")
		lines := strings.Split(strings.TrimSpace(out), "\n")
		require.Equal(t, uid, lines[0])
		for _, l := range lines[1 : len(lines)-1] {
			f := strings.Fields(l)
			require.Equal(t, "0000000000000000", f[1], "%s in %s", f[0], node)
		}
		require.Contains(t, lines[len(lines)-1], "1")
	}
	require.Contains(t, output(t, c, "root", "mount -t tmpfs x /mnt; hostname other; echo done"), "done")
	require.NotContains(t, output(t, c, "root", "cat /proc/mounts"), "x /mnt")
	require.Equal(t, "root\n", output(t, c, "root", "hostname"))
}

// TestRefusesRoot: programs such as PostgreSQL do not start as user 0.
func TestRefusesRoot(t *testing.T) {
	s := shell("db", `if [ "$(id -u)" = 0 ]; then echo "root execution is not permitted" >&2; exit 1; fi; touch /data/file && exec sleep 100`)
	s.Volumes = []cluster.Mount{{Kind: "volume", Source: "data", Target: "/data"}}
	s.Ready = &plan.Condition{Exec: []string{"test", "-e", "/data/file"}}
	_, err := sandbox.New().Up(t.Context(), &cluster.Spec{Name: "test", Services: []cluster.Service{s}}, cluster.Options{Dir: t.TempDir()})
	require.ErrorContains(t, err, "root execution is not permitted")
	s.User = "nobody"
	c := up(t, cluster.Options{}, s)
	require.Contains(t, output(t, c, "db", "ls -ln /data"), " 65534 65534 ")
}

// TestProgramOfOneUser: what a strict umask built below a home that nobody else may enter starts all the same.
func TestProgramOfOneUser(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	require.NoError(t, os.Mkdir(home, 0o700))
	program := filepath.Join(home, "program")
	require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\nhelper\nexec sleep 100\n"), 0o700))
	helper := filepath.Join(home, "helper")
	require.NoError(t, os.WriteFile(helper, []byte("#!/bin/sh\necho helped > /tmp/helped\n"), 0o700))
	s := cluster.Service{Name: "a", Argv0: program, User: "1234", StopSignal: "KILL",
		Ready: &plan.Condition{Exec: []string{"/bin/sh", "-c", "test -s /tmp/helped"}}}
	c := up(t, cluster.Options{Bin: map[string]string{"helper": helper}}, s)
	require.Equal(t, "/gauntlet/bin/helper\n", output(t, c, cluster.Client, "command -v helper"))
}

// TestMountAnywhere puts volumes and configs where the machine's tree, which is read-only, has no place for them.
func TestMountAnywhere(t *testing.T) {
	s := shell("a", "exec sleep 100")
	s.Volumes = []cluster.Mount{
		{Kind: "volume", Source: "deep", Target: "/usr/share/gauntlet-test/a/b"},
		{Kind: "volume", Source: "etc", Target: "/etc/gauntlet-test"},
		{Kind: "tmpfs", Target: "/usr/lib/gauntlet-test", Size: 1 << 20},
		{Kind: "volume", Source: "root", Target: "/new/place"},
	}
	s.Files = []cluster.File{
		{Target: "/usr/share/gauntlet-test/conf", Content: []byte("one"), Mode: 0o440},
		{Target: "/etc/profile.d/gauntlet.sh", Content: []byte("two")},
		{Target: "/new/place/conf", Content: []byte("three")},
		{Target: "/run/secrets/s", Content: []byte("four"), Mode: 0o400},
	}
	dir := t.TempDir()
	c := up(t, cluster.Options{Dir: dir}, s)
	out := output(t, c, "a", `set -e
		for d in /usr/share/gauntlet-test/a/b /etc/gauntlet-test /usr/lib/gauntlet-test /new/place; do echo x > $d/x; done
		cat /usr/share/gauntlet-test/conf /etc/profile.d/gauntlet.sh /new/place/conf /run/secrets/s; echo
		ls /usr/share | grep -qx -e doc -e locale -e misc -e zoneinfo && echo system
		test -e /etc/profile.d && ls /usr/lib > /dev/null && echo kept
		if touch /usr/bin/x 2>/dev/null || touch /.etc/x 2>/dev/null; then echo written; fi`)
	require.Equal(t, "onetwothreefour\nsystem\nkept\n", out)
	for _, v := range []string{"deep", "etc", "root"} {
		b, err := os.ReadFile(filepath.Join(dir, "volumes", v, "x"))
		require.NoError(t, err)
		require.Equal(t, "x\n", string(b))
	}
	b, err := os.ReadFile(filepath.Join(dir, "volumes", "root", "conf"))
	require.NoError(t, err)
	require.Empty(t, b, "the config was mounted, not written to the volume")
}

// TestATmpfsIsEmptyAtEachStart: a crash loses what is in memory, whatever the program made of it, and nothing else.
func TestATmpfsIsEmptyAtEachStart(t *testing.T) {
	s := shell("a", "exec sleep 1000")
	s.User = "1234:1234"
	s.Volumes = []cluster.Mount{{Kind: "tmpfs", Target: "/mem"}, {Kind: "volume", Source: "disk", Target: "/disk"}}
	s.Files = []cluster.File{{Target: "/mem/etc/conf", Content: []byte("one"), Mode: 0o444}}
	c := up(t, cluster.Options{}, s)
	output(t, c, "a", `echo x >/disk/kept; echo x >/dev/shm/x; ln -s /disk /mem/link; mkfifo /mem/fifo
		mkdir -p /mem/a/b/c; echo x >/mem/a/b/c/d; chmod 0 /mem/a/b /mem/a; mkdir -m 0 /dev/shm/d
		ipcmk -M 4096; ipcs -m | grep -q 4096 || echo no shared memory`)
	_, err := c.Kill(t.Context(), "a")
	require.NoError(t, err)
	require.NoError(t, c.Start(t.Context(), "a"))
	require.Equal(t, "/mem\n/mem/etc\n/mem/etc/conf\n/dev/shm\nkept\none 1777 1777 0 0\n", output(t, c, "a",
		`find /mem /dev/shm; ls /disk; echo $(cat /mem/etc/conf) $(stat -c %a /mem /dev/shm) $(df /mem | awk 'NR == 2 { print $3 }') $(ipcs -m | grep -c 4096)`))
}

func TestMemcached(t *testing.T) {
	path, err := exec.LookPath("memcached")
	if err != nil {
		t.Skip("memcached is not installed")
	}
	s := cluster.Service{Name: "cache", Argv0: path, Command: []string{"-p", "11211", "-U", "11211"}, User: "nobody",
		Ready: &plan.Condition{TCP: ":11211"}}
	c := up(t, cluster.Options{}, s)
	conn, err := c.Dial(t.Context(), cluster.Client, "tcp", "cache:11211")
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("set k 0 0 5\r\nvalue\r\nget k\r\n"))
	require.NoError(t, err)
	r := bufio.NewReader(conn)
	for _, want := range []string{"STORED", "VALUE k 0 5", "value", "END"} {
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, want, strings.TrimSpace(line))
	}
	// As user 0, as in a container without an entry for it, it says why it does not start.
	s.User = ""
	_, err = sandbox.New().Up(t.Context(), &cluster.Spec{Name: "test", Services: []cluster.Service{s}}, cluster.Options{Dir: t.TempDir()})
	require.ErrorContains(t, err, "root")
}

func TestMemoryLimit(t *testing.T) {
	if err := sandbox.New().Capabilities().Missing(cluster.MemoryLimit); err != nil {
		t.Skipf("memory cannot be limited here: %v", err)
	}
	s := shell("a", "exec tail /dev/zero")
	s.Limits = cluster.Limits{Memory: 32 << 20, CPUs: 0.5, Pids: 20}
	s.Restart = cluster.Restart{Policy: "always"} // or Up fails, as it should
	var mu sync.Mutex
	var deaths []cluster.Event
	died := make(chan struct{}, 100)
	opt := cluster.Options{Observe: func(e cluster.Event) {
		if e.Kind == cluster.NodeExited {
			mu.Lock()
			defer mu.Unlock()
			deaths = append(deaths, e)
			died <- struct{}{}
		}
	}}
	up(t, opt, s)
	select {
	case <-died:
	case <-time.After(10 * time.Second):
		t.Fatal("32 MB were enough for everything")
	}
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, "SIGKILL", deaths[0].Exit.Signal)
	require.Contains(t, deaths[0].Detail, "memory limit")
	require.False(t, deaths[0].Announced)
}

func TestDoctorFindsNothingWrong(t *testing.T) {
	for _, s := range sandbox.Doctor(t.Context()) {
		require.NoError(t, s.Err, "%s (%s): %s", s.Name, s.Doc, s.Remedy)
	}
	for c, err := range sandbox.New().Capabilities() {
		if c != cluster.CPULimit && c != cluster.MemoryLimit {
			require.NoError(t, err, c)
		}
	}
}

// BenchmarkStar starts and stops eleven nodes.
func BenchmarkStar(b *testing.B) {
	spec := &cluster.Spec{Name: "bench"}
	for i := range 10 {
		s := shell("s"+strconv.Itoa(i), "exec sleep 100")
		s.Ready = &plan.Condition{Exec: []string{"/bin/true"}}
		spec.Services = append(spec.Services, s)
	}
	var ups, downs time.Duration
	cpu := func() (d time.Duration) {
		for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
			var r unix.Rusage
			if err := unix.Getrusage(who, &r); err != nil {
				b.Fatal(err)
			}
			d += time.Duration(r.Utime.Nano() + r.Stime.Nano())
		}
		return d
	}
	before := cpu()
	for b.Loop() {
		began := time.Now()
		c, err := sandbox.New().Up(context.Background(), spec, cluster.Options{Dir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		ups += time.Since(began)
		began = time.Now()
		if left, err := c.Down(context.Background()); err != nil || len(left) > 0 {
			b.Fatal(left, err)
		}
		downs += time.Since(began)
	}
	fmt.Printf("sandbox up, 11 nodes: %.0f ms\n", float64(ups.Milliseconds())/float64(b.N))
	fmt.Printf("sandbox down, 11 nodes: %.0f ms\n", float64(downs.Milliseconds())/float64(b.N))
	fmt.Printf("sandbox up and down, 11 nodes: %.0f ms of CPU\n", float64((cpu()-before).Milliseconds())/float64(b.N))
}

// BenchmarkDial connects from the client to a node and closes.
func BenchmarkDial(b *testing.B) {
	c, err := sandbox.New().Up(context.Background(), &cluster.Spec{Name: "bench", Services: []cluster.Service{shell("s", "exec sleep 100")}}, cluster.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Down(context.Background())
	l, err := c.Listen(context.Background(), "s")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	for b.Loop() {
		conn, err := c.Dial(context.Background(), cluster.Client, "tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		conn.Close()
	}
}

// lockedBuffer is a bytes.Buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
