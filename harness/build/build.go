// Package build turns what a topology or scenario names into executables: a Go package of the module at hand, a
// published Go program, or a program that is on this machine.
//
// What it builds is kept in a cache directory and found there again by what went in:
//
//	CACHE/go/KEY/NAME      a published program; KEY is its package, version, Go version and platform
//	CACHE/local/KEY/       where a package of a module at hand is built; KEY is its directory
//	CACHE/bin/SHA/NAME     the result of that, by its content, so that a build beside a run does not change what the run starts
//	CACHE/lock/KEY         held while KEY is built
//
// Any number of processes may use one cache. A build that is interrupted leaves nothing that passes for a result.
package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// CacheVariable names the cache directory, where it is set.
const CacheVariable = "GAUNTLET_CACHE"

// CacheDir is $GAUNTLET_CACHE, or gauntlet in the user's cache directory.
func CacheDir() (string, error) {
	if dir := os.Getenv(CacheVariable); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("looking for a place for built programs: %w; set %s to a directory", err, CacheVariable)
	}
	return filepath.Join(dir, "gauntlet"), nil
}

// Builder builds programs. Its zero value uses CacheDir and the go command on PATH.
type Builder struct {
	Cache string // empty: CacheDir
	Go    string // the go command; empty: go

	mu  sync.Mutex
	env string // what of the go command's settings goes into a key
}

// Error is a program that could not be had.
type Error struct {
	Program string // as the topology or scenario names it
	For     string // the service or program that wants it
	Output  string // of the go command; may be empty
	Err     error
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %s: %v", e.For, e.Program, e.Err)
	if e.Output != "" {
		s += "\n" + e.Output
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// source is one program to be had, however many want it.
type source struct {
	goPkg, exec string
	dir         string // of the file that names it
	wanted      string // the first that wants it, for errors
	path        string // filled by having it
}

func (s *source) program() string {
	if s.goPkg != "" {
		return "go: " + s.goPkg
	}
	return "exec: " + s.exec
}

// Build has every program of the topology and of progs, and fills in Service.Argv0. Paths and packages of the topology
// are relative to its file, those of progs to baseDir. It returns executables by name for the PATH of the nodes: progs by
// theirs, and the programs that services run by that of their file. progress, which may be nil, is told of each build that takes time.
// All errors come joined.
func (b *Builder) Build(ctx context.Context, spec *cluster.Spec, progs []plan.Program, baseDir string, progress func(string)) (map[string]string, error) {
	var (
		all      []*source
		services = map[int]*source{}
		programs = map[string]*source{}
	)
	want := func(goPkg, exec, dir, who string) *source {
		for _, s := range all {
			if s.goPkg == goPkg && s.exec == exec && s.dir == dir {
				return s
			}
		}
		s := &source{goPkg: goPkg, exec: exec, dir: dir, wanted: who}
		all = append(all, s)
		return s
	}
	topologyDir, err := filepath.Abs(filepath.Dir(spec.File))
	if err != nil {
		return nil, fmt.Errorf("building programs: %w", err)
	}
	if baseDir, err = filepath.Abs(baseDir); err != nil {
		return nil, fmt.Errorf("building programs: %w", err)
	}
	for i, s := range spec.Services {
		if s.Source.Go != "" || s.Source.Exec != "" {
			services[i] = want(s.Source.Go, s.Source.Exec, topologyDir, "service "+s.Name)
		}
	}
	for _, p := range progs {
		if p.Go == "" && p.Exec == "" {
			return nil, fmt.Errorf("program %s: neither go nor exec says what it is", p.Name)
		}
		programs[p.Name] = want(p.Go, p.Exec, baseDir, "program "+p.Name)
	}

	tell := b.teller(progress)
	errs := make([]error, len(all))
	var g errgroup.Group
	g.SetLimit(2) // the go command uses all cores by itself; two at once overlap downloads with compiling
	for i, s := range all {
		g.Go(func() error {
			errs[i] = b.have(ctx, s, tell)
			return nil // the others go on, so that all errors come at once
		})
	}
	_ = g.Wait()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("building programs: %w", context.Cause(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}

	bin := map[string]string{}
	for i := range spec.Services {
		s, ok := services[i]
		if !ok {
			continue // an image: the driver says whether it can run that
		}
		spec.Services[i].Argv0 = s.path
		name := filepath.Base(s.path)
		if have, taken := bin[name]; taken && have != s.path {
			bin[name] = "" // two programs of one name: neither can be meant
		} else if !taken {
			bin[name] = s.path
		}
	}
	for name, p := range bin {
		if p == "" {
			delete(bin, name)
		}
	}
	for name, s := range programs {
		bin[name] = s.path
	}
	return bin, nil
}

// teller makes progress safe for several goroutines.
func (b *Builder) teller(progress func(string)) func(string) {
	var mu sync.Mutex
	return func(s string) {
		if progress == nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		progress(s)
	}
}

func (b *Builder) have(ctx context.Context, s *source, tell func(string)) error {
	var err error
	switch pkg, version, versioned := strings.Cut(s.goPkg, "@"); {
	case s.goPkg == "":
		s.path, err = local(s.exec, s.dir)
	case versioned:
		s.path, err = b.published(ctx, pkg, version, tell)
	default:
		s.path, err = b.atHand(ctx, pkg, s.dir, tell)
	}
	if err == nil {
		return nil
	}
	e := &Error{Program: s.program(), For: s.wanted, Err: err}
	var run *runError
	if errors.As(err, &run) {
		e.Output = run.output
	}
	return e
}

var majorVersion = regexp.MustCompile(`^v[0-9]+$`)

// binaryName is what the go command calls the program of a package: the last element of its path that is no major version.
func binaryName(pkg string) string {
	name := path.Base(pkg)
	if majorVersion.MatchString(name) && path.Dir(pkg) != "." {
		name = path.Base(path.Dir(pkg))
	}
	return name
}
