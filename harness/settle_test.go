package harness

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// What was written a moment ago is on disk when settle returns, and little enough of it is nothing to wait for.
func TestSettleWritesWhatIsLeft(t *testing.T) {
	dir := t.TempDir()
	var fs unix.Statfs_t
	require.NoError(t, unix.Statfs(dir, &fs))
	if fs.Type == unix.TMPFS_MAGIC {
		t.Skip("the temporary directory is in memory: nothing of it is ever written")
	}
	var said []string
	progress := func(s string) { said = append(said, s) }
	f, err := os.Create(filepath.Join(dir, "much"))
	require.NoError(t, err)
	defer f.Close()
	chunk := make([]byte, 1<<20)
	for range 3 * dirtyMost >> 20 {
		_, err := f.Write(chunk)
		require.NoError(t, err)
	}
	// The kernel may begin to write by itself at any time, so what there is to do is asked and not assumed.
	before := unwritten()
	require.NotZero(t, before)
	begin := time.Now()
	settle(t.Context(), progress)
	if before >= dirtyMost {
		assert.Len(t, said, 1)
		assert.Contains(t, said[0], "MiB to disk")
	} else {
		assert.Empty(t, said)
		assert.Less(t, time.Since(begin), time.Second)
	}
}
