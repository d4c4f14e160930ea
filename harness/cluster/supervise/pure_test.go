package supervise

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
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

func TestSignals(t *testing.T) {
	for _, s := range []string{"SIGHUP", "HUP", "hup", "1"} {
		sig, err := ParseSignal(s)
		require.NoError(t, err)
		require.Equal(t, syscall.SIGHUP, sig)
	}
	for _, s := range []string{"", "0", "65", "-9", "NOPE"} {
		_, err := ParseSignal(s)
		require.Error(t, err, s)
	}
	now := time.Now()
	term, kill := asked{syscall.SIGTERM, now, false}, asked{syscall.SIGKILL, now, false}
	require.True(t, term.explains(cluster.Exit{At: now.Add(2 * time.Second)}, 2*time.Second))
	require.False(t, term.explains(cluster.Exit{At: now.Add(3 * time.Second)}, 2*time.Second))
	require.True(t, kill.explains(cluster.Exit{Code: -1, Signal: "SIGKILL", At: now.Add(time.Second)}, 2*time.Second))
	require.False(t, kill.explains(cluster.Exit{Code: -1, Signal: "SIGKILL", At: now.Add(time.Minute)}, 2*time.Second), "a later one is another's")
	require.True(t, asked{syscall.SIGTERM, now, true}.explains(cluster.Exit{At: now.Add(time.Hour)}, 2*time.Second), "it was paused until then")
	require.True(t, asked{syscall.SIGUSR1, now, false}.explains(cluster.Exit{Code: -1, Signal: "SIGUSR1", At: now}, 0))
	require.False(t, asked{syscall.SIGHUP, now, false}.explains(cluster.Exit{Code: 1, At: now}, time.Minute), "a reload that fails is a death of its own")
}

// stubborn is a place whose program ends by SIGKILL alone.
type stubborn struct {
	Place
	run *run
}

func (stubborn) Terminate(context.Context, syscall.Signal, bool) error { return nil }
func (s stubborn) Kill(context.Context) error {
	s.run.exited(cluster.Exit{Code: -1, Signal: "SIGKILL", At: time.Now()}, "")
	close(s.run.written)
	return nil
}

func TestTheGraceOfAStop(t *testing.T) {
	for _, grace := range []time.Duration{0, time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			top := &Topology{life: t.Context(), died: make(chan struct{}), events: newEvents(nil)}
			defer top.events.close()
			n := &Node{t: top, Service: &cluster.Service{StopGrace: grace}, state: cluster.StateRunning, changed: make(chan struct{})}
			n.run = &run{node: n, alive: true, ended: make(chan struct{}), written: make(chan struct{})}
			n.place = stubborn{run: n.run}
			begin := time.Now()
			exit, err := n.stop(t.Context())
			require.NoError(t, err)
			require.Equal(t, "SIGKILL", exit.Signal)
			require.Equal(t, grace, time.Since(begin))
		})
	}
}

// TestWhatEndsWithTheGraceIsNotKilled: a death is not followed by the signal that is to bring it about, also when it is not told of yet.
func TestWhatEndsWithTheGraceIsNotKilled(t *testing.T) {
	for name, told := range map[string]bool{"told": true, "not told yet": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var seen []cluster.EventKind
				top := &Topology{life: t.Context(), died: make(chan struct{}), events: newEvents(func(e cluster.Event) { seen = append(seen, e.Kind) })}
				n := &Node{t: top, Service: &cluster.Service{}, state: cluster.StateRunning, place: deaf{}, changed: make(chan struct{})}
				n.run = &run{node: n, alive: true, ended: make(chan struct{}), written: make(chan struct{})}
				close(n.run.written)
				sent := n.sending(syscall.SIGTERM)
				n.run.exited(cluster.Exit{Code: 3, At: time.Now()}, "")
				if told {
					sent(false, false)
				}
				killed := make(chan cluster.Exit)
				go func() {
					exit, err := n.killRest(t.Context(), n.run)
					assert.NoError(t, err)
					killed <- exit
				}()
				synctest.Wait()
				if !told {
					sent(false, false)
				}
				require.Equal(t, 3, (<-killed).Code)
				top.events.close()
				require.Equal(t, []cluster.EventKind{cluster.NodeExited}, seen)
			})
		})
	}
}

