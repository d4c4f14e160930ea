package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// event is a line of `go test -json`; see `go doc test2json` and `go help buildjson`.
type event struct {
	Action     string
	Package    string
	Test       string // TEST or TEST/SUBTEST; empty: of the package
	Output     string
	ImportPath string // of what is built
}

// test is one that has begun, with what it said.
type test struct {
	name   string
	output []string
	result string // pass, fail or skip; empty: it has not ended
}

// pkg is a package that is being tested, its tests in the order of their beginning.
type pkg struct {
	output []string // of no test
	tests  []*test
}

// stream is what has been read so far.
type stream struct {
	to       io.Writer
	packages map[string]*pkg
	tally    tally
	failed   bool // something did, be it a build
	err      error
}

// run prints the events of from as `go test` does, and the tally, and reports whether all went well.
func run(from io.Reader, to io.Writer) (ok bool, err error) {
	s := &stream{to: to, packages: map[string]*pkg{}, tally: newTally()}
	lines := bufio.NewReader(from)
	seen := false
	for {
		line, err := lines.ReadString('\n') // a test may say more in a line than a Scanner takes
		if line != "" {
			seen = true
			s.line(line)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return false, fmt.Errorf("read the tests' events: %w", err)
		}
	}
	if !seen {
		return false, errors.New("no events came: did go test start?")
	}
	if len(s.packages) > 0 {
		s.failed = true
		for name, p := range s.packages {
			s.print("%s", strings.Join(p.failures(), ""))
			s.print("FAIL\t%s [its events end before it does]\n", name)
		}
	}
	if s.failed {
		s.print("FAIL\n")
	}
	s.print("%s", s.tally)
	return !s.failed, s.err
}

func (s *stream) print(format string, args ...any) {
	if _, err := fmt.Fprintf(s.to, format, args...); err != nil && s.err == nil {
		s.err = err
	}
}

func (s *stream) line(line string) {
	var e event
	if json.Unmarshal([]byte(line), &e) != nil || e.Action == "" {
		s.print("%s", line) // of the go command itself, which does not always speak JSON
		return
	}
	switch e.Action {
	case "build-output":
		s.print("%s", e.Output)
		return
	case "build-fail":
		s.failed = true
		return
	}
	p := s.packages[e.Package]
	if p == nil {
		p = &pkg{}
		s.packages[e.Package] = p
	}
	if e.Test != "" {
		p.take(e)
		return
	}
	switch e.Action {
	case "output":
		p.output = append(p.output, e.Output)
	case "pass", "skip", "fail":
		s.end(e, p)
	}
}

// take notes what happened to a test.
func (p *pkg) take(e event) {
	var t *test
	for _, known := range p.tests {
		if known.name == e.Test && known.result == "" {
			t = known
		}
	}
	if t == nil { // it begins, perhaps once more: -count
		t = &test{name: e.Test}
		p.tests = append(p.tests, t)
	}
	switch e.Action {
	case "output":
		t.output = append(t.output, e.Output)
	case "pass", "skip", "fail":
		t.result = e.Action
	}
}

// end prints a package's results.
func (s *stream) end(e event, p *pkg) {
	delete(s.packages, e.Package)
	for _, t := range p.tests {
		s.tally.add(e.Package, t)
	}
	if e.Action == "fail" {
		s.failed = true
		s.print("%s", strings.Join(p.failures(), ""))
	}
	for _, line := range p.output {
		// A package that passes is one line, its last.
		if e.Action == "fail" || strings.HasPrefix(line, "ok  \t") || strings.HasPrefix(line, "?   \t") || strings.HasPrefix(line, "\t") {
			s.print("%s", line)
		}
	}
}

// failures is what was said by the tests that failed, and by those that a crash or a timeout cut off.
func (p *pkg) failures() (lines []string) {
	for _, t := range p.tests {
		if t.result == "pass" || t.result == "skip" {
			continue
		}
		indent := strings.Repeat("    ", strings.Count(t.name, "/"))
		var result, said []string // a result comes last in the events, and is printed first
		for _, line := range t.output {
			switch {
			case strings.HasPrefix(line, "=== "):
			case strings.HasPrefix(line, "--- "):
				result = append(result, indent+line)
			default:
				said = append(said, indent+line)
			}
		}
		lines = append(append(lines, result...), said...)
	}
	return lines
}
