package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// outcome of the tests of a mutant.
type outcome string

const (
	killed    outcome = "killed"
	survived  outcome = "survived"
	stillborn outcome = "did not compile"
)

// trial runs tests.
type trial struct {
	settings
	tmp   string
	bin   string        // the tests, with every change that can be switched
	tests []test        // that pass unchanged
	by    map[int][]int // a change that can be switched -> those of tests that come by it
}

// test is a test of the package, with all of its parts.
type test struct {
	name string
	took time.Duration // unchanged
}

// build compiles the tests once with every change that can be switched.
func (t *trial) build(ctx context.Context, all []mutant) error {
	byFile := map[string][]mutant{}
	for _, m := range all {
		byFile[m.file] = append(byFile[m.file], m)
	}
	replace := map[string]string{}
	put := func(path, text string) error {
		abs, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		replace[abs] = filepath.Join(t.tmp, fmt.Sprintf("%d.go", len(replace)))
		return os.WriteFile(replace[abs], []byte(text), 0o644)
	}
	pkg := ""
	for file, ms := range byFile {
		f, err := parser.ParseFile(token.NewFileSet(), file, ms[0].source, parser.PackageClauseOnly)
		if err != nil {
			return fmt.Errorf("parsing %s: %w", file, err)
		}
		pkg = f.Name.Name
		if err := put(file, together(ms[0].source, ms)); err != nil {
			return fmt.Errorf("writing mutants: %w", err)
		}
	}
	if err := put(filepath.Join(t.dir, "mutants_switched.go"), fmt.Sprintf(helpers, pkg)); err != nil {
		return fmt.Errorf("writing mutants: %w", err)
	}
	overlay, err := t.overlay("all.json", replace)
	if err != nil {
		return fmt.Errorf("writing mutants: %w", err)
	}
	t.bin = filepath.Join(t.tmp, "tests")
	c := exec.CommandContext(ctx, "go", "test", "-vet=off", "-c", "-o", t.bin, "-overlay="+overlay, ".")
	c.Dir = t.dir
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("compiling all mutants together: %w\n%s", err, out)
	}
	return nil
}

// trace runs each test unchanged and by itself, and notes which changes it comes by.
func (t *trial) trace(ctx context.Context) error {
	c := exec.CommandContext(ctx, t.bin, "-test.list="+cmp.Or(t.run, "."))
	c.Dir = t.dir
	names, err := c.Output()
	if err != nil {
		return fmt.Errorf("listing the tests: %w", err)
	}
	t.by = map[int][]int{}
	for name := range strings.FieldsSeq(string(names)) {
		if strings.HasPrefix(name, "Benchmark") {
			continue
		}
		file := filepath.Join(t.tmp, "trace")
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			return fmt.Errorf("tracing %s: %w", name, err)
		}
		begin := time.Now()
		c := exec.CommandContext(ctx, t.bin, append([]string{"-test.timeout=" + t.limit.String(), "-test.run=^" + name + "$"}, t.args...)...)
		c.Env = append(os.Environ(), "MUTANT_TRACE="+file)
		if o, said := t.end(c); o != survived {
			return fmt.Errorf("the tests do not pass unchanged: %s\n%s", o, said)
		}
		t.tests = append(t.tests, test{name, time.Since(begin)})
		passed, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("tracing %s: %w", name, err)
		}
		for word := range strings.FieldsSeq(string(passed)) {
			id, err := strconv.Atoi(word)
			if err != nil {
				return fmt.Errorf("tracing %s: %w", name, err)
			}
			t.by[id] = append(t.by[id], len(t.tests)-1)
		}
	}
	return nil
}

// try runs the tests on a mutant; where it can be switched, those that come by it.
func (t *trial) try(ctx context.Context, m mutant) outcome {
	// A mutant that keeps the compiler or its tests busy for ever is ended from here too.
	ctx, cancel := context.WithTimeout(ctx, t.limit+5*time.Minute)
	defer cancel()
	if m.switched == nil {
		return t.compiled(ctx, m)
	}
	if len(t.by[m.id]) == 0 {
		return survived
	}
	var names []string
	var took time.Duration
	for _, i := range t.by[m.id] {
		names = append(names, t.tests[i].name)
		took += t.tests[i].took
	}
	limit := min(t.limit, 10*took+10*time.Second)
	c := exec.CommandContext(ctx, t.bin, append([]string{"-test.failfast", "-test.timeout=" + limit.String(), "-test.run=^(" + strings.Join(names, "|") + ")$"}, t.args...)...)
	c.Env = append(os.Environ(), fmt.Sprintf("MUTANT=%d", m.id))
	o, _ := t.end(c)
	return o
}

// compiled tries a mutant that takes a compilation of its own. The file is replaced for the compiler only: the tree stays as it is.
func (t *trial) compiled(ctx context.Context, m mutant) outcome {
	path, err := filepath.Abs(m.file)
	if err != nil {
		return stillborn
	}
	changed := filepath.Join(t.tmp, fmt.Sprintf("mutant%d.go", m.id))
	if err := os.WriteFile(changed, m.text(), 0o644); err != nil {
		return stillborn
	}
	overlay, err := t.overlay(fmt.Sprintf("mutant%d.json", m.id), map[string]string{path: changed})
	if err != nil {
		return stillborn
	}
	args := []string{"test", "-vet=off", "-count=1", "-failfast", "-timeout=" + t.limit.String(), "-overlay=" + overlay}
	if t.run != "" {
		args = append(args, "-run="+t.run)
	}
	o, _ := t.end(exec.CommandContext(ctx, "go", slices.Concat(args, []string{"."}, t.args)...))
	return o
}

// end runs tests to their end.
func (t *trial) end(c *exec.Cmd) (outcome, string) {
	c.Dir = t.dir
	c.WaitDelay = time.Second
	out, err := c.CombinedOutput()
	switch {
	case err == nil:
		return survived, ""
	case strings.Contains(string(out), "[build failed]"), strings.Contains(string(out), "[setup failed]"):
		return stillborn, string(out)
	}
	return killed, string(out)
}

// overlay writes which files are replaced, as go build's -overlay takes it.
func (t *trial) overlay(name string, replace map[string]string) (string, error) {
	b, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(t.tmp, name)
	return overlay, os.WriteFile(overlay, b, 0o644)
}
