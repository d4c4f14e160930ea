package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// links is a cluster of which only the links are there: probes meet on loopback, and what a rule does to them is said by
// the test.
type links struct {
	cluster.Cluster // nil: whatever else a fault asks for panics
	mu              sync.Mutex
	at              map[string]string // address -> node
	dial            func(ctx context.Context, l cluster.Link) error
	wrap            func(net.Conn) net.Conn // what a toxic does to a probe; nil: nothing
	dials           map[cluster.Link]int
	counted         map[cluster.Link]uint64 // traffic
	probed          map[cluster.Link]uint64
	apply           func(ctx context.Context) error
	applied         []cluster.Link
	rule            cluster.Rule
	bytes           uint64 // that each link counted
	removed         []cluster.RuleID
	deaf            bool // the plane goes on with what was removed
	silent          bool // the plane does not say what its rules have counted
	states          map[string]cluster.State
	begun           map[string]time.Time // when nodes were started; none: at the zero time
	pause           func(ctx context.Context, node string) error
	resumed         []string
	started         []string
	away            map[string]bool // nodes that were scaled away
	listed          bool            // and are among the nodes still
	exec            func(ctx context.Context) (cluster.Execution, error)
}

func newLinks() *links {
	return &links{at: map[string]string{}, dials: map[cluster.Link]int{}, counted: map[cluster.Link]uint64{}, probed: map[cluster.Link]uint64{}, states: map[string]cluster.State{}}
}

func (c *links) Listen(_ context.Context, node string) (net.Listener, error) {
	if err := c.known(node); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.at[l.Addr().String()] = node
	}
	return l, err
}

func (c *links) known(node string) error {
	if c.away[node] {
		return &cluster.UnknownNodeError{Name: node}
	}
	return nil
}

func (c *links) Nodes() (ns []cluster.NodeInfo) {
	for _, n := range []string{"a", "b", "c"} {
		if !c.away[n] || c.listed {
			ns = append(ns, cluster.NodeInfo{Name: n})
		}
	}
	return ns
}

