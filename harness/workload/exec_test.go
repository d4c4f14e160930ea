package workload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/replicas/replicastest"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
	"github.com/hasvc/gauntlet/harness/workload/program"
)

// TestMain turns the test binary into the program of a workload when it is told to.
func TestMain(m *testing.M) {
	if how := os.Getenv("GAUNTLET_TEST_PROGRAM"); how != "" {
		os.Exit(act(how))
	}
	goleak.VerifyTestMain(m)
}

// act is a program that behaves in one of several ways.
func act(how string) int {
	say := func(s string) { fmt.Println(s) }
	hello := `{"type":"hello","version":1}`
	hear := func(typ string) bool { // waits for a command
		d := json.NewDecoder(stdin)
		var c program.Command
		for d.Decode(&c) == nil {
			if stdin = io.MultiReader(d.Buffered(), stdin); c.Type == typ {
				return true
			}
			d = json.NewDecoder(stdin)
		}
		return false
	}
	now := func() int64 { return time.Now().UnixNano() }
	op := func(call, ret int64) string {
		return fmt.Sprintf(`{"type":"op","client":1,"op":"put","key":"k","value":"v","call":%d,"return":%d,"outcome":"ok"}`, call, ret)
	}
	switch how {
	case "good", "panics", "stubborn":
		if err := program.Serve(context.Background(), os.Stdin, os.Stdout, &double{panics: how == "panics"}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		if how == "stubborn" {
			select {}
		}
		return 0
	case "gives up":
		if err := program.Serve(context.Background(), os.Stdin, os.Stdout, &double{fails: errors.New("no such database")}); err != nil {
			fmt.Fprintln(os.Stderr, "giving up:", err)
			return 1
		}
		return 0
	case "dies at once":
		fmt.Fprintln(os.Stderr, "cannot find my configuration")
		return 3
	case "silent":
	case "old version":
		say(`{"type":"hello","version":99}`)
	case "nonsense":
		say(hello)
		hear("start")
		say("connected to the database")
	case "op before hello":
		say(op(now(), now()))
	case "op of last year":
		say(hello)
		hear("start")
		say(op(now()-int64(365*24*time.Hour), now()))
	case "op of next year":
		say(hello)
		hear("start")
		say(op(now(), now()+int64(365*24*time.Hour)))
	case "seconds":
		say(hello)
		hear("start")
		say(op(time.Now().Unix(), time.Now().Unix()))
	case "read in the work":
		say(hello)
		hear("start")
		say(fmt.Sprintf(`{"type":"op","op":"read","key":"k","found":false,"call":%d,"return":%d,"outcome":"ok"}`, now(), now()))
	case "done too early":
		say(hello)
		hear("start")
		say(`{"type":"done"}`)
	case "never done":
		say(hello)
		hear("start")
		say(op(now(), now()))
		hear("stop")
	case "dies in the work":
		say(hello)
		hear("start")
		say(op(now(), now()))
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "exits in the work":
		say(hello)
		hear("start")
		return 0
	case "long line":
		say(hello)
		hear("start")
		say(strings.Repeat("x", program.MaxLine+1))
	case "verify hangs":
		say(hello)
		hear("stop")
		say(`{"type":"done"}`)
		hear("verify")
	}
	hear("nothing that ever comes")
	return 0
}

var stdin io.Reader = os.Stdin

// double is a Client that writes to a map, and forgets nothing.
type double struct {
	mu     sync.Mutex
	kept   map[string]string
	panics bool
	fails  error
}

func (d *double) Work(ctx context.Context, s program.Start, h *program.History) error {
	if d.panics {
		panic("a bug in the program")
	}
	if d.fails != nil {
		return d.fails
	}
	d.kept = map[string]string{}
	var clients sync.WaitGroup
	for c := range 2 {
		clients.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				key := fmt.Sprintf("w-%d-%d-%d", s.Round, c, n)
				h.Do(c, program.Insert, key, s.Run+key, "", func() program.Result {
					d.mu.Lock()
					defer d.mu.Unlock()
					d.kept[key] = s.Run + key
					return program.Result{Outcome: program.OK}
				})
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	clients.Wait()
	return ctx.Err()
}

func (d *double) Verify(_ context.Context, _ program.Start, members []string, h *program.History) error {
	for _, m := range members {
		for k, v := range d.kept {
			h.Read(m, k, func() program.Result {
				return program.Result{Outcome: program.OK, Value: v, Found: true, Count: 1}
			})
		}
	}
	return nil
}

// process is an Execution on this machine.
type process struct {
	cmd *exec.Cmd
}

func (p process) Wait() (cluster.Exit, error) {
	_ = p.cmd.Wait() // the state says it all
	s := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if s.Signaled() {
		return cluster.Exit{Code: -1, Signal: unix.SignalName(s.Signal())}, nil
	}
	return cluster.Exit{Code: s.ExitStatus()}, nil
}

func (p process) Signal(string) error { return errors.New("not used") }

// execEnv runs programs as this test binary, acting as argv says.
func execEnv(t *testing.T) (Env, *memory) {
	top := replicastest.New(t)
	for _, n := range []string{"db-1", "db-2"} {
		top.Member(n, "db", newService().handler)
	}
	top.Service("api", 1, newService().handler)
	e, m := env(t, top)
	var copying sync.WaitGroup
	t.Cleanup(copying.Wait)
	e.Cluster = topology{top, func(ctx context.Context, node string, p cluster.Process) (cluster.Execution, error) {
		if node != cluster.Client {
			return nil, &cluster.UnknownNodeError{Name: node}
		}
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), "GAUNTLET_TEST_PROGRAM="+strings.Join(p.Argv[1:], " "))
		cmd.Stdout, cmd.Stderr = p.Stdout, p.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		copying.Go(func() {
			_, _ = io.Copy(in, p.Stdin)
			_ = in.Close()
		})
		return process{cmd}, nil
	}}
	return e, m
}

