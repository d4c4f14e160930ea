package supervise

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

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
	term := asked{syscall.SIGTERM, now}
	require.True(t, term.explains(cluster.Exit{At: now.Add(time.Second)}, 2*time.Second))
	require.False(t, term.explains(cluster.Exit{At: now.Add(3 * time.Second)}, 2*time.Second))
	require.True(t, asked{syscall.SIGUSR1, now}.explains(cluster.Exit{Code: -1, Signal: "SIGUSR1", At: now}, 0))
	require.False(t, asked{syscall.SIGHUP, now}.explains(cluster.Exit{Code: 1, At: now}, time.Minute), "a reload that fails is a death of its own")
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
