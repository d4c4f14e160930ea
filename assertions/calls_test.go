package assertions

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/record"
)

// What cannot be read is no proof that nothing crossed a link, or that nobody was refused.
func TestCallsAndRequestsThatCannotBeRead(t *testing.T) {
	breaker := &Breaker{Of: "inventory", In: "orders", Fault: "kill", Opens: bound(t, "<= 1s"), Rejects: &BreakerRejects{Status: []int{200}}}
	retries := &RetryAmplification{Load: "orders", From: "orders", To: "inventory", Attempts: bound(t, "<= 2")}
	requests, calls := record.RequestFile("orders"), record.CallsFile()
	for _, c := range []struct {
		kind string
		ask  Params
		file string
	}{
		{"breaker", breaker, calls}, {"breaker", breaker, requests}, {"retry-amplification", retries, calls}, {"retry-amplification", retries, requests},
	} {
		t.Run(c.kind+" "+filepath.Base(c.file), func(t *testing.T) {
			g := newGuarded()
			g.ask(t, c.kind, c.ask)
			g.series()
			run := g.write(t)
			unopenable(t, run, c.file)
			f := finding(t, run)
			require.Equal(t, Invalid, f.Verdict, f.Summary)
			require.Contains(t, f.Reason, filepath.Base(c.file)+": ")
		})
	}
	run := newStory().write(t)
	unopenable(t, run, requests)
	_, _, err := Bounds{}.bases(Source{Load: "orders"}, run.Rounds[0])
	require.ErrorContains(t, err, "reading the request log")
}

// unopenable makes a file of a run one that cannot be opened: a link that leads to itself.
func unopenable(t *testing.T, run *record.Run, file string) {
	t.Helper()
	path := filepath.Join(run.Dir, filepath.FromSlash(file))
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Symlink(path, path))
}