func execPlan(how string) plan.Workload {
	return plan.Workload{Name: "mine", Kind: KindExec, To: "db", Seed: 5, Timeout: plan.Duration(100 * time.Millisecond), Exec: append([]string{"program"}, strings.Fields(how)...)}
}

func TestAProgramThatIsRight(t *testing.T) {
	for _, how := range []string{"good", "stubborn"} {
		t.Run(how, func(t *testing.T) {
			e, m := execEnv(t)
			work(t, execPlan(how), e, 300*time.Millisecond, nil)
			inserts, reads := 0, map[string]int{}
			for _, o := range m.all() {
				require.Equal(t, 3, o.Round)
				require.Equal(t, record.OK, o.Outcome)
				require.GreaterOrEqual(t, o.Return, o.Call)
				require.Greater(t, o.Call, time.Duration(0))
				require.Less(t, o.Return, m.At(time.Now()))
				if o.Verify {
					require.Equal(t, "read", o.Kind)
					require.True(t, *o.Found)
					require.Equal(t, 1, o.Count)
					reads[o.Member]++
					continue
				}
				require.Equal(t, "insert", o.Kind)
				require.Equal(t, "run7"+o.Key, o.Value)
				inserts++
			}
			assert.Greater(t, inserts, 4)
			assert.Equal(t, map[string]int{"db-1": inserts, "db-2": inserts}, reads, "the members of the group were read, and no other node")
			require.Equal(t, 1, len(m.evs))
			assert.Empty(t, m.evs[0].Error)
			var stats record.WorkloadStats
			require.NoError(t, json.Unmarshal(m.evs[0].Data, &stats))
			assert.Equal(t, record.WorkloadStats{OK: inserts, Read: 2 * inserts}, stats)
			_, err := os.Stat(filepath.Join(m.dir, "logs", "mine.workload.log"))
			assert.NoError(t, err)
		})
	}
}

// Each way in which a program can be wrong is an error that says what it did, and ends up in the record.
func TestProgramsThatAreWrong(t *testing.T) {
	for how, want := range map[string][]string{
		"dies at once":      {"ended with status 3 before it was told to", "cannot find my configuration"},
		"old version":       {"line 1", "speaks version 99", "this is version 1"},
		"nonsense":          {"line 2", "no JSON object", "connected to the database"},
		"op before hello":   {"line 1", "op comes when hello is expected"},
		"op of last year":   {"line 2", "before the start", "nanoseconds"},
		"op of next year":   {"line 2", "after it was received", "nanoseconds"},
		"seconds":           {"line 2", "before the start", "nanoseconds"},
		"read in the work":  {"line 2", "op comes when op is expected"},
		"done too early":    {"line 2", "done comes when op is expected"},
		"dies in the work":  {"ended by SIGKILL before it was told to"},
		"exits in the work": {"ended with status 0 before it was told to"},
		"long line":         {"line 2", "more than 1048576 bytes"},
		"gives up":          {"the program gave up", "no such database"},
		"panics":            {"ended with status 2", "logs/mine.workload.log ends with"},
		"verify hangs":      {"verify did not end: enough"},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			e, m := execEnv(t)
			x, err := New(execPlan(how), e)
			require.NoError(t, err)
			prepared := x.Prepare(t.Context())
			if prepared == nil {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				if how == "verify hangs" {
					cancel()
				}
				ran := x.Run(ctx)
				prepared = ran
				if ctx.Err() == nil || how == "verify hangs" {
					verify, enough := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, errors.New("enough"))
					err := x.Verify(verify)
					enough()
					prepared = errors.Join(ran, err)
				}
				cancel()
			}
			require.NoError(t, x.Close())
			require.NoError(t, x.Close(), "closing twice is one closing")
			require.Equal(t, 1, len(m.evs))
			for _, w := range want {
				require.ErrorContains(t, prepared, w)
				require.Contains(t, m.evs[0].Error, w)
			}
			require.ErrorContains(t, prepared, "workload mine")
		})
	}
}