// TestADeathBesideASignal: whether a death is the signal's doing is known when it is known who got the signal, whichever comes first.
func TestADeathBesideASignal(t *testing.T) {
	for name, got := range map[string]struct {
		program, any bool
		told         []cluster.EventKind
	}{
		"the program got it":     {true, true, []cluster.EventKind{cluster.NodeSignalled}},
		"another process got it": {false, true, []cluster.EventKind{cluster.ProcessSignalled}},
		"nobody got it":          {false, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var seen []cluster.Event
			top := &Topology{life: t.Context(), events: newEvents(func(e cluster.Event) { seen = append(seen, e) })}
			n := &Node{t: top, Service: &cluster.Service{}, state: cluster.StateRunning, changed: make(chan struct{})}
			n.run = &run{node: n, alive: true, ended: make(chan struct{})}
			sent := n.sending(syscall.SIGTERM)
			n.run.exited(cluster.Exit{Code: 2, At: time.Now()}, "")
			require.Equal(t, cluster.StateRunning, n.present(), "nobody knows yet")
			sent(got.program, got.any)
			require.Equal(t, cluster.StateExited, n.present())
			top.events.close()
			death := seen[len(seen)-1]
			require.Equal(t, cluster.NodeExited, death.Kind)
			require.Equal(t, got.program, death.Announced)
			require.Len(t, seen, len(got.told)+1)
			for i, kind := range got.told {
				require.Equal(t, []any{kind, "SIGTERM"}, []any{seen[i].Kind, seen[i].Detail})
				require.True(t, seen[i].At.Before(death.At), "its time is before the sending")
			}
		})
	}
}

// hanging is a place whose carrier does not answer.
type hanging struct{ Place }

func (hanging) Terminate(ctx context.Context, _ syscall.Signal, _ bool) error {
	<-ctx.Done()
	return ctx.Err()
}

// deaf is a place whose program does not end.
type deaf struct{ Place }

func (deaf) Terminate(context.Context, syscall.Signal, bool) error { return nil }
func (deaf) Kill(context.Context) error                            { return nil }

func TestAStopEndsThoughNothingAnswers(t *testing.T) {
	for name, place := range map[string]Place{"the carrier hangs": hanging{}, "the death is never told": deaf{}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				top := &Topology{life: t.Context(), died: make(chan struct{}), events: newEvents(nil)}
				defer top.events.close()
				n := &Node{t: top, Service: &cluster.Service{StopGrace: time.Second}, state: cluster.StateRunning, place: place, changed: make(chan struct{})}
				n.run = &run{node: n, alive: true, ended: make(chan struct{})}
				begin := time.Now()
				_, err := n.stop(t.Context())
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.LessOrEqual(t, time.Since(begin), time.Second+orderTime)
			})
		})
	}
}

// TestADownThatIsOverAnnounces: what is not stopped in an orderly way any more ends with the plane, and by the harness's doing.
func TestADownThatIsOverAnnounces(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	top := &Topology{}
	n := &Node{t: top, Service: &cluster.Service{}, op: make(semaphore, 1), state: cluster.StateRunning}
	n.run = &run{node: n, alive: true}
	require.NoError(t, n.op.lock(over), "what is free is taken")
	top.stopForDown(over, n) // another is changing it
	require.True(t, n.run.announced)
	require.False(t, n.wanted)
}

// stuck is a place where one of the processes does not stop.
type stuck struct {
	Place
	cancel  context.CancelFunc
	resumed int
}

func (s *stuck) Pause(context.Context) error {
	s.cancel()
	return errors.New("one did not stop")
}

func (s *stuck) Resume(ctx context.Context) error {
	s.resumed++
	return ctx.Err()
}

func TestWhatAPauseThatFailsHasStoppedGoesOn(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	top := &Topology{life: t.Context(), events: newEvents(nil)}
	defer top.events.close()
	p := &stuck{cancel: cancel}
	top.nodes = map[string]*Node{"a": {t: top, Service: &cluster.Service{}, op: make(semaphore, 1), state: cluster.StateRunning, place: p}}
	err := top.Pause(ctx, "a")
	require.EqualError(t, err, "pause node a: one did not stop", "the end of the run does not keep it stopped")
	require.Equal(t, 1, p.resumed)
	require.Equal(t, cluster.StateRunning, top.nodes["a"].present())
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

func TestLogLines(t *testing.T) {
	l, err := openLog(filepath.Join(t.TempDir(), "logs", "n.log"))
	require.NoError(t, err)
	l.CopyLines(strings.NewReader("one\ntwo\nno end"))
	l.CopyLines(strings.NewReader(strings.Repeat("x", 3*maxLine)))
	l.CopyLines(strings.NewReader("after\n"))
	require.NoError(t, errors.Join(l.err, l.close()))
	b, err := os.ReadFile(l.path)
	require.NoError(t, err)
	lines := strings.Split(string(b), "\n")
	require.Equal(t, []string{"one", "two", "no end"}, lines[:3])
	require.Equal(t, "after", lines[len(lines)-2])
	require.Equal(t, 3*maxLine, strings.Count(string(b), "x"))
	last, err := LastLines(l.path, 0, 2)
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(last, "\nafter"))
	none, err := LastLines(l.path, int64(len(b)), 2)
	require.NoError(t, err)
	require.Empty(t, none)
}
