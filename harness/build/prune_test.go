package build

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// unused makes a result one that nobody asked for since long.
func unused(t *testing.T, dir string) {
	t.Helper()
	old := time.Now().Add(-keep - time.Hour)
	require.NoError(t, os.Chtimes(dir, old, old))
}

// published is a program in a cache of its own: the cache, the program and where it was published.
func published(t *testing.T) (cache, file, out string) {
	t.Helper()
	cache, file = t.TempDir(), filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(file, []byte("x"), 0o755))
	out, err := publish(t.Context(), cache, file, "program")
	require.NoError(t, err)
	return cache, file, out
}

func TestWhatIsLookedForIsNotPruned(t *testing.T) {
	cache, _, out := published(t)
	unused(t, filepath.Dir(out))
	release, err := use(t.Context(), cache)
	require.NoError(t, err)
	prune(cache)
	require.FileExists(t, out, "somebody is about to mark it")
	release()
	prune(cache)
	require.NoFileExists(t, out)
}

// A prune has found a result that is old, and removes it: whoever asks for it meanwhile gets one that is there.
func TestAResultThatIsBeingPrunedIsNotGivenOut(t *testing.T) {
	cache, file, out := published(t)
	place := filepath.Join(cache, "local", "k")
	release, err := take(t.Context(), cache, pruning, unix.LOCK_EX, func() {})
	require.NoError(t, err)
	given, made := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := publish(t.Context(), cache, file, "program")
		given <- err
	}()
	go func() { made <- occupy(t.Context(), cache, place) }()
	select {
	case <-given:
		t.Fatal("it was given out and goes")
	case <-made:
		t.Fatal("it was occupied and goes")
	case <-time.After(100 * time.Millisecond): // no more than a chance for those who do not wait
	}
	require.NoError(t, os.RemoveAll(filepath.Join(cache, "bin")))
	release()
	require.NoError(t, <-given)
	require.NoError(t, <-made)
	require.FileExists(t, out)
	require.DirExists(t, place)
	unused(t, place)
	require.NoError(t, occupy(t.Context(), cache, place))
	prune(cache)
	require.DirExists(t, place)
}
