package reports

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/assertions"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(file, got, 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err, "run the test with -update to make it")
	assert.Equal(t, string(want), string(got))
}

func TestGolden(t *testing.T) {
	for name, book := range books {
		t.Run(name, func(t *testing.T) {
			r := book().result(t)
			for format, ext := range map[string]string{"text": ".txt", "json": ".json", "junit": ".xml"} {
				var out bytes.Buffer
				require.NoError(t, byName(t, format).Render(&out, []Result{r}))
				golden(t, name+ext, out.Bytes())
			}
		})
	}
}

func byName(t *testing.T, name string) Format {
	t.Helper()
	for _, f := range Table {
		if f.Name == name {
			return f
		}
	}
	t.Fatalf("no format %s", name)
	return Format{}
}

func TestTextFitsAndSteersNoTerminal(t *testing.T) {
	for name, book := range books {
		var out bytes.Buffer
		require.NoError(t, Text(&out, []Result{book().result(t)}))
		for line := range strings.Lines(out.String()) {
			line = strings.TrimSuffix(line, "\n")
			if !strings.HasPrefix(line, "      gauntlet ") { // commands are to be copied
				assert.LessOrEqual(t, utf8.RuneCountInString(line), width, "%s: %s", name, line)
			}
			for _, r := range line {
				assert.False(t, unicode.IsControl(r), "%s: %q", name, line)
			}
		}
	}
}

func TestColorOnlyWhereAsked(t *testing.T) {
	r := failed().result(t)
	var plain, colored bytes.Buffer
	require.NoError(t, Text(&plain, []Result{r}))
	require.NoError(t, TextOptions{Color: true}.Render(&colored, []Result{r}))
	assert.NotContains(t, plain.String(), "\x1b")
	assert.Contains(t, colored.String(), "\x1b[31mFAIL\x1b[0m")
	// Colour changes nothing else.
	stripped := colored.String()
	for _, code := range []string{"\x1b[0m", "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m"} {
		stripped = strings.ReplaceAll(stripped, code, "")
	}
	assert.Equal(t, plain.String(), stripped)
}

func TestJSONIsTheDocument(t *testing.T) {
	var rs []Result
	for _, name := range []string{"passed", "failed", "invalid", "rounds"} {
		rs = append(rs, books[name]().result(t))
	}
	rs[0].Findings[2].Evidence[0].Values["nothing"] = nan() // JSON has no word for it
	var out bytes.Buffer
	require.NoError(t, JSON(&out, rs))
	var d Document
	dec := json.NewDecoder(&out)
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(&d))
	assert.Equal(t, SchemaVersion, d.Version)
	assert.Equal(t, assertions.Fail, d.Verdict)
	require.Len(t, d.Results, 4)
	assert.Equal(t, "18446744073709551615", d.Results[0].Seed)
	assert.NotContains(t, d.Results[0].Findings[2].Evidence[0].Values, "nothing")
	assert.InDelta(t, 4.208, *d.Results[0].Rounds[0].Faults[0].InEffect, 1e-9)
	assert.Equal(t, &Score{Killed: 1, Run: 2, Worthless: []string{"steady", "back"}}, d.Results[0].Score)
	assert.False(t, d.Results[2].Complete)
}

func nan() float64 { z := 0.0; return z / z }

func TestJUnitCounts(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, JUnit(&out, []Result{passed().result(t), failed().result(t), {Run: invalid().result(t).Run}}))
	var all junitSuites
	require.NoError(t, xml.Unmarshal(out.Bytes(), &all))
	require.Len(t, all.Suites, 4, "a suite for each result and one for the controls of the first")
	counts := func(i int) [3]int { s := all.Suites[i]; return [3]int{s.Tests, s.Failures, s.Errors} }
	assert.Equal(t, [3]int{6, 0, 0}, counts(0))
	assert.Equal(t, [3]int{2, 1, 0}, counts(1), "a control that was not killed")
	assert.Equal(t, [3]int{5, 2, 2}, counts(2))
	assert.Equal(t, [3]int{1, 0, 1}, counts(3), "a run without findings is not green")
	assert.Equal(t, [3]int{14, 3, 3}, [3]int{all.Tests, all.Failures, all.Errors})
}

