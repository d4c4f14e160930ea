package record

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func appendLog(t *testing.T, w *Writer, node, text string) {
	t.Helper()
	file := filepath.Join(w.Dir(), filepath.FromSlash(LogFile(node)))
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	require.NoError(t, err)
	_, err = f.WriteString(text)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

func linesOf(t *testing.T, r *Round, node string) []LogLine {
	t.Helper()
	ls, err := r.Logs(node)
	require.NoError(t, err)
	return ls
}

func TestTheLogsOfARound(t *testing.T) {
	w := create(t)
	round := func(n int, during func()) {
		w.SetRound(n)
		w.Event(Event{Kind: RoundBegin})
		during()
		w.Event(Event{Kind: RoundEnd})
	}
	round(1, func() {
		appendLog(t, w, "edge-1", "one\n\ntwo\n")
		appendLog(t, w, "old-1", "before\n")
	})
	appendLog(t, w, "edge-1", "between\n")
	round(2, func() {
		appendLog(t, w, "edge-1", "three\nfo")
		appendLog(t, w, "new-1", "first\n")
	})
	w.Event(Event{Kind: RunEnd})
	r := open(t, w)
	nodes, err := r.Logged()
	require.NoError(t, err)
	assert.Equal(t, []string{"edge-1", "new-1", "old-1"}, nodes)
	one, two := r.Rounds[0], r.Rounds[1]
	assert.Equal(t, []LogLine{{1, "one"}, {2, ""}, {3, "two"}}, linesOf(t, one, "edge-1"))
	assert.Equal(t, []LogLine{{5, "three"}, {6, "fo"}}, linesOf(t, two, "edge-1"), "with their numbers in the file")
	assert.Equal(t, []LogLine{{1, "before"}}, linesOf(t, one, "old-1"))
	assert.Empty(t, linesOf(t, two, "old-1"))
	assert.Empty(t, linesOf(t, one, "new-1"), "its log began in a later round")
	assert.Equal(t, []LogLine{{1, "first"}}, linesOf(t, two, "new-1"))
	assert.Empty(t, linesOf(t, one, "nobody"))
	_, err = one.Logs("../meta")
	require.ErrorContains(t, err, "no name of a node")
}

// A record that was cut off has no end of its round: the lines go to the end of the file.
func TestTheLogsOfARoundThatWasCutOff(t *testing.T) {
	w := create(t)
	w.SetRound(1)
	appendLog(t, w, "edge-1", "of another run\n")
	w.Event(Event{Kind: RoundBegin})
	appendLog(t, w, "edge-1", "mine\n")
	r := open(t, w)
	assert.Equal(t, []LogLine{{2, "mine"}}, linesOf(t, r.Rounds[0], "edge-1"))
}

// Older records have no marks: of one round all lines are its own, of several nobody can say.
func TestLogsWithoutMarks(t *testing.T) {
	for rounds := 1; rounds <= 2; rounds++ {
		w := create(t)
		for n := 1; n <= rounds; n++ {
			w.Event(Event{Kind: RoundBegin, Round: n, Data: json.RawMessage(`{}`)})
		}
		appendLog(t, w, "edge-1", "x\n")
		r := open(t, w)
		ls, err := r.Rounds[0].Logs("edge-1")
		if rounds == 1 {
			require.NoError(t, err)
			assert.Equal(t, []LogLine{{1, "x"}}, ls)
			continue
		}
		require.ErrorContains(t, err, "which lines of the logs are of round 1")
	}
}

func TestALogThatShrankIsNoLog(t *testing.T) {
	w := create(t)
	w.Event(Event{Kind: RoundBegin, Round: 1, Data: json.RawMessage(`{"logs":{"edge-1":9}}`)})
	w.Event(Event{Kind: RoundEnd, Round: 1, Data: json.RawMessage(`{"logs":{"edge-1":3}}`)})
	r := open(t, w)
	_, err := r.Rounds[0].Logs("edge-1")
	require.ErrorContains(t, err, "longer when round 1 began")
}
