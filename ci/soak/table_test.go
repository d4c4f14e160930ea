package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// verdicts are of two drivers, as two runs that were interrupted left them.
func verdicts() []result {
	day := time.Date(2026, 3, 30, 23, 0, 0, 0, time.UTC)
	r := func(driver, scenario, control string, turn int, right bool, seconds float64) result {
		x := result{Time: day, Driver: driver, Scenario: scenario, Control: control, Turn: turn, Right: right, Seconds: seconds, Kernel: "6.18.0"}
		if driver == "docker" {
			x.Engine, x.Time = "docker 20.10.24 (API 1.41)", day.Add(2*time.Hour)
		}
		return x
	}
	return []result{
		r("sandbox", "leader", "", 1, true, 9),
		r("sandbox", "leader", "no-retry", 1, true, 8),
		r("sandbox", "pause", "", 1, true, 7),
		r("sandbox", "leader", "", 2, false, 11.5),
		r("docker", "leader", "", 1, true, 10),
		r("docker", "leader", "a|b", 1, false, 8),
		r("docker", "late", "x", 1, true, 1),
		r("docker", "late", "", 1, true, 1),
	}
}

func TestText(t *testing.T) {
	var b strings.Builder
	require.NoError(t, tabulate(verdicts()).text(&b))
	assert.Equal(t, `
SCENARIO / CONTROL  SANDBOX  DOCKER  LONGEST
leader              1/2      1/1     11.5s
leader / no-retry   1/1      -       8.0s
leader / a|b        -        0/1     8.0s
pause               1/1      -       7.0s
late                -        1/1     1.0s
late / x            -        1/1     1.0s
`, b.String())
}

func TestMarkdown(t *testing.T) {
	var b strings.Builder
	require.NoError(t, tabulate(verdicts()).markdown(&b))
	assert.Contains(t, b.String(), "\n2026-03-30 to 2026-03-31, Linux 6.18.0, docker 20.10.24 (API 1.41). Written by")
	assert.Contains(t, b.String(), `
| scenario / control | sandbox | docker | longest |
|---|--:|--:|--:|
| **leader** | 1/2 | 1/1 | 11.5 s |
| &nbsp;&nbsp;no-retry | 1/1 | - | 8.0 s |
| &nbsp;&nbsp;a\|b | - | 0/1 | 8.0 s |
| **pause** | 1/1 | - | 7.0 s |
| **late** | - | 1/1 | 1.0 s |
| &nbsp;&nbsp;x | - | 1/1 | 1.0 s |
| all | 3/4 | 3/4 | 11.5 s |
`)
}

func TestWrongVerdictsAreCounted(t *testing.T) {
	assert.Equal(t, 2, tabulate(verdicts()).wrong())
	assert.Zero(t, tabulate(verdicts()[:3]).wrong())
}

// TestFromFiles is what -from does: the table of results that several runs have appended to their files.
func TestFromFiles(t *testing.T) {
	dir := t.TempDir()
	var files []string
	for i, rs := range [][]result{verdicts()[:4], verdicts()[4:]} {
		var b bytes.Buffer
		for _, r := range rs {
			require.NoError(t, r.write(&b))
		}
		files = append(files, filepath.Join(dir, []string{"sandbox", "docker"}[i]))
		require.NoError(t, os.WriteFile(files[i], b.Bytes(), 0o600))
	}
	page := filepath.Join(dir, "verdicts.md")
	var out, want, text strings.Builder
	require.NoError(t, run(t.Context(), settings{from: files, table: page}, &out))
	require.NoError(t, tabulate(verdicts()).markdown(&want))
	require.NoError(t, tabulate(verdicts()).text(&text))
	written, err := os.ReadFile(page)
	require.NoError(t, err)
	assert.Equal(t, want.String(), string(written))
	assert.Equal(t, text.String(), out.String())
}

func TestBadFiles(t *testing.T) {
	for content, want := range map[string]string{
		"":                           "there is no verdict to show",
		"{\"driver\":\"sandbox\"}":   "line 1: a result names its driver and its scenario",
		"{}\nnot json\n":             "line 1:",
		`{"driver":"a","scene":"b"}`: `line 1: json: unknown field "scene"`,
	} {
		file := filepath.Join(t.TempDir(), "results")
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		assert.ErrorContains(t, run(t.Context(), settings{from: []string{file}}, new(strings.Builder)), want)
	}
}
