package assertions

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/record"
)

// What stopped or held up a node within the windows is a signal, once, from its beginning to its end or to that of the last window. Where
// there is none, faults are.
func TestSignals(t *testing.T) {
	sent := func(at time.Duration, signal string) record.Event {
		return record.Event{T: at, Kind: record.NodeSignalled, Node: "a", Signal: signal}
	}
	ended := func(at time.Duration, announced bool) record.Event {
		return record.Event{T: at, Kind: record.NodeExited, Node: "a", Announced: announced}
	}
	of := func(at time.Duration, kind record.EventKind) record.Event {
		return record.Event{T: at, Kind: kind, Node: "a"}
	}
	effect := func(at time.Duration) record.Event {
		return record.Event{T: at, Kind: record.FaultInEffect, Fault: "cut"}
	}
	stopped := func(from, to time.Duration) signal {
		return signal{node: "a", what: "it was sent SIGTERM", at: Window{from, to}}
	}
	for name, c := range map[string]struct {
		events []record.Event
		want   []signal
	}{
		"nothing":                     {nil, nil},
		"stopped":                     {[]record.Event{sent(20, "SIGTERM"), ended(25, true)}, []signal{stopped(20, 25)}},
		"stopped when a window opens": {[]record.Event{sent(10, "SIGTERM"), ended(15, true)}, []signal{stopped(10, 15)}},
		"stopped before":              {[]record.Event{sent(9, "SIGTERM"), ended(15, false)}, nil},
		"stopped when a window ends":  {[]record.Event{sent(30, "SIGTERM"), ended(35, false)}, nil},
		"stopped between two windows": {[]record.Event{sent(35, "SIGTERM"), ended(36, false)}, nil},
		"stopped in the second":       {[]record.Event{sent(45, "SIGTERM"), ended(46, true)}, []signal{stopped(45, 46)}},
		"never ended":                 {[]record.Event{sent(20, "SIGTERM")}, []signal{stopped(20, 50)}},
		"ended long after":            {[]record.Event{sent(20, "SIGTERM"), ended(90, true)}, []signal{stopped(20, 50)}},
		"stopped, and killed":         {[]record.Event{sent(20, "SIGTERM"), sent(24, "SIGKILL"), ended(25, true)}, []signal{stopped(20, 25)}},
		"stopped twice":               {[]record.Event{sent(20, "SIGTERM"), ended(21, true), sent(23, "SIGTERM"), ended(25, true)}, []signal{stopped(20, 21), stopped(23, 25)}},
		"paused":                      {[]record.Event{of(20, record.NodePaused), of(25, record.NodeResumed)}, []signal{{node: "a", what: "it was paused", at: Window{20, 25}}}},
		"went on":                     {[]record.Event{of(25, record.NodeResumed)}, nil},
		"died by itself":              {[]record.Event{ended(25, false)}, nil},
		"of an older record":          {[]record.Event{ended(25, true)}, []signal{{node: "a", what: "it was ended", at: Window{25, 25}}}},
		"a fault":                     {[]record.Event{of(19, record.NodeStarted), effect(20), of(21, record.NodeStarted)}, []signal{{what: "cut came into effect", at: Window{20, 50}}}},
		"a fault elsewhere":           {[]record.Event{effect(9), effect(30)}, nil},
		"a fault that stopped a node": {[]record.Event{sent(20, "SIGTERM"), effect(21), ended(25, true)}, []signal{stopped(20, 25)}},
	} {
		assert.Equal(t, c.want, signals(&record.Round{Events: c.events}, []Window{{10, 30}, {40, 50}}), name)
	}
}

// A node has a request in hand from when it took it, at first, until it said how it ended, for ever if it did not, and not at all by lines of others.
func TestWhatANodeHeld(t *testing.T) {
	line := func(at time.Duration, what saying) *logLine {
		return &logLine{node: "a", what: what, at: at, timed: true}
	}
	const ever = time.Duration(1 << 62)
	for name, c := range map[string]struct {
		lines    []*logLine
		from, to time.Duration
	}{
		"nothing":           {nil, -1, -1},
		"done":              {[]*logLine{line(3, accepted), line(4, other), line(5, done), line(6, other)}, 3, 5},
		"aborted":           {[]*logLine{line(3, accepted), line(5, aborted)}, 3, 5},
		"never ended":       {[]*logLine{line(3, accepted), line(4, stored)}, 3, ever},
		"taken twice":       {[]*logLine{line(3, accepted), line(4, accepted), line(5, done)}, 3, 5},
		"never taken":       {[]*logLine{line(4, other), line(5, done)}, -1, -1},
		"by another":        {[]*logLine{{node: "b", what: accepted, at: 3, timed: true}, line(5, done)}, -1, -1},
		"ended by another":  {[]*logLine{line(3, accepted), {node: "b", what: done, at: 5, timed: true}}, 3, ever},
		"nobody knows when": {[]*logLine{{node: "a", what: accepted}, line(5, done)}, -1, -1},
	} {
		from, to := held(c.lines, "a")
		assert.Equal(t, []time.Duration{c.from, c.to}, []time.Duration{from, to}, name)
	}
}

// A request was in hand at a signal, or until the end, also when it came or went at that very moment.
func TestInHandAtASignal(t *testing.T) {
	for _, c := range []struct {
		from, to    time.Duration
		then, until int
	}{
		{5, 9, 0, 0}, {5, 10, 1, 1}, {10, 11, 1, 1}, {11, 12, 0, 1}, {5, 30, 1, 1}, {20, 30, 0, 1}, {21, 30, 0, 0}, {0, 15, 1, 1}, {-1, -1, 0, 0}, {-1, 15, 0, 0},
	} {
		s := signal{at: Window{10, 20}}
		s.tally(c.from, c.to)
		assert.Equal(t, []int{c.then, c.until}, []int{s.then, s.until}, "%v", c)
	}
}

func TestWhatANodeSaysOfItself(t *testing.T) {
	long := `{"event": "a line that has no message is shown as it is written, but no more than so much of it", "n": 1}`
	for text, want := range map[string]string{
		`{"msg": "draining"}`:    "draining",
		`{"message": "leaving"}`: `{"message": "leaving"}`,
		"leaving":                "leaving",
		long:                     long[:80],
	} {
		assert.Equal(t, want, (&logLine{text: text}).says())
	}
}

func TestTheServiceOfANode(t *testing.T) {
	nodes := []record.Node{{Name: "main", Service: "db"}, {Name: "edge-1", Service: "edge"}, {Name: "job-1-1", Service: "job-1"}, {Name: "job-2", Service: "job"}, {Name: "job-1-2", Service: "job-1"}}
	for node, want := range map[string]string{
		"main": "db", "edge-1": "edge", "edge-7": "edge", "edgy-1": "edgy-1", "job-2": "job", "job-3": "job", "job-1-9": "job-1",
		"job-1": "job-1", // rather than the first of job
	} {
		assert.Equal(t, want, serviceOf(node, nodes), node)
	}
}

// A node whose log is empty is not among those that log.
func TestEmptyLogs(t *testing.T) {
	run := newServed().write(t)
	require.NoError(t, os.WriteFile(filepath.Join(run.Dir, record.LogFile("idle-1")), nil, 0o644))
	logs, err := readLogs(t.Context(), run.Rounds[0], nil)
	require.NoError(t, err)
	assert.Equal(t, []string{"edge-1", "edge-2", "orders-1", "orders-2"}, logs.nodes)
}