// Of one scenario with several seeds each run has suites of its own name.
func TestJUnitTellsSeedsApart(t *testing.T) {
	rs := []Result{passed().result(t), passed().result(t), failed().result(t)}
	rs[0].Run.Plan.Seed, rs[1].Run.Plan.Seed = 18, 19
	var out bytes.Buffer
	require.NoError(t, JUnit(&out, rs))
	var all junitSuites
	require.NoError(t, xml.Unmarshal(out.Bytes(), &all))
	var names []string
	for _, s := range all.Suites {
		names = append(names, s.Name)
		for _, c := range s.Cases {
			assert.Equal(t, s.Name, c.Class)
		}
	}
	assert.Equal(t, []string{
		"store-leader-kill (seed 18)", "store-leader-kill (seed 18) controls", "store-leader-kill (seed 19)", "store-leader-kill (seed 19) controls",
		"cut with MYDB_VERSION=v1.0.0",
	}, names)
}

// Two runs with one scenario and seed, as "check runs/a-1 runs/a-2" has them, are told apart by their directories.
func TestJUnitTellsRunsOfOneSeedApart(t *testing.T) {
	rs := []Result{passed().result(t), passed().result(t), passed().result(t), passed().result(t), failed().result(t)}
	for i, dir := range []string{"runs/x-1", "runs/x-2", "runs/x-3", "old/x-3", "runs/y-1"} {
		rs[i].Run.Dir, rs[i].Run.Plan.Seed, rs[i].Controls = dir, 7, nil
	}
	rs[0].Run.Plan.Seed = 18
	var out bytes.Buffer
	require.NoError(t, JUnit(&out, rs, Unrun{Scenario: "z", Seed: 1}, Unrun{Scenario: "z", Seed: 1}))
	var all junitSuites
	require.NoError(t, xml.Unmarshal(out.Bytes(), &all))
	var names []string
	for _, s := range all.Suites {
		names = append(names, s.Name)
	}
	assert.Equal(t, []string{
		"store-leader-kill (seed 18)", "store-leader-kill (seed 7, x-2)", "store-leader-kill (seed 7, runs/x-3)", "store-leader-kill (seed 7, old/x-3)",
		"cut with MYDB_VERSION=v1.0.0", "z (seed 1)", "z (seed 1)",
	}, names)
}

// What was asked for and not run is in every format: without it the document of a run that passed would be green.
func TestWhatWasNotRun(t *testing.T) {
	good := passed().result(t)
	good.Controls = nil
	for name, c := range map[string]struct {
		results []Result
		want    assertions.Verdict
	}{
		"nothing was run":        {nil, assertions.Invalid},
		"beside one that passed": {[]Result{good}, assertions.Invalid},
		"beside one that failed": {[]Result{failed().result(t)}, assertions.Fail},
	} {
		t.Run(name, func(t *testing.T) {
			unrun := []Unrun{{Scenario: "lost", Seed: 7, Error: "does not build\n\x1b[2Jmain.go:3"}, {Scenario: "store-leader-kill", Seed: 8, Error: "broke off"}}
			d := Describe(c.results, unrun...)
			assert.Equal(t, c.want, d.Verdict)
			assert.Equal(t, UnrunResult{Scenario: "lost", Seed: "7", Error: unrun[0].Error}, d.Unrun[0])
			var out bytes.Buffer
			require.NoError(t, JUnit(&out, c.results, unrun...))
			var all junitSuites
			require.NoError(t, xml.Unmarshal(out.Bytes(), &all))
			require.Len(t, all.Suites, len(c.results)+2)
			lost := all.Suites[len(c.results)]
			assert.Equal(t, "lost", lost.Name)
			assert.Equal(t, []junitCase{{Class: "lost", Name: "run", Time: "0",
				Error: &junitProblem{Message: "not run: does not build [2Jmain.go:3", Type: "run", Text: "does not build\n[2Jmain.go:3"}}}, lost.Cases)
			assert.Equal(t, [3]int{1, 0, 1}, [3]int{lost.Tests, lost.Failures, lost.Errors})
			out.Reset()
			require.NoError(t, Text(&out, c.results, unrun...))
			assert.Contains(t, out.String(), "\nINVALID  lost: not run: does not build\n         [2Jmain.go:3\nINVALID  store-leader-kill: not run: broke off\n")
		})
	}
	var out bytes.Buffer
	require.NoError(t, JUnit(&out, []Result{good}, Unrun{Scenario: good.Run.Plan.Name, Seed: 8}))
	assert.Contains(t, out.String(), `"store-leader-kill (seed 8)"`, "a name that is taken has its seed beside it")
}

