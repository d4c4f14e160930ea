package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const sample = `package p

const limit = 10

func Judge(n int) Verdict {
	if n < limit && n != 3 {
		return Fail
	}
	return Pass
}
`

func TestMutants(t *testing.T) {
	ms, err := mutants("p.go", []byte(sample))
	require.NoError(t, err)
	var got []string
	for _, m := range ms {
		got = append(got, m.String())
		require.NotEqual(t, sample, string(m.text()))
	}
	require.ElementsMatch(t, []string{
		"p.go:3: 10 -> 11", "p.go:3: 10 -> 9",
		"p.go:6: n < limit && n != 3 -> false && (n < limit && n != 3)",
		"p.go:6: && -> ||", "p.go:6: < -> <=", "p.go:6: != -> ==", "p.go:6: 3 -> 4", "p.go:6: 3 -> 2",
		"p.go:7: Fail -> Pass", "p.go:9: Pass -> Fail",
	}, got)
	require.Contains(t, string(ms[0].text()), "const limit = 11")
	_, err = mutants("p.go", []byte("package"))
	require.Error(t, err)
}

func TestMutate(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":    "module p\n\ngo 1.24\n",
		"p.go":      "package p\n\nfunc Small(n int) bool { return n < 10 }\n\nvar size [2]int\n\nvar Sizes = [2]int(size)\n",
		"p_test.go": "package p\n\nimport \"testing\"\n\nfunc TestSmall(t *testing.T) {\n\tif !Small(1) || Small(10) {\n\t\tt.Fatal()\n\t}\n}\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	var out strings.Builder
	s := settings{dir: dir, files: "*.go", limit: time.Minute, least: 90}
	require.ErrorContains(t, mutate(context.Background(), s, &out), "66.7 % of the mutants were killed, wanted 90.0 %")
	// 10 -> 9 survives: nothing is asked of 9. A size that differs in one of two places does not compile.
	require.Equal(t, "survived "+filepath.Join(dir, "p.go")+":3: 10 -> 9\n2 of 3 mutants killed (66.7 %), 1 survived; 4 more did not compile\n", out.String())
	s.files = "q.go"
	require.ErrorContains(t, mutate(context.Background(), s, &out), "no file of")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "p_test.go"), []byte("package p\n\nimport \"testing\"\n\nfunc TestSmall(t *testing.T) { t.Fatal() }\n"), 0o644))
	s.files = "*.go"
	require.ErrorContains(t, mutate(context.Background(), s, &out), "do not pass unchanged")
}