func (c *links) Dial(ctx context.Context, from, network, addr string) (net.Conn, error) {
	if err := c.known(from); err != nil {
		return nil, err
	}
	c.mu.Lock()
	l := cluster.Link{From: from, To: c.at[addr]}
	c.dials[l]++
	c.mu.Unlock()
	if c.dial != nil {
		if err := c.dial(ctx, l); err != nil {
			return nil, err
		}
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	if err == nil && c.wrap != nil {
		conn = c.wrap(conn)
	}
	return conn, err
}

func (c *links) Apply(ctx context.Context, ls []cluster.Link, r cluster.Rule) (cluster.RuleID, error) {
	c.rule = r
	if c.apply != nil {
		if err := c.apply(ctx); err != nil {
			return 0, err
		}
	}
	c.applied = ls
	return 7, nil
}

func (c *links) Remove(_ context.Context, id cluster.RuleID) error {
	c.removed = append(c.removed, id)
	return nil
}

func (c *links) Counters(_ context.Context, id cluster.RuleID) (cs []cluster.Counter, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.silent {
		return nil, errors.New("the plane does not answer")
	}
	if slices.Contains(c.removed, id) && !c.deaf {
		return nil, &cluster.UnknownRuleError{ID: id}
	}
	for _, l := range c.applied {
		cs = append(cs, cluster.Counter{Link: l, Packets: c.counted[l], Bytes: c.bytes, Probes: c.probed[l]})
	}
	return cs, nil
}

func (c *links) Status(n string) (cluster.Status, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return cluster.Status{State: c.states[n], Started: c.begun[n]}, c.known(n)
}

func (c *links) Pause(ctx context.Context, n string) error { return c.pause(ctx, n) }
func (c *links) Resume(_ context.Context, n string) error {
	c.resumed = append(c.resumed, n)
	c.states[n] = cluster.StateRunning
	return c.known(n)
}
func (c *links) Kill(context.Context, string) (cluster.Exit, error) {
	return cluster.Exit{Code: -1, Signal: "SIGKILL"}, nil
}
func (c *links) Stop(context.Context, string) (cluster.Exit, error) { return cluster.Exit{}, nil }
func (c *links) Start(_ context.Context, n string) error {
	c.started = append(c.started, n)
	return c.known(n)
}
func (c *links) Hold(string) func()                           { return func() {} }
func (c *links) AwaitReady(_ context.Context, n string) error { return c.known(n) }
func (c *links) Exec(ctx context.Context, _ string, _ cluster.Process) (cluster.Execution, error) {
	return c.exec(ctx)
}

// inject injects with a ctx and gives the undo.
func inject(ctx context.Context, c cluster.Cluster, p Params) (*Effect, func(context.Context) error, error) {
	var steps []func(context.Context) error
	e, err := p.Inject(ctx, &Env{Cluster: c,
		Resolve: func(_ context.Context, t plan.Target) ([]string, error) {
			switch t.Any + t.Node + t.Group {
			case "all":
				return []string{"a", "b", "c"}, nil
			}
			return []string{t.Any + t.Node + t.Group}, nil
		},
		Undo: func(_ string, step func(context.Context) error) { steps = append(steps, step) },
	})
	return e, func(ctx context.Context) error {
		var errs []error
		for _, s := range slices.Backward(steps) {
			errs = append(errs, s(ctx))
		}
		return errors.Join(errs...)
	}, err
}

func params(t *testing.T, kind, text string) Params {
	t.Helper()
	k, ok := ByName(kind)
	require.True(t, ok)
	p := k.New()
	require.NoError(t, json.Unmarshal([]byte(text), p))
	require.NoError(t, p.Validate())
	return p
}

func TestNoJitterIsSoWideThatAnyProbeProvesTheDelay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		time := plan.Duration(rapid.Int64Range(1e6, 30e9).Draw(t, "time"))
		jitter := plan.Duration(rapid.Int64Range(0, int64(time)).Draw(t, "jitter"))
		d := &Delay{Ends: Ends{"a", "b"}, Time: plan.Span{Lo: time, Hi: time}, Jitter: plan.Span{Lo: jitter, Hi: jitter},
			Distribution: rapid.SampledFrom([]string{"", "uniform", "normal", "pareto"}).Draw(t, "distribution")}
		require.NoError(t, d.Validate())
		assert.GreaterOrEqual(t, d.floor(), time.D())
		assert.LessOrEqual(t, d.floor(), 2*time.D())
		l := &Latency{ToxicEnds: ToxicEnds{Ends: d.Ends}, Latency: d.Time, Jitter: d.Jitter}
		require.NoError(t, l.Validate())
		assert.GreaterOrEqual(t, l.floor(), time.D()/2)
		assert.LessOrEqual(t, l.floor(), time.D())
	})
	assert.Equal(t, 100*time.Millisecond, params(t, "delay", `{"from":"a","to":"b","time":"50ms"}`).(*Delay).floor())
}

func TestALinkThatIsNotSlowedIsNotProved(t *testing.T) {
	for _, c := range []struct{ kind, params string }{
		{"delay", `{"from":"a","to":"b","time":"50ms","jitter":"20ms","distribution":"normal"}`},
		{"delay", `{"from":"a","to":"b","time":"50ms","jitter":"50ms"}`},
		{"latency", `{"from":"a","to":"b","latency":"50ms","jitter":"50ms"}`},
		{"drop", `{"from":"a","to":"b"}`},
		{"reject", `{"from":"a","to":"b"}`},
	} {
		t.Run(c.kind, func(t *testing.T) {
			f := newLinks()
			f.probed[cluster.Link{From: "a", To: "b"}] = 3
			e, _, err := inject(t.Context(), f, params(t, c.kind, c.params))
			require.NoError(t, err)
			_, err = e.Prove(t.Context())
			require.ErrorIs(t, err, ErrNotYet)
		})
	}
}

