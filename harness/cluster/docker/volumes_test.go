package docker

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestVolumesKey: the key is a directory's own, and goes with it.
func TestVolumesKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run", "volumes")
	key, err := volumesKey(dir)
	require.NoError(t, err)
	require.Empty(t, key, "it has none")
	require.NoFileExists(t, dir)
	first, err := makeVolumesKey(dir)
	require.NoError(t, err)
	require.Len(t, first, 16)
	for _, again := range []func(string) (string, error){makeVolumesKey, volumesKey} {
		key, err := again(dir)
		require.NoError(t, err)
		require.Equal(t, first, key)
	}
	require.NoError(t, os.RemoveAll(dir))
	second, err := makeVolumesKey(dir)
	require.NoError(t, err)
	require.NotEqual(t, first, second, "another directory of the same path")

	require.NoError(t, os.WriteFile(filepath.Join(dir, keyFile), []byte(second[:3]), 0o644))
	for _, read := range []func(string) (string, error){makeVolumesKey, volumesKey} {
		_, err := read(dir)
		require.ErrorContains(t, err, "was cut off")
	}
}
