package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/plan"
)

// What a program printed reaches people by way of progress and errors too.
func TestNothingSteersTheTerminal(t *testing.T) {
	var out bytes.Buffer
	progress(&out, &plan.Plan{Name: "x", Seed: 1})("web said \x1b[2Jhello\r\n\tand \u009bmore\n")
	require.Regexp(t, `^x, seed 1\n   0\.\ds  web said \[2Jhello\n\tand more\n$`, out.String())

	file := filepath.Join(t.TempDir(), "a\x1b[2J.yaml")
	require.NoError(t, os.WriteFile(file, []byte("version: 1\n"), 0o644))
	out.Reset()
	require.Equal(t, exitInput, Main(t.Context(), []string{"validate", file}, &out, &out))
	require.NotContains(t, out.String(), "\x1b")
	require.Contains(t, out.String(), "a[2J.yaml:1:1: ")
	require.Contains(t, out.String(), "\n    1 | version: 1\n", "its lines stay")
}
