package faults

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/plan"
)

// oneLoad is a load, of 100/s unless it says otherwise, that sends a share of what is due.
type oneLoad struct {
	mu      sync.Mutex
	plan    float64
	share   float64
	change  plan.RateChange
	changes int
	backed  int
	deaf    bool // it goes on as before when it is given back
	at      time.Time
	due     float64
	planned float64
	sent    float64
	ended   bool
}

func newOneLoad() *oneLoad {
	return &oneLoad{plan: 100, share: 1, change: plan.RateChange{Times: 1}, at: time.Now()}
}

func (l *oneLoad) rate() float64 {
	if len(l.change.Stages) > 0 {
		return l.change.Stages[0].To
	}
	return l.plan * l.change.Times
}

func (l *oneLoad) goOn() {
	d := time.Since(l.at).Seconds()
	l.at = time.Now()
	l.planned += l.plan * d
	l.due += l.rate() * d
	if !l.ended {
		l.sent += l.rate() * l.share * d
	}
}

func (l *oneLoad) Change(load string, c plan.RateChange) (func() error, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if load != "web" {
		return nil, errors.New("no load that runs is called " + load)
	}
	l.goOn()
	l.change = c
	l.changes++
	return func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.goOn()
		l.backed++
		if !l.deaf {
			l.change = plan.RateChange{Times: 1}
		}
		return nil
	}, nil
}

func (l *oneLoad) Changes(string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changes
}

func (l *oneLoad) Progress(string) (plan.LoadProgress, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.goOn()
	return plan.LoadProgress{At: plan.Duration(l.planned / l.plan * 1e9), Due: uint64(l.due), Planned: uint64(l.planned), Sent: uint64(l.sent), Rate: l.rate(), PlannedRate: l.plan, Ended: l.ended}, nil
}

func inflictLoad(t *testing.T, l Loads, kind, params string) (*Effect, func() error, error) {
	t.Helper()
	k, ok := ByName(kind)
	require.True(t, ok)
	p := k.New()
	require.NoError(t, json.Unmarshal([]byte(params), p))
	require.NoError(t, p.Validate())
	var undo []func(context.Context) error
	e, err := p.Inject(t.Context(), &Env{Loads: l, Undo: func(_ string, s func(context.Context) error) { undo = append(undo, s) }})
	return e, func() error {
		var errs []error
		for _, s := range undo {
			errs = append(errs, s(t.Context()))
		}
		return errors.Join(errs...)
	}, err
}

// soon polls a proof for up to five seconds of fake time.
func soon(t *testing.T, prove func(context.Context) (string, error)) (string, error) {
	var said string
	var err error
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if said, err = prove(t.Context()); !errors.Is(err, ErrNotYet) {
			break
		}
	}
	return said, err
}

func TestASpikeIsProvedByWhatIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newOneLoad()
		e, undo, err := inflictLoad(t, l, "spike", `{"load":"web","rate":"3x"}`)
		require.NoError(t, err)
		assert.Equal(t, plan.RateChange{Times: 3}, l.change)
		_, err = e.Prove(t.Context())
		require.ErrorIs(t, err, ErrNotYet, "a rate takes time to be measured")
		said, err := soon(t, e.Prove)
		require.NoError(t, err)
		assert.Contains(t, said, "300/s")
		time.Sleep(2 * time.Second)
		said, err = e.Bitten(t.Context())
		require.NoError(t, err)
		assert.Regexp(t, `^6\d\d requests of web sent in 2\.2s \(300/s\), 6\d\d due, 2\d\d by the plan$`, said)
		require.NoError(t, undo())
		assert.Equal(t, 1, l.backed)
		said, err = soon(t, e.Gone)
		require.NoError(t, err)
		assert.Contains(t, said, "100/s")
	})
}

func TestASpikeThatIsNotSentIsNoSpike(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newOneLoad()
		l.share = 0.5
		e, undo, err := inflictLoad(t, l, "spike", `{"load":"web","rate":"500/s"}`)
		require.NoError(t, err)
		_, err = soon(t, e.Prove)
		require.ErrorIs(t, err, ErrNotYet)
		assert.ErrorContains(t, err, "were due")
		_, err = e.Bitten(t.Context())
		require.ErrorIs(t, err, ErrNotYet)
		l.deaf, l.share = true, 1
		require.NoError(t, undo())
		_, err = soon(t, e.Gone)
		require.ErrorContains(t, err, "not the planned 100/s")
	})
}

