package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func open(t *testing.T, dir string, replayAll bool) *store {
	t.Helper()
	s, err := openStore(dir, Term{1, "a"}, replayAll)
	require.NoError(t, err)
	t.Cleanup(func() { s.disk.log.Close() })
	return s
}

func put(t *testing.T, s *store, keys ...string) {
	t.Helper()
	var es []Entry
	for _, k := range keys {
		es = append(es, Entry{Key: k, Value: "v" + k})
	}
	require.NoError(t, s.put(es))
}

func TestReopened(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, false)
	put(t, s, "a", "b")
	require.NoError(t, s.compact(1))
	put(t, s, "c")
	want := s.snapshot()
	require.Equal(t, want, open(t, dir, false).snapshot())
	require.Equal(t, uint64(1), s.base)
}

// A crash can tear the last entry, which was not acknowledged.
func TestTornLog(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, false)
	put(t, s, "a", "b")
	log := filepath.Join(dir, "log")
	b, err := os.ReadFile(log)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(log, b[:len(b)-3], 0o644))
	s = open(t, dir, false)
	require.Equal(t, uint64(1), s.last)
	put(t, s, "c")
	require.Equal(t, map[string][]string{"a": {"va"}, "c": {"vc"}}, open(t, dir, false).data)
}

// A crash between the snapshot and the new log leaves both: nothing may be applied twice. The fault does.
func TestCrashInCompaction(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, false)
	put(t, s, "a", "b")
	require.NoError(t, s.disk.save("snapshot", s.snapshot()))
	require.Equal(t, []string{"vb"}, open(t, dir, false).data["b"])
	require.Equal(t, []string{"vb", "vb"}, open(t, dir, true).data["b"])
}

func TestWhatAReplicaNeeds(t *testing.T) {
	s := open(t, t.TempDir(), false)
	put(t, s, "a", "b", "c")
	require.NoError(t, s.compact(2))
	for _, c := range []struct {
		name        string
		last, epoch uint64
		entries     int
		tooFar      bool
	}{
		{"up to date", 3, 1, 0, false}, {"one behind", 2, 1, 1, false}, {"at the log's beginning", 1, 1, 2, false},
		{"before the log", 0, 0, 0, true}, {"ahead", 4, 1, 0, true}, {"another history", 2, 7, 0, true}, {"another end", 3, 7, 0, true},
	} {
		es, tooFar := s.after(c.last, c.epoch)
		require.Equal(t, c.tooFar, tooFar, c.name)
		require.Len(t, es, c.entries, c.name)
	}
}

func TestCommitted(t *testing.T) {
	s := open(t, t.TempDir(), false)
	put(t, s, "a", "b", "c")
	require.Equal(t, uint64(0), s.committed(3))
	s.ack("b", 2)
	require.Equal(t, uint64(2), s.committed(3))
	s.ack("c", 3)
	require.Equal(t, uint64(3), s.committed(3))
	s.ack("c", 1)
	require.Equal(t, uint64(3), s.committed(3), "an acknowledgement is not taken back")
	require.NoError(t, s.follow(Term{2, "b"}))
	require.Equal(t, uint64(0), s.committed(3), "those of another epoch do not count")
	require.NoError(t, s.follow(Term{1, "c"}))
	require.Equal(t, Term{2, "b"}, s.term)
}