func TestAProofNeedsTheRulesOwnCounter(t *testing.T) {
	f := newLinks()
	f.dial = func(ctx context.Context, _ cluster.Link) error { <-ctx.Done(); return ctx.Err() } // something else drops
	e, _, err := inject(t.Context(), f, params(t, "drop", `{"from":"a","to":"b"}`))
	require.NoError(t, err)
	_, err = e.Prove(t.Context())
	require.ErrorIs(t, err, ErrNotYet)
	require.ErrorContains(t, err, "did not count the probe")
	f.probed[cluster.Link{From: "a", To: "b"}] = 1
	said, err := e.Prove(t.Context())
	require.NoError(t, err)
	assert.Contains(t, said, "1 of 1 probes got no answer")
	// The probe was all that there was: nothing was bitten.
	_, err = e.Bitten(t.Context())
	require.ErrorIs(t, err, ErrNotYet)
	f.counted[cluster.Link{From: "a", To: "b"}] = 2
	said, err = e.Bitten(t.Context())
	require.NoError(t, err)
	assert.Contains(t, said, "2 packets dropped on 1 of 1 links")
}

func TestALinkThatWasSlowOnceIsNotProbedAgain(t *testing.T) {
	f := newLinks()
	slow := cluster.Link{From: "a", To: "b"}
	f.dial = func(_ context.Context, l cluster.Link) error {
		f.mu.Lock()
		f.probed[l]++
		again := f.dials[l] > 1
		f.mu.Unlock()
		if l == slow || again {
			time.Sleep(210 * time.Millisecond) // a draw above the floor; the first of the other link is below
		}
		return nil
	}
	e, _, err := inject(t.Context(), f, params(t, "delay", `{"from":"a","to":"all","time":"200ms","jitter":"200ms"}`))
	require.NoError(t, err)
	assert.Equal(t, 800*time.Millisecond, e.Patience)
	_, err = e.Prove(t.Context())
	require.ErrorIs(t, err, ErrNotYet)
	said, err := e.Prove(t.Context())
	require.NoError(t, err)
	assert.Contains(t, said, "over 2 links")
	assert.Equal(t, 1, f.dials[slow])
	assert.Equal(t, 2, f.dials[cluster.Link{From: "a", To: "c"}])
}

func TestAProbeThatIsSlowStillIsNotGone(t *testing.T) {
	f := newLinks()
	f.dial = func(context.Context, cluster.Link) error { time.Sleep(210 * time.Millisecond); return nil }
	e, _, err := inject(t.Context(), f, params(t, "delay", `{"from":"a","to":"b","time":"200ms","jitter":"200ms"}`))
	require.NoError(t, err)
	gone := e.Healed(e.Links)
	_, err = gone(t.Context())
	require.ErrorIs(t, err, ErrNotYet, "an interval that the delay itself may draw proves nothing")
	f.dial = nil
	_, err = gone(t.Context())
	require.NoError(t, err)
}

func TestARuleIsSetOrNotWhateverBecomesOfTheRun(t *testing.T) {
	f := newLinks()
	ctx, cancel := context.WithCancel(t.Context())
	f.apply = func(ctx context.Context) error {
		cancel() // the run is interrupted while the plane works on it
		return ctx.Err()
	}
	_, undo, err := inject(ctx, f, params(t, "drop", `{"from":"a","to":"b"}`))
	require.NoError(t, err)
	require.NoError(t, undo(context.WithoutCancel(ctx)))
	assert.Equal(t, []cluster.RuleID{7}, f.removed)
}

func TestARuleThatWasRefusedHasNothingToRemove(t *testing.T) {
	f := newLinks()
	f.apply = func(context.Context) error { return errors.New("no such table") }
	_, undo, err := inject(t.Context(), f, params(t, "drop", `{"from":"a","to":"b"}`))
	require.ErrorContains(t, err, "set a rule on a -> b: no such table")
	require.NoError(t, undo(t.Context()))
	assert.Empty(t, f.removed)
}

