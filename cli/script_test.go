package cli_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/hasvc/gauntlet/cli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"gauntlet": func() {
			ctx, stop := cli.Interruptible(context.Background())
			defer stop()
			os.Exit(cli.Main(ctx, os.Args[1:], os.Stdout, os.Stderr))
		},
		"tiny": tiny,
	})
}

// TestScripts runs testdata/*.txtar. The command is this test binary under another name; so is tiny, the program of the
// scripts' topologies, which therefore need no build.
func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("the scripts start topologies, which -short leaves out")
	}
	// Whatever a command leaves running becomes a child of this process, wherever it was in the tree, and is found.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	goenv := goEnv(t)
	mounts := read(t, "/proc/self/mountinfo")
	testscript.RunT(serial{t}, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			// Shipped scenarios and built programs go into the script's own cache; what Go has compiled before is used.
			e.Vars = append(e.Vars, goenv...)
			e.Setenv("XDG_CACHE_HOME", filepath.Join(e.WorkDir, ".cache"))
			e.Setenv("NO_COLOR", "")
			e.Defer(func() {
				for _, l := range left(t, e.WorkDir, mounts) {
					t.Errorf("left behind: %s", l)
				}
			})
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":        exits,
			"terminal":     terminal,
			"await":        await,
			"nothing-left": func(ts *testscript.TestScript, _ bool, _ []string) { nothingLeft(ts, t, mounts) },
		},
	})
}

// serial runs one script after the other: their runs take turns anyhow, and what one leaves behind is not taken for
// another's.
type serial struct{ *testing.T }

func (s serial) Parallel()     {}
func (s serial) Verbose() bool { return testing.Verbose() }
func (s serial) Run(name string, f func(testscript.T)) {
	s.T.Run(name, func(t *testing.T) { f(serial{t}) })
}

// goEnv is what the go command needs to find what it has downloaded and compiled: a script has another home.
func goEnv(t *testing.T) []string {
	names := []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOPROXY", "GOSUMDB", "GOFLAGS"}
	out, err := exec.Command("go", append([]string{"env"}, names...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	var vars []string
	for i, v := range strings.SplitN(strings.TrimSuffix(string(out), "\n"), "\n", len(names)) {
		vars = append(vars, names[i]+"="+v)
	}
	return vars
}

// exits runs a command and compares its exit code: exits CODE PROGRAM [ARGUMENT...]. Its output is what stdout and stderr look at.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARGUMENT...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := err.(*exec.ExitError); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("%s exited with %d, want %d", args[1], got, want)
	}
}

// await waits until a file has a line that matches: await FILE TEXT. FILE may be a pattern for one that is not there yet.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await FILE TEXT")
	}
	found := poll(func() bool {
		files, err := filepath.Glob(ts.MkAbs(args[0]))
		ts.Check(err)
		return slices.ContainsFunc(files, func(f string) bool {
			b, err := os.ReadFile(f)
			return err == nil && strings.Contains(string(b), args[1])
		})
	})
	if !found {
		ts.Fatalf("%s did not come to have %q", args[0], args[1])
	}
}

func nothingLeft(ts *testscript.TestScript, t *testing.T, mounts string) {
	var found []string
	// The kernel ends what was in a PID namespace a moment after its first process.
	if poll(func() bool { found = left(t, ts.Getenv("WORK"), mounts); return len(found) == 0 }) {
		return
	}
	ts.Fatalf("left behind: %s", strings.Join(found, "\n"))
}

// left lists processes, mounts, cgroups and temporary files that commands have left. Network namespaces live by the processes in
// them alone.
func left(t *testing.T, work, mounts string) []string {
	var found []string
	for _, pid := range children(t) {
		found = append(found, "process "+strings.ReplaceAll(read(t, fmt.Sprintf("/proc/%d/cmdline", pid)), "\x00", " "))
	}
	if now := read(t, "/proc/self/mountinfo"); now != mounts {
		found = append(found, "mounts: "+now)
	}
	for _, pattern := range []string{filepath.Join(work, ".tmp", "*"), "/sys/fs/cgroup/gauntlet-*", "/sys/fs/cgroup/*/gauntlet-*"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, slices.DeleteFunc(files, func(f string) bool { return strings.HasPrefix(f, "/sys") && foreign(f) })...)
	}
	return found
}

// foreign reports whether a cgroup is of a harness that runs beside this test, or was there before it. Its name begins with the
// process that made it.
func foreign(cgroup string) bool {
	pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(cgroup), "gauntlet-"), "-")
	if _, err := os.Stat("/proc/" + pid); err == nil {
		return true
	}
	i, err := os.Stat(cgroup)
	return err != nil || i.ModTime().Before(began)
}

var began = time.Now()

// children are the living children of this process, by the stat of each process: not every kernel lists them.
func children(t *testing.T) []int {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, s := range stats {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(s)))
		stat := read(t, s)
		// The name may have spaces and parentheses in it; state and parent follow it.
		f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
		if len(f) > 1 && f[0] != "Z" && f[1] == strconv.Itoa(os.Getpid()) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// read returns a file of /proc, empty when its process has ended.
func read(t *testing.T, file string) string {
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
		t.Fatal(err)
	}
	return string(b)
}

// poll asks for at most ten seconds.
func poll(ok func() bool) bool {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if ok() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}