func TestAProgramThatIsNeverDone(t *testing.T) {
	e, m := execEnv(t)
	x, err := newExec(execPlan("never done"), e)
	require.NoError(t, err)
	x.grace = 50 * time.Millisecond
	require.NoError(t, x.Prepare(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	x.hist.rec = &afterOps{Recorder: m, then: cancel}
	require.ErrorContains(t, x.Run(ctx), "did not say done within 150ms of stop")
	require.NoError(t, x.Close())
	assert.Contains(t, m.evs[0].Error, "did not say done")
	assert.EqualValues(t, 1, x.Acked())
}

func TestAProgramThatSaysNothing(t *testing.T) {
	e, m := execEnv(t)
	x, err := newExec(execPlan("silent"), e)
	require.NoError(t, err)
	x.hello = 50 * time.Millisecond
	require.ErrorContains(t, x.Prepare(t.Context()), "it said nothing within 50ms of its start")
	require.NoError(t, x.Close())
	assert.Contains(t, m.evs[0].Error, "said nothing")
}

func TestAProgramThatCannotBeStarted(t *testing.T) {
	e, m := execEnv(t)
	w := execPlan("good")
	w.In = "nowhere"
	x, err := New(w, e)
	require.NoError(t, err)
	require.ErrorContains(t, x.Prepare(t.Context()), "starting program in nowhere: no node is called nowhere")
	require.NoError(t, x.Close())
	assert.Contains(t, m.evs[0].Error, "no node is called nowhere")
}

func TestAWorkloadThatNeverRan(t *testing.T) {
	e, m := execEnv(t)
	x, err := New(execPlan("good"), e)
	require.NoError(t, err)
	require.NoError(t, x.Close())
	require.Equal(t, 1, len(m.evs))
}

// afterOps calls a function after the first operation.
type afterOps struct {
	Recorder
	then func()
}

func (a *afterOps) Op(w string, o record.Op) {
	a.Recorder.Op(w, o)
	a.then()
}

// FuzzOutput gives the reader what a program might print, cut anywhere.
func FuzzOutput(f *testing.F) {
	f.Add([]byte("{\"type\":\"hello\",\"version\":1}\n{\"type\":\"op\",\"op\":\"put\",\"key\":\"k\",\"call\":1,\"return\":2,\"outcome\":\"ok\"}\n"), 3)
	f.Add([]byte("{\"type\":\"done\"}\nnull\n[]\n{}"), 1)
	f.Add([]byte("\x00\xff\n\n"), 0)
	f.Fuzz(func(t *testing.T, out []byte, cut int) {
		m := &memory{start: time.Now()}
		x := &external{hist: history{rec: m}, env: Env{Record: m}, state: working, moved: make(chan struct{})}
		x.out.handle = x.line
		at := max(0, min(cut, len(out)))
		for _, p := range [][]byte{out[:at], out[at:]} {
			if n, err := x.out.Write(p); n != len(p) || err != nil {
				t.Fatalf("wrote %d of %d: %v", n, len(p), err)
			}
		}
		x.out.flush()
		// However it was cut, the same was read.
		whole := &memory{start: m.start}
		y := &external{hist: history{rec: whole}, env: Env{Record: whole}, state: working, moved: make(chan struct{})}
		y.out.handle = y.line
		_, _ = y.out.Write(out)
		y.out.flush()
		if len(m.all()) != len(whole.all()) || (x.err == nil) != (y.err == nil) {
			t.Fatalf("cut at %d: %d operations, %v; whole: %d, %v", at, len(m.all()), x.err, len(whole.all()), y.err)
		}
	})
}