// A probe is answered also where the rule that may spare it is still there.
func TestARuleThatSparesProbesIsGoneWhenThePlaneDoesNotKnowIt(t *testing.T) {
	for _, c := range []struct{ kind, params string }{
		{"latency", `{"from":"a","to":"b","latency":"100ms","toxicity":"30%"}`},
		{"limit_data", `{"from":"a","to":"b","bytes":100000000}`},
		{"http-error", `{"from":"a","to":"b","status":503}`},
		{"grpc-error", `{"from":"a","to":"b","code":"UNAVAILABLE"}`},
	} {
		t.Run(c.kind, func(t *testing.T) {
			f := newLinks()
			f.deaf = true
			e, undo, err := inject(t.Context(), f, params(t, c.kind, c.params))
			require.NoError(t, err)
			require.NoError(t, undo(t.Context()))
			gone := e.Healed(e.Links)
			_, err = gone(t.Context())
			require.ErrorContains(t, err, "the plane still has the rule on a -> b")
			f.silent = true
			_, err = gone(t.Context())
			require.ErrorContains(t, err, "the plane does not answer")
			f.deaf, f.silent = false, false
			said, err := gone(t.Context())
			require.NoError(t, err)
			assert.Contains(t, said, "the plane has removed the rule; 1 of 1 probes were answered")
		})
	}
}

func TestPauseIsNotInterruptedAndOnlyWhatIsPausedIsResumed(t *testing.T) {
	f := newLinks()
	f.states = map[string]cluster.State{"a": cluster.StateRunning, "b": cluster.StateRunning, "c": cluster.StateExited}
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	f.pause = func(ctx context.Context, n string) error {
		cancel()
		if n == "c" {
			return fmt.Errorf("%s is exited", n)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		mu.Lock()
		defer mu.Unlock()
		f.mu.Lock()
		defer f.mu.Unlock()
		f.states[n] = cluster.StatePaused
		return nil
	}
	_, undo, err := inject(ctx, f, params(t, "pause", `{"group":"all"}`))
	require.ErrorContains(t, err, "c is exited")
	require.NoError(t, undo(context.WithoutCancel(ctx)))
	assert.Equal(t, []string{"b", "a"}, f.resumed)
}

type ended0 struct{}

func (ended0) Wait() (cluster.Exit, error) { return cluster.Exit{}, nil }
func (ended0) Signal(string) error         { return nil }

func TestALoopGoesOnWhenItsNodeComesBackOrSaysThatItEnded(t *testing.T) {
	for _, c := range []struct {
		exit string
		bad  bool
	}{{`,"exit":"any"`, false}, {``, true}} {
		f := newLinks()
		starts := make(chan int, 100)
		n := 0
		f.exec = func(ctx context.Context) (cluster.Execution, error) {
			n++
			switch {
			case n == 2:
				return nil, errors.New("the node is exited")
			case n > 4:
				<-ctx.Done()
				return nil, ctx.Err()
			}
			starts <- n
			return ended0{}, nil
		}
		e, undo, err := inject(t.Context(), f, params(t, "do", `{"exec":["compact"],"in":"a","background":true,"loop":true`+c.exit+`}`))
		require.NoError(t, err)
		assert.Equal(t, 1, <-starts)
		if !c.bad {
			assert.Equal(t, 3, <-starts)
			assert.Equal(t, 4, <-starts)
		}
		if c.bad {
			for begin := time.Now(); err == nil && time.Since(begin) < 5*time.Second; time.Sleep(time.Millisecond) {
				_, err = e.Bitten(t.Context())
			}
			require.ErrorContains(t, err, "start compact in a again: the node is exited")
		}
		require.NoError(t, undo(t.Context())) // waits for the loop
		if c.bad {
			continue
		}
		said, err := e.Bitten(t.Context())
		require.NoError(t, err)
		assert.Contains(t, said, "started 3 times")
	}
}
