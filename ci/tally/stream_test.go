package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// recorded reads what go test -json wrote of packages that pass, fail, do not build, have no test and crash.
func recorded(t *testing.T, names ...string) string {
	var all strings.Builder
	for _, name := range names {
		b, err := os.ReadFile("testdata/" + name + ".jsonl")
		require.NoError(t, err)
		all.Write(b)
	}
	return all.String()
}

func TestAllIsWell(t *testing.T) {
	var out strings.Builder
	ok, err := run(strings.NewReader(recorded(t, "pass", "none")), &out)
	require.NoError(t, err)
	assert.True(t, ok)
	assert.Equal(t, `ok  	example/pass	0.005s
?   	example/none	[no test files]

3 tests passed, 0 failed, 3 skipped
     2 skipped: no Docker engine answers:  dial
        pass.TestSkip, pass.TestSub/b
     1 skipped: no reason given
        pass.TestBare
`, out.String())
}

func TestFailure(t *testing.T) {
	var out strings.Builder
	ok, err := run(strings.NewReader(recorded(t, "fail", "pass")), &out)
	require.NoError(t, err)
	assert.False(t, ok)
	assert.True(t, strings.HasPrefix(out.String(), `--- FAIL: TestBad (0.00s)
    --- FAIL: TestBad/bad (0.00s)
        a_test.go:8: wrong:
            in two lines
FAIL
FAIL	example/fail	0.005s
ok  	example/pass	0.005s
FAIL

5 tests passed, 2 failed, 3 skipped
`), out.String())
}

func TestBuildFailure(t *testing.T) {
	var out strings.Builder
	ok, err := run(strings.NewReader(recorded(t, "pass", "broken")), &out)
	require.NoError(t, err)
	assert.False(t, ok)
	assert.Contains(t, out.String(), "# example/broken [example/broken.test]\nbroken/a_test.go:5:32: undefined: undefined\nFAIL\texample/broken [build failed]\nFAIL\n")
}

func TestCrash(t *testing.T) {
	var out strings.Builder
	ok, err := run(strings.NewReader(recorded(t, "crash")), &out)
	require.NoError(t, err)
	assert.False(t, ok)
	assert.Contains(t, out.String(), "panic: out of order")
	assert.Contains(t, out.String(), "1 tests passed, 1 failed")
}

// TestCutOff is a stream that ends before its package does: go test itself was killed.
func TestCutOff(t *testing.T) {
	lines := strings.SplitAfter(recorded(t, "fail"), "\n")
	var out strings.Builder
	ok, err := run(strings.NewReader(strings.Join(lines[:len(lines)/2], "")), &out)
	require.NoError(t, err)
	assert.False(t, ok)
	assert.Contains(t, out.String(), "FAIL\texample/fail [its events end before it does]\nFAIL\n")
}

// TestOtherLines are kept: the go command says by them what it cannot say in JSON.
func TestOtherLines(t *testing.T) {
	var out strings.Builder
	ok, err := run(strings.NewReader("go: a word of its own\n"+recorded(t, "none")), &out)
	require.NoError(t, err)
	assert.True(t, ok)
	assert.True(t, strings.HasPrefix(out.String(), "go: a word of its own\n?   \texample/none"), out.String())
}

func TestNothing(t *testing.T) {
	ok, err := run(strings.NewReader(""), new(strings.Builder))
	assert.ErrorContains(t, err, "did go test start")
	assert.False(t, ok)
}

func TestManySkippedForOneReason(t *testing.T) {
	var out strings.Builder
	_, err := run(strings.NewReader(recorded(t, "pass", "pass")), &out)
	require.NoError(t, err)
	assert.Contains(t, out.String(), "     4 skipped: no Docker engine answers:  dial\n        pass.TestSkip, pass.TestSub/b, pass.TestSkip and 1 more\n")
}
