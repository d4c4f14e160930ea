package faults

import (
	"context"
	"testing"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLinksOfANodeThatWasScaledAwayAreGoneWithIt(t *testing.T) {
	for _, c := range []struct{ kind, params string }{
		{"drop", `"direction":"both"`},
		{"reject", `"direction":"both"`},
		{"delay", `"time":"50ms"`},
		{"latency", `"latency":"50ms"`},
		{"bandwidth", `"rate":100`},
		{"slow_close", `"delay":"50ms"`},
		{"limit_data", `"bytes":10,"toxicity":"50%"`},
		{"http-error", `"status":503`},
	} {
		t.Run(c.kind, func(t *testing.T) {
			f := newLinks()
			e, undo, err := inject(t.Context(), f, params(t, c.kind, `{"from":"a","to":"all",`+c.params+`}`))
			require.NoError(t, err)
			require.NoError(t, undo(t.Context()))
			f.away, f.listed = map[string]bool{"c": true}, true
			gone := e.Healed(e.Links)
			_, err = gone(t.Context())
			require.ErrorIs(t, err, ErrNotYet, "it goes at this moment")
			f.listed, f.dials = false, map[cluster.Link]int{}
			said, err := gone(t.Context())
			require.NoError(t, err)
			assert.Contains(t, said, "; scaled away meanwhile: c")
			assert.NotZero(t, f.dials[cluster.Link{From: "a", To: "b"}], "what is still there is proved")
			assert.Zero(t, f.dials[cluster.Link{From: "a", To: "c"}])
			f.away["a"] = true
			said, err = gone(t.Context())
			require.NoError(t, err)
			assert.Equal(t, "scaled away meanwhile: a, c", said, "nothing of it is left")
		})
	}
}

func TestANodeThatWasScaledAwayIsNotBroughtBack(t *testing.T) {
	for _, kind := range []string{"kill", "pause"} {
		t.Run(kind, func(t *testing.T) {
			f := newLinks()
			state := cluster.StateExited
			if kind == "pause" {
				state = cluster.StatePaused
			}
			f.pause = func(context.Context, string) error { return nil }
			e, undo, err := inject(t.Context(), f, params(t, kind, `{"group":"all"}`))
			require.NoError(t, err)
			f.states = map[string]cluster.State{"a": state, "b": state, "c": state}
			f.away = map[string]bool{"c": true}
			require.NoError(t, undo(t.Context()))
			assert.Equal(t, []string{"b", "a"}, append(f.started, f.resumed...))
			said, err := e.Gone(t.Context())
			require.NoError(t, err)
			assert.Contains(t, said, "a, b")
			assert.Contains(t, said, "; scaled away meanwhile: c")
			f.away["a"], f.away["b"] = true, true
			said, err = e.Gone(t.Context())
			require.NoError(t, err)
			assert.Equal(t, "scaled away meanwhile: a, b, c", said)
		})
	}
}

func TestWhatANodeWasPutIntoLastsToTheUndo(t *testing.T) {
	for _, c := range []struct {
		kind      string
		put, back cluster.State
	}{
		{"kill", cluster.StateExited, cluster.StateRunning},
		{"terminate", cluster.StateExited, cluster.StateRunning},
		{"pause", cluster.StatePaused, cluster.StateRunning},
		{"pause", cluster.StatePaused, cluster.StateExited},
	} {
		t.Run(c.kind+", then "+string(c.back), func(t *testing.T) {
			f := newLinks()
			f.pause = func(context.Context, string) error { return nil }
			e, _, err := inject(t.Context(), f, params(t, c.kind, `{"group":"all"}`))
			require.NoError(t, err)
			f.states = map[string]cluster.State{"a": c.put, "b": c.put, "c": c.put}
			said, err := e.Bitten(t.Context())
			require.NoError(t, err)
			assert.Contains(t, said, "a, b, c")
			f.states["b"] = c.back
			_, err = e.Bitten(t.Context())
			require.ErrorIs(t, err, ErrNotYet)
			assert.ErrorContains(t, err, "b is "+string(c.back))
			f.states["b"], f.begun = c.put, map[string]time.Time{"b": time.Now()}
			_, err = e.Bitten(t.Context())
			require.ErrorIs(t, err, ErrNotYet)
			assert.ErrorContains(t, err, "b was started meanwhile")
			f.away = map[string]bool{"b": true}
			said, err = e.Bitten(t.Context())
			require.NoError(t, err)
			assert.Contains(t, said, "; scaled away meanwhile: b")
		})
	}
}

// It may go while it is being brought back.
func TestBringingBackANodeThatGoesIsNoError(t *testing.T) {
	f := newLinks()
	f.away = map[string]bool{"a": true}
	err := f.known("a")
	assert.NoError(t, unlessAway(f, "a", err))
	f.listed = true
	assert.Error(t, unlessAway(f, "a", err))
	assert.Error(t, unlessAway(f, cluster.Client, err))
}