func TestScore(t *testing.T) {
	r := passed().result(t)
	assert.Equal(t, Score{Killed: 1, Run: 2, Worthless: []string{"steady", "back"}}, ScoreOf(r))
	r.Controls = nil
	assert.Equal(t, Score{}, ScoreOf(r))
}

// The control without a fault is no mutant: it is told apart, and counts for nothing in the score.
func TestNoise(t *testing.T) {
	for verdict, want := range map[assertions.Verdict]struct{ noise, says, junit, more string }{
		assertions.Pass:    {"quiet", "  quiet    no-fault: 3 findings hold", "no-fault", ""},
		assertions.Fail:    {"noisy", "  NOISY    no-fault: 3 findings hold", "not quiet: 3 findings hold", "is not quiet, and the exit code"},
		assertions.Invalid: {"unshown", "  INVALID  no-fault: 3 findings hold", "nothing was shown: 3 findings hold", "1 of them showed nothing either way, which is INVALID."},
	} {
		r := passed().result(t)
		before := ScoreOf(r)
		// What failed in it made no assertion worth anything.
		r.Controls = append(r.Controls, ControlResult{Name: "no-fault", NoFault: true, Verdict: verdict, Reason: "3 findings hold",
			Findings: []assertions.Finding{finding(assertions.Fail, assertions.Service, "steady", "slo", 1, "x")}})
		before.Noise = want.noise
		assert.Equal(t, before, ScoreOf(r))
		var text, junit bytes.Buffer
		require.NoError(t, Text(&text, []Result{r}))
		assert.Contains(t, text.String(), want.says)
		assert.Contains(t, text.String(), want.more)
		assert.Contains(t, text.String(), "(1 of 2 killed: a resilience mutation score of 50 %)")
		assert.Contains(t, text.String(), "Noise: no-fault is the same run without a fault.")
		assert.Equal(t, verdict == assertions.Fail, strings.Contains(text.String(), "is not quiet, and the exit code"))
		assert.Equal(t, verdict == assertions.Invalid, strings.Contains(text.String(), "showed nothing either way"))
		require.NoError(t, JUnit(&junit, []Result{r}))
		assert.Contains(t, junit.String(), want.junit)
		r.Controls = r.Controls[2:]
		assert.Equal(t, Score{Noise: want.noise}, ScoreOf(r))
		assert.Equal(t, assertions.Worst(r.Verdict, verdict), Describe([]Result{r}).Verdict)
		text.Reset()
		require.NoError(t, Text(&text, []Result{r}))
		assert.NotContains(t, text.String(), "mutation score")
	}
}

// A control that showed nothing is neither killed nor alive, in every format.
func TestAControlThatShowedNothing(t *testing.T) {
	r := passed().result(t)
	r.Controls[1].Verdict, r.Controls[1].Unread = assertions.Invalid, "it is gone"
	assert.Equal(t, Score{Killed: 1, Run: 2, Unshown: 1, Worthless: []string{"steady", "back"}}, ScoreOf(r))
	assert.Equal(t, assertions.Invalid, Overall([]Result{r}))
	d := Describe([]Result{r})
	assert.Equal(t, assertions.Invalid, d.Verdict)
	assert.Equal(t, assertions.Pass, d.Results[0].Verdict, "that of the run itself")
	assert.False(t, d.Results[0].Controls[0].Unshown)
	assert.True(t, d.Results[0].Controls[1].Unshown)
	var text, junit bytes.Buffer
	require.NoError(t, Text(&text, []Result{r}))
	assert.Contains(t, text.String(), "  INVALID  single-endpoint in orders: did not fail")
	assert.Contains(t, text.String(), "This was judged before, and could not be again: it is gone")
	assert.Contains(t, text.String(), "1 of them showed nothing either way, which is INVALID.")
	assert.NotContains(t, text.String(), "lived")
	require.NoError(t, JUnit(&junit, []Result{r}))
	var all junitSuites
	require.NoError(t, xml.Unmarshal(junit.Bytes(), &all))
	require.Len(t, all.Suites, 2)
	assert.Equal(t, [3]int{2, 0, 1}, [3]int{all.Suites[1].Tests, all.Suites[1].Failures, all.Suites[1].Errors})
	assert.Contains(t, all.Suites[1].Cases[1].Error.Message, "nothing was shown: did not fail")
	assert.Contains(t, all.Suites[1].Cases[1].Error.Text, "it is gone")
}

