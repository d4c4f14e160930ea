package harness

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hasvc/gauntlet/assertions"
	"github.com/hasvc/gauntlet/reports"
	"github.com/hasvc/gauntlet/scenarios"
)

// TB is what a test gives: a *testing.T or *testing.B.
type TB = testing.TB

// Test runs a scenario file, a shipped scenario by its name, or each scenario of a directory as a subtest: PASS passes, FAIL and INVALID fail with the report. The run
// directory is a test artifact (go test -artifacts keeps it). Timed runs take turns on a machine, so tests that use Test
// need not keep out of each other's way. With -short a scenario is read, compiled and checked, but not run. The go command prints a PASS
// again while nothing within the test's module has changed that it was made of; -count=1 runs it all the same.
func Test(t *testing.T, scenario string, opts ...Option) {
	t.Helper()
	files := find(t, scenario)
	if len(files) == 1 {
		testOne(t, files[0], opts)
		return
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), filepath.Ext(file)), func(t *testing.T) { testOne(t, file, opts) })
	}
}

// Option changes how Test runs a scenario.
type Option func(*testOptions)

type testOptions struct {
	Options
	controls []string
	all      bool
	streams  []string // links, for Up; nil: none
}

// WithSeed runs with a seed in place of the scenario's own.
func WithSeed(seed uint64) Option { return func(o *testOptions) { o.Seed = &seed } }

// WithDriver runs on a driver by its name.
func WithDriver(name string) Option {
	return func(o *testOptions) {
		d, err := DriverByName(name)
		if err != nil {
			panic(err) // the name is written in the test's source
		}
		o.Driver = d
	}
}

// WithStreamFaults has Up lead links, "FROM:TO" (each a node, service or group; none given: all), through the link core from
// their first connection on, so that faults of the stream layer such as latency and http-error act on connections that were
// there before them. It has a price: such a link is slower, and a connection to a program that does not listen is accepted and
// then reset, where it would be refused.
func WithStreamFaults(links ...string) Option {
	return func(o *testOptions) { o.streams = append([]string{}, links...) }
}

// WithControls carries out the named controls too, or all when none is named; one that survives fails the test, and so does
// a run without a fault that is not quiet.
func WithControls(names ...string) Option {
	return func(o *testOptions) { o.controls, o.all = names, len(names) == 0 }
}

func find(t *testing.T, scenario string) []string {
	t.Helper()
	files, err := scenarios.Find(scenario)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func testOne(t *testing.T, file string, opts []Option) {
	t.Helper()
	var o testOptions
	for _, f := range opts {
		f(&o)
	}
	ctx := t.Context()
	s, err := Load(ctx, file)
	if err != nil {
		t.Fatal(err)
	}
	if testing.Short() {
		if _, err := s.Plan(s.Seed(o.Seed), ""); err != nil {
			t.Fatal(err)
		}
		return
	}
	out := t.ArtifactDir()
	o.Dir = filepath.Join(out, "run")
	o.Progress = func(line string) { t.Log(line) }
	r, err := s.Run(ctx, o.Options)
	if err != nil {
		t.Fatal(err)
	}
	if o.all || len(o.controls) > 0 {
		if err := s.runSome(ctx, r, o, out); err != nil {
			t.Error(err) // and what was found up to there is told
		}
	}
	for _, c := range r.Controls {
		if c.Verdict != assertions.Pass {
			t.Errorf("control %s did not come out as it must: %s", c.Name, c.Reason)
		}
	}
	if r.Verdict != assertions.Pass || t.Failed() {
		var text bytes.Buffer
		if err := reports.Text(&text, []reports.Result{*r}); err != nil {
			t.Error(err)
		}
		t.Errorf("scenario %s: %s\n%s", s.Name(), r.Verdict, text.String())
	}
}

// runSome carries out the controls that the test asked for.
func (s *Scenario) runSome(ctx context.Context, r *reports.Result, o testOptions, out string) error {
	p := r.Run.Plan
	if !o.all {
		chosen := p.Controls[:0:0]
		for _, name := range o.controls {
			q, err := s.Plan(p.Seed, name)
			if err != nil {
				return err
			}
			chosen = append(chosen, *q.Control)
		}
		p.Controls = chosen
	}
	return s.RunControls(ctx, r, o.Options, func(name string) string {
		return RunDir(out, p, name)
	})
}
