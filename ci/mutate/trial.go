package main

import (
	"context"
	"encoding/json"
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
}

// try runs the tests on a mutant, or unchanged. The file is replaced for the compiler only: the tree stays as it is.
func (t trial) try(ctx context.Context, m *mutant) (outcome, string) {
	args := []string{"test", "-vet=off", "-count=1", "-failfast", "-timeout=" + t.limit.String()}
	if t.run != "" {
		args = append(args, "-run="+t.run)
	}
	if m != nil {
		overlay, err := t.overlay(*m)
		if err != nil {
			return stillborn, err.Error()
		}
		args = append(args, "-overlay="+overlay)
	}
	// A mutant that keeps the compiler or its tests busy for ever is ended from here too.
	ctx, cancel := context.WithTimeout(ctx, t.limit+5*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "go", append(args, ".")...)
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

// overlay writes a mutant down as go build's -overlay takes it.
func (t trial) overlay(m mutant) (string, error) {
	path, err := filepath.Abs(m.file)
	if err != nil {
		return "", err
	}
	changed := filepath.Join(t.tmp, "mutant.go")
	if err := os.WriteFile(changed, m.text(), 0o644); err != nil {
		return "", err
	}
	b, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(t.tmp, "overlay.json")
	return overlay, os.WriteFile(overlay, b, 0o644)
}