// What a load sends after a change is another fault's by the time that the end of this one is measured.
func TestOfTwoChangesTheSecondProvesTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct{ after, lasts time.Duration }{
			"at once":              {0, 10 * time.Second},
			"while it is measured": {100 * time.Millisecond, 10 * time.Second},
			"and over soon":        {50 * time.Millisecond, 100 * time.Millisecond},
		} {
			l := newOneLoad()
			one, undo, err := inflictLoad(t, l, "spike", `{"load":"web","rate":"3x"}`)
			require.NoError(t, err, name)
			time.Sleep(time.Second)
			require.NoError(t, undo(), name)
			_, err = one.Gone(t.Context())
			require.ErrorIs(t, err, ErrNotYet, "%s: a rate takes time to be measured", name)
			time.Sleep(c.after)
			l.mu.Lock()
			l.share, l.deaf = 0.1, true // what becomes of the second one is not asked of the first
			l.mu.Unlock()
			two, undo, err := inflictLoad(t, l, "spike", `{"load":"web","rate":"500/s"}`)
			require.NoError(t, err, name)
			undone := make(chan error, 1)
			time.AfterFunc(c.lasts, func() { undone <- undo() })
			said, err := soon(t, one.Gone)
			require.NoError(t, err, name)
			assert.Equal(t, "another fault has changed the rate since", said, name)
			require.NoError(t, <-undone, name)
			l.mu.Lock()
			l.share = 1
			l.mu.Unlock()
			_, err = soon(t, two.Gone)
			require.ErrorContains(t, err, "not the planned 100/s", "%s: the last one leaves it to nobody", name)
		}
	})
}

func TestASpikeWithoutARequestIsNoSpike(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct{ kind, params string }{
			{"spike", `{"load":"web","rate":"3x"}`},
			{"ramp", `{"load":"web","from":"2x","to":"4x","over":"2s"}`},
		} {
			l := newOneLoad()
			l.plan = 0.1
			e, undo, err := inflictLoad(t, l, c.kind, c.params)
			require.NoError(t, err)
			time.Sleep(2 * time.Second)
			for _, asked := range []func(context.Context) (string, error){e.Prove, e.Bitten} {
				_, err = asked(t.Context())
				require.ErrorIs(t, err, ErrNotYet, c.kind)
				assert.ErrorContains(t, err, "no request of web was due and sent in 2s")
			}
			time.Sleep(e.Patience) // from when it began, and a little more
			_, err = e.Prove(t.Context())
			require.NoError(t, err)
			_, err = e.Bitten(t.Context())
			require.NoError(t, err)
			require.NoError(t, undo())
			_, err = soon(t, e.Gone)
			require.NoError(t, err, "no request of the planned rate is due for long")
		}
	})
}

func TestTheFirstRequestOfARate(t *testing.T) {
	assert.Equal(t, 2*time.Second, firstDue(0.5, 0.5, 0))
	assert.Equal(t, 10*time.Second, firstDue(0, 2, 100*time.Second))
	assert.Equal(t, 7*time.Second, firstDue(0, 0.2, 4*time.Second), "0.4 of it is due after the ramp's 4s, and the rest in 3s")
	assert.Equal(t, 10*time.Millisecond, firstDue(100, 100, time.Second))
}

func TestASpikeThatChangesNothing(t *testing.T) {
	l := newOneLoad()
	_, _, err := inflictLoad(t, l, "spike", `{"load":"web","rate":"100/s"}`)
	assert.ErrorContains(t, err, "is none")
	_, undo, err := inflictLoad(t, l, "spike", `{"load":"wbe","rate":"200/s"}`)
	assert.ErrorContains(t, err, "wbe")
	assert.NoError(t, undo(), "there is nothing to give back")
	_, _, err = inflictLoad(t, nil, "spike", `{"load":"web","rate":"200/s"}`)
	assert.ErrorContains(t, err, "no load runs here")
	_, _, err = inflictLoad(t, l, "ramp", `{"load":"web","to":"100/s","over":"1s"}`)
	assert.ErrorContains(t, err, "is none")
}

func TestARampReachesItsTop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newOneLoad()
		e, undo, err := inflictLoad(t, l, "ramp", `{"load":"web","to":"5x","over":"2s"}`)
		require.NoError(t, err)
		assert.Equal(t, []plan.Stage{{For: plan.Duration(2 * time.Second), From: 100, To: 500}}, l.change.Stages)
		_, err = soon(t, e.Prove)
		require.NoError(t, err)
		_, err = e.Bitten(t.Context())
		require.ErrorIs(t, err, ErrNotYet, "it was ended half way")
		time.Sleep(2 * time.Second)
		_, err = e.Bitten(t.Context())
		require.NoError(t, err)
		l.mu.Lock()
		l.goOn()
		l.ended = true
		l.mu.Unlock()
		require.NoError(t, undo())
		said, err := soon(t, e.Gone)
		require.NoError(t, err)
		assert.Equal(t, "the load has ended", said)
	})
}

func TestPaces(t *testing.T) {
	for text, want := range map[string]Pace{`"500/s"`: {PerSecond: 500}, `"2.5x"`: {Times: 2.5}, `" 3 x"`: {Times: 3}} {
		var p Pace
		require.NoError(t, json.Unmarshal([]byte(text), &p), text)
		assert.Equal(t, want, p)
	}
	for _, text := range []string{`5`, `"5"`, `"x"`, `"-3x"`, `"NaNx"`, `"0/s"`, `"2000000/s"`, `"5000x"`} {
		var p Pace
		assert.Error(t, json.Unmarshal([]byte(text), &p), text)
	}
}
