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
	for i := range ms {
		ms[i].id = i + 1
	}
	require.Equal(t, `package p

const limit = 10

func Judge(n int) Verdict {
	if !mutant(3) && (mutantAnd(4, func() bool { return mutantLess(5, n, limit) }, func() bool { return (mutant(6) != (n != mutantPick(7, mutantPick(8, 3, 2), 4))) })) {
		return mutantPick(9, Fail, Pass)
	}
	return mutantPick(10, Pass, Fail)
}
`, together([]byte(sample), ms))
	_, err = mutants("p.go", []byte("package"))
	require.Error(t, err)
}

func TestMutate(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":    "module p\n\ngo 1.24\n",
		"p.go":      "package p\n\nfunc Small(n int) bool { return n < 10 }\n\nfunc Unseen(n int) bool { return n > 5 }\n\nvar size [2]int\n\nvar Sizes = [2]int(size)\n",
		"p_test.go": "package p\n\nimport \"testing\"\n\nfunc TestSmall(t *testing.T) {\n\tif !Small(1) || Small(10) {\n\t\tt.Fatal()\n\t}\n}\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	var out strings.Builder
	s := settings{dir: dir, files: "*.go", limit: time.Minute, least: 90}
	require.ErrorContains(t, mutate(context.Background(), s, &out), "33.3 % of the mutants were killed, wanted 90.0 %")
	// 10 -> 9 survives: nothing is asked of 9; nor is anything of Unseen. A size that differs in one of two places does not compile.
	file := filepath.Join(dir, "p.go")
	require.ElementsMatch(t, []string{
		"survived " + file + ":3: 10 -> 9",
		"survived " + file + ":5: > -> >=", "survived " + file + ":5: 5 -> 6", "survived " + file + ":5: 5 -> 4",
		"2 of 6 mutants killed (33.3 %), 4 survived; 4 more did not compile", "",
	}, strings.Split(out.String(), "\n"))
	// What survived is tried again without the rest.
	s.again = filepath.Join(dir, "before")
	require.NoError(t, os.WriteFile(s.again, []byte(out.String()), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "q_test.go"), []byte("package p\n\nimport \"testing\"\n\nfunc TestNine(t *testing.T) {\n\tif !Small(9) {\n\t\tt.Fatal()\n\t}\n}\n"), 0o644))
	out.Reset()
	require.ErrorContains(t, mutate(context.Background(), s, &out), "25.0 %")
	require.Contains(t, out.String(), "1 of 4 mutants killed")
	s.again = filepath.Join(dir, "nowhere")
	require.ErrorContains(t, mutate(context.Background(), s, &out), "reading an earlier output")
	s.again = ""
	s.files = "q.go"
	require.ErrorContains(t, mutate(context.Background(), s, &out), "no file of")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "p_test.go"), []byte("package p\n\nimport \"testing\"\n\nfunc TestSmall(t *testing.T) { t.Fatal() }\n"), 0o644))
	s.files = "*.go"
	require.ErrorContains(t, mutate(context.Background(), s, &out), "do not pass unchanged")
}
