package main

import (
	"context"
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
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
	tmp string
	bin string // the tests, with every change that can be switched
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

// try runs the tests on a mutant, or unchanged.
func (t *trial) try(ctx context.Context, m *mutant) (outcome, string) {
	// A mutant that keeps the compiler or its tests busy for ever is ended from here too.
	ctx, cancel := context.WithTimeout(ctx, t.limit+5*time.Minute)
	defer cancel()
	if m != nil && m.switched == nil {
		return t.compiled(ctx, *m)
	}
	c := exec.CommandContext(ctx, t.bin, "-test.failfast", "-test.timeout="+t.limit.String(), "-test.run="+t.run)
	id := 0
	if m != nil {
		id = m.id
	}
	c.Env = append(os.Environ(), fmt.Sprintf("MUTANT=%d", id))
	return t.end(c)
}

// compiled tries a mutant that takes a compilation of its own. The file is replaced for the compiler only: the tree stays as it is.
func (t *trial) compiled(ctx context.Context, m mutant) (outcome, string) {
	path, err := filepath.Abs(m.file)
	if err != nil {
		return stillborn, err.Error()
	}
	changed := filepath.Join(t.tmp, "mutant.go")
	if err := os.WriteFile(changed, m.text(), 0o644); err != nil {
		return stillborn, err.Error()
	}
	overlay, err := t.overlay("one.json", map[string]string{path: changed})
	if err != nil {
		return stillborn, err.Error()
	}
	args := []string{"test", "-vet=off", "-count=1", "-failfast", "-timeout=" + t.limit.String(), "-overlay=" + overlay}
	if t.run != "" {
		args = append(args, "-run="+t.run)
	}
	return t.end(exec.CommandContext(ctx, "go", append(args, ".")...))
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
