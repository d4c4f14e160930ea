package cli_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
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
		"into": into,
		"tiny": tiny,
	})
}

// into runs a program in the background of a script, which may read what it has written so far: into STDOUT STDERR CODE PROGRAM
// [ARGUMENT...] names three files. The signal by which a script that fails ends its background goes on to the program: a shell would
// keep it to itself, and the script wait for a topology that nobody takes down.
func into() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt)
	if err := runInto(os.Args[1:], signals); err != nil {
		fmt.Fprintln(os.Stderr, "into:", err)
		os.Exit(1)
	}
}

func runInto(args []string, signals <-chan os.Signal) error {
	if len(args) < 4 {
		return errors.New("usage: into STDOUT STDERR CODE PROGRAM [ARGUMENT...]")
	}
	stdout, err := os.Create(args[0])
	if err != nil {
		return err
	}
	defer stdout.Close()
	stderr, err := os.Create(args[1])
	if err != nil {
		return err
	}
	defer stderr.Close()
	c := exec.Command(args[3], args[4:]...)
	c.Stdout, c.Stderr = stdout, stderr
	if err := c.Start(); err != nil {
		return err
	}
	go func() { // lives as long as this process, which ends with the program
		for s := range signals {
			_ = c.Process.Signal(s)
		}
	}()
	if err := c.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		return err
	}
	return os.WriteFile(args[2], fmt.Appendln(nil, c.ProcessState.ExitCode()), 0o644)
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
	mounts := ownMounts(t)
	testscript.RunT(serial{t}, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			// Shipped scenarios and built programs go into the script's own cache; what Go has compiled before is used.
			e.Vars = append(e.Vars, goenv...)
			e.Setenv("XDG_CACHE_HOME", filepath.Join(e.WorkDir, ".cache"))
			// The verdicts of the scripts rest on no timing: they need not wait for those that do.
			e.Setenv("GAUNTLET_TURN", filepath.Join(e.WorkDir, ".turn"))
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
			"interrupt":    func(ts *testscript.TestScript, _ bool, args []string) { interrupt(ts, t, args) },
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

// ownMounts lists the mounts of this machine but a container engine's, which come and go with the containers of others.
func ownMounts(t *testing.T) string {
	var own strings.Builder
	for line := range strings.Lines(read(t, "/proc/self/mountinfo")) {
		if f := strings.Fields(line); len(f) < 5 || !strings.HasPrefix(f[4], "/var/lib/docker/") && !strings.HasPrefix(f[4], "/run/docker/") {
			own.WriteString(line)
		}
	}
	return own.String()
}

// left lists processes, mounts, cgroups and temporary files that commands have left. Network namespaces live by the processes in
// them alone.
func left(t *testing.T, work, mounts string) []string {
	var found []string
	for _, p := range processes(t) {
		// What runs in the background of a script that fails is ended after this.
		if p.parent == os.Getpid() && p.name != "into" {
			found = append(found, "process "+strings.ReplaceAll(cmdline(t, p.id), "\x00", " "))
		}
	}
	if now := ownMounts(t); now != mounts {
		found = append(found, "mounts: "+now)
	}
	tmp, err := filepath.Glob(filepath.Join(work, ".tmp", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return append(append(found, tmp...), cgroups()...)
}

// interrupted are the processes that scripts have sent signals to.
var interrupted []int

// cgroups are those of interrupted runs; of the others, the run's own audit tells. Runs that go on beside this test have theirs,
// whose names begin with the process that made them.
func cgroups() []string {
	var found []string
	if len(interrupted) == 0 {
		return nil
	}
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // it went while it was looked at
		}
		for _, pid := range interrupted {
			if strings.HasPrefix(d.Name(), fmt.Sprintf("gauntlet-%d-", pid)) {
				found = append(found, "cgroup "+path)
			}
		}
		return nil
	})
	return found
}

// process is one that lives.
type process struct {
	id, parent, grandparent int
	name                    string
}

// processes lists what /proc knows: not every kernel lists the children of a process.
func processes(t *testing.T) []process {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var ps []process
	parents := map[int]int{}
	for _, s := range stats {
		stat := read(t, s)
		// The name may have spaces and parentheses in it; state and parent follow it.
		open, end := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
		if open < 0 || end < open {
			continue // it has ended
		}
		var p process
		var state string
		if _, err := fmt.Sscan(stat[end+1:], &state, &p.parent); err != nil {
			t.Fatal(err)
		}
		p.id, _ = strconv.Atoi(filepath.Base(filepath.Dir(s)))
		p.name = stat[open+1 : end]
		parents[p.id] = p.parent
		if state != "Z" {
			ps = append(ps, p)
		}
	}
	for i := range ps {
		ps[i].grandparent = parents[ps[i].parent]
	}
	return ps
}

// read returns a file of /proc, empty when its process has ended.
func read(t *testing.T, file string) string {
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
		t.Fatal(err)
	}
	return string(b)
}

// poll asks for at most a minute: beside the compilers of a "go test ./..." on cold caches a topology takes more than ten seconds to
// start.
func poll(ok func() bool) bool {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if ok() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// interrupt sends signals to the gauntlet that a script runs in the background with an argument: interrupt ARGUMENT SIGNAL...
func interrupt(ts *testscript.TestScript, t *testing.T, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: interrupt ARGUMENT SIGNAL...")
	}
	var pids []int
	for _, p := range processes(t) {
		if p.name == "gauntlet" && p.grandparent == os.Getpid() && slices.Contains(strings.Split(cmdline(t, p.id), "\x00"), args[0]) {
			pids = append(pids, p.id)
		}
	}
	if len(pids) != 1 {
		ts.Fatalf("%d gauntlets run %s in the background, want 1", len(pids), args[0])
	}
	interrupted = append(interrupted, pids[0])
	for _, name := range args[1:] {
		ts.Check(unix.Kill(pids[0], unix.SignalNum(name)))
	}
}

func cmdline(t *testing.T, pid int) string { return read(t, fmt.Sprintf("/proc/%d/cmdline", pid)) }