// Beside a run that did not pass controls show nothing, whatever was said of them: its verdict is that of all.
func TestControlsBesideARunThatDidNotPass(t *testing.T) {
	for verdict, failures := range map[assertions.Verdict]int{assertions.Invalid: 0, assertions.Fail: 0, assertions.Pass: 1} {
		r := passed().result(t)
		r.Verdict = verdict
		var out bytes.Buffer
		require.NoError(t, JUnit(&out, []Result{r}))
		var all junitSuites
		require.NoError(t, xml.Unmarshal(out.Bytes(), &all))
		require.Len(t, all.Suites, 2)
		assert.Equal(t, failures, all.Suites[1].Failures, verdict)
		if verdict != assertions.Pass {
			assert.Equal(t, 2, all.Suites[1].Errors, verdict)
			assert.Equal(t, verdict, Overall([]Result{r}))
			assert.Equal(t, Score{Run: 2, Unshown: 2}, ScoreOf(r))
		}
	}
}

// What a control that survived makes of a run that passed is the verdict of the document, as it is the exit code.
func TestTheVerdictOfADocumentIsThatOfTheControlsToo(t *testing.T) {
	r := passed().result(t)
	assert.Equal(t, assertions.Fail, Overall([]Result{r}))
	assert.Equal(t, assertions.Fail, Describe([]Result{r}).Verdict)
	r.Controls = r.Controls[:1]
	assert.Equal(t, assertions.Pass, Describe([]Result{r}).Verdict)
}

func TestAPhaseThatWasCutOffIsToldSo(t *testing.T) {
	r := &record.Round{N: 1, Events: []record.Event{
		{T: 1, Kind: record.PhaseBegin, Phase: plan.PhaseFault},
		{T: 3, Kind: record.PhaseEnd, Phase: plan.PhaseFault, Error: "the user interrupts"},
		{T: 3, Kind: record.PhaseBegin, Phase: plan.PhaseDrain},
		{T: 9, Kind: record.PhaseEnd, Phase: plan.PhaseDrain},
	}}
	assert.Equal(t, []span{{name: plan.PhaseFault, from: 1, to: 3}, {name: plan.PhaseDrain, from: 3, to: 9, ended: true}}, tell(&plan.Plan{}, r).phases)
}

func TestPhaseQuantilesNeedSamples(t *testing.T) {
	r := passed().result(t)
	st := tell(r.Run.Plan, r.Run.Rounds[0])
	require.Len(t, st.loads, 1)
	byPhase := map[string]phaseFigures{}
	for _, f := range st.loads[0].phases {
		byPhase[f.phase] = f
	}
	assert.Equal(t, 600, byPhase["baseline"].requests)
	assert.Nil(t, byPhase["baseline"].p99, "600 samples are too few")
	assert.Equal(t, 4*ms, *byPhase["recovery"].p99)
	assert.Equal(t, 560, byPhase["fault"].good, "240 of 800 failed")
	assert.Equal(t, 900*ms, *byPhase["fault"].worst)
}

// A full disk or a closed pipe is an error, not silence.
func TestWriteErrors(t *testing.T) {
	r := passed().result(t)
	for _, f := range Table {
		require.ErrorIs(t, f.Render(broken{}, []Result{r}), errBroken, f.Name)
	}
}

var errBroken = errors.New("broken pipe")

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errBroken }
