package reports

import (
	"encoding/xml"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hasvc/gauntlet/assertions"
)

// The elements of JUnit's XML that CI systems agree on.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Time     string       `xml:"time,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name       string          `xml:"name,attr"`
		Tests      int             `xml:"tests,attr"`
		Failures   int             `xml:"failures,attr"`
		Errors     int             `xml:"errors,attr"`
		Skipped    int             `xml:"skipped,attr"`
		Time       string          `xml:"time,attr"`
		Timestamp  string          `xml:"timestamp,attr,omitempty"`
		Properties []junitProperty `xml:"properties>property,omitempty"`
		Cases      []junitCase     `xml:"testcase"`
	}
	junitProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Time    string        `xml:"time,attr"`
		Failure *junitProblem `xml:"failure,omitempty"`
		Error   *junitProblem `xml:"error,omitempty"`
		Out     string        `xml:"system-out,omitempty"`
	}
	junitProblem struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"`
	}
)

// JUnit writes JUnit XML: a scenario is a test suite, a finding a test case; FAIL is a failure, INVALID an error. Controls are a
// suite of their own, in which one that was not killed is a failure, and one that showed nothing an error. What was not run is a suite
// with one error.
func JUnit(w io.Writer, results []Result, unrun ...Unrun) error {
	all := junitSuites{Name: "gauntlet"}
	total := 0.0
	names := suiteNames(results, unrun)
	for i, r := range results {
		name := names[i]
		s, seconds := suite(name, r)
		total += seconds
		all.Suites = append(all.Suites, s)
		if len(r.Controls) > 0 {
			all.Suites = append(all.Suites, controlSuite(name, r))
		}
	}
	for i, u := range unrun {
		name := names[len(results)+i]
		all.Suites = append(all.Suites, junitSuite{Name: name, Time: "0", Cases: []junitCase{{Class: name, Name: "run", Time: "0",
			Error: &junitProblem{Message: "not run: " + clean(u.Error), Type: "run", Text: Plain(u.Error)}}}})
	}
	all.Time = fmt.Sprintf("%.3f", total)
	for i := range all.Suites {
		s := &all.Suites[i]
		for _, c := range s.Cases {
			s.Tests++
			if c.Failure != nil {
				s.Failures++
			}
			if c.Error != nil {
				s.Errors++
			}
		}
		all.Tests, all.Failures, all.Errors = all.Tests+s.Tests, all.Failures+s.Failures, all.Errors+s.Errors
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return fmt.Errorf("writing JUnit XML: %w", err)
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(all); err != nil {
		return fmt.Errorf("writing JUnit XML: %w", err)
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return fmt.Errorf("writing JUnit XML: %w", err)
	}
	return nil
}

// suiteNames are the names of results and of what was not run, each with as much beside it as tells it apart from the others: who
// compares suites by name would take one for the other.
func suiteNames(results []Result, unrun []Unrun) []string {
	var ways [][]string // of naming each, from short to long
	for _, r := range results {
		name, seed := suiteName(r), r.Run.Plan.Seed
		ways = append(ways, []string{name, fmt.Sprintf("%s (seed %d)", name, seed),
			fmt.Sprintf("%s (seed %d, %s)", name, seed, filepath.Base(r.Run.Dir)), fmt.Sprintf("%s (seed %d, %s)", name, seed, r.Run.Dir)})
	}
	for _, u := range unrun {
		seeded := fmt.Sprintf("%s (seed %d)", u.Scenario, u.Seed)
		ways = append(ways, []string{u.Scenario, seeded, seeded, seeded})
	}
	names := make([]string, len(ways))
	for i := range ways {
		for n := range ways[i] {
			names[i] = ways[i][n]
			if !slices.ContainsFunc(ways[:i], func(w []string) bool { return w[n] == names[i] }) &&
				!slices.ContainsFunc(ways[i+1:], func(w []string) bool { return w[n] == names[i] }) {
				break
			}
		}
	}
	return names
}

func suiteName(r Result) string {
	if c := r.Run.Plan.Control; c != nil {
		return r.Run.Plan.Name + " with " + change(*c)
	}
	return r.Run.Plan.Name
}

func suite(name string, r Result) (junitSuite, float64) {
	seconds := 0.0
	if n := len(r.Run.Events); n > 0 {
		seconds = r.Run.Events[n-1].T.Seconds()
	}
	s := junitSuite{
		Name: name, Time: fmt.Sprintf("%.3f", seconds), Timestamp: r.Run.Meta.Start.UTC().Format("2006-01-02T15:04:05"),
		Properties: []junitProperty{
			{"verdict", r.Verdict.String()}, {"seed", fmt.Sprint(r.Run.Plan.Seed)}, {"driver", r.Run.Meta.Driver},
			{"tool", r.Run.Meta.Tool}, {"record", r.Run.Dir}, {"again", command(r)},
		},
	}
	for _, f := range r.Findings {
		c := junitCase{Class: s.Name, Name: f.ID, Time: "0"}
		if f.Round > 0 && len(r.Run.Plan.Rounds) > 1 {
			c.Name = fmt.Sprintf("%s (round %d)", f.ID, f.Round)
		}
		var lines []string
		for _, e := range f.Evidence {
			lines = append(lines, clean(evidence(e)))
		}
		text := strings.Join(lines, "\n")
		switch f.Verdict {
		case assertions.Pass:
			c.Out = strings.Join(nonEmpty(f.Summary, text), "\n")
		case assertions.Fail:
			c.Failure = &junitProblem{Message: clean(f.Summary), Type: f.Kind, Text: text}
		default:
			why := f.Reason
			if why == "" {
				why = f.Summary
			}
			c.Error = &junitProblem{Message: clean(why), Type: f.Kind, Text: strings.Join(nonEmpty(f.Summary, text), "\n")}
		}
		s.Cases = append(s.Cases, c)
	}
	if len(s.Cases) == 0 {
		// A suite without a case is green in every CI.
		s.Cases = append(s.Cases, junitCase{Class: s.Name, Name: "findings", Time: "0",
			Error: &junitProblem{Message: "the run has no findings", Type: "INVALID"}})
	}
	return s, seconds
}

func controlSuite(name string, r Result) junitSuite {
	s := junitSuite{Name: name + " controls", Time: "0", Timestamp: r.Run.Meta.Start.UTC().Format("2006-01-02T15:04:05")}
	for _, c := range r.Controls {
		x := junitCase{Class: s.Name, Name: c.Name, Time: "0"}
		unread := ""
		if c.Unread != "" {
			unread = notAgain + clean(c.Unread)
		}
		text := strings.Join(nonEmpty(c.Dir, unread), "\n")
		switch v := r.outcome(c); {
		case v == assertions.Pass:
			x.Out = strings.Join(nonEmpty(c.Reason, unread), "\n")
		case v == assertions.Invalid:
			x.Error = &junitProblem{Message: "nothing was shown: " + clean(c.Reason), Type: "control", Text: text}
		case c.NoFault:
			x.Failure = &junitProblem{Message: "not quiet: " + clean(c.Reason), Type: "control", Text: text}
		default:
			x.Failure = &junitProblem{Message: "not killed: " + clean(c.Reason), Type: "control", Text: text}
		}
		s.Cases = append(s.Cases, x)
	}
	return s
}
