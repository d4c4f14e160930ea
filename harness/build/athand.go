package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
	"golang.org/x/sys/unix"
)

// atHand builds a package without a version: of the module that dir is in, or the current directory, or one that these
// know; where there is none, of the module that this program itself was built from.
func (b *Builder) atHand(ctx context.Context, pkg, dir string, tell func(string)) (string, error) {
	if strings.HasPrefix(pkg, "./") || strings.HasPrefix(pkg, "../") || pkg == "." || pkg == ".." || filepath.IsAbs(pkg) {
		if !filepath.IsAbs(pkg) {
			pkg = filepath.Join(dir, pkg)
		}
		st, err := os.Stat(pkg)
		if err != nil {
			return "", err
		}
		if !st.IsDir() {
			return "", fmt.Errorf("%s is no directory with a Go package", pkg)
		}
		return b.local(ctx, pkg, ".", filepath.Base(pkg), tell)
	}
	var modules []module
	cwd, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("looking for the module of %s: %w", pkg, err)
	}
	for _, d := range []string{dir, cwd} {
		m, ok, err := findModule(d)
		if err != nil {
			return "", err
		}
		if ok {
			modules = append(modules, m)
		}
	}
	for _, m := range modules {
		if pkg == m.path || strings.HasPrefix(pkg, m.path+"/") {
			return b.local(ctx, m.dir, pkg, binaryName(pkg), tell)
		}
	}
	for _, m := range modules {
		of, err := b.listed(ctx, m, pkg)
		if err != nil {
			return "", err
		}
		switch {
		case of.dir != "":
			return b.local(ctx, of.dir, pkg, binaryName(pkg), tell)
		case of.version != "":
			return b.published(ctx, pkg, of.version, tell)
		}
	}
	version, err := ownVersion(pkg)
	if err != nil {
		return "", err
	}
	return b.published(ctx, pkg, version, tell)
}

// module is a directory with a go.mod.
type module struct{ dir, path string }

// findModule looks for a go.mod in dir and upward.
func findModule(dir string) (module, bool, error) {
	for d := dir; ; d = filepath.Dir(d) {
		data, err := os.ReadFile(filepath.Join(d, "go.mod"))
		if err == nil {
			path := modfile.ModulePath(data)
			if path == "" {
				return module{}, false, fmt.Errorf("%s does not say which module it is", filepath.Join(d, "go.mod"))
			}
			return module{dir: d, path: path}, true, nil
		}
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission) {
			return module{}, false, fmt.Errorf("looking for a module: %w", err)
		}
		if d == filepath.Dir(d) {
			return module{}, false, nil
		}
	}
}

// origin is where a module that another one requires comes from: a directory, or a version of its own.
type origin struct{ dir, version string }

// listed asks which module that m knows (a requirement, one of its workspace) has pkg; the zero origin is none. A test in
// a user's module that requires this one finds the reference service so.
func (b *Builder) listed(ctx context.Context, m module, pkg string) (origin, error) {
	out, err := b.run(ctx, m.dir, nil, "list", "-e", "-find", "-json=Module", "--", pkg)
	var failed *runError
	if errors.As(err, &failed) {
		return origin{}, nil // a module that cannot be listed knows nothing
	}
	if err != nil {
		return origin{}, err
	}
	type listedModule struct {
		Path, Version, Dir string
		Main               bool
		Replace            *listedModule
	}
	var x struct{ Module *listedModule }
	if err := json.Unmarshal([]byte(out), &x); err != nil || x.Module == nil {
		return origin{}, nil // of no module: of the standard library, or not there
	}
	switch r := x.Module.Replace; {
	case x.Module.Main, r != nil && r.Version == "":
		return origin{dir: x.Module.Dir}, nil
	case r != nil:
		return origin{}, nil // a fork under another path: a module of its own cannot ask for it
	}
	return origin{version: x.Module.Version}, nil
}

// ownVersion is the version of the module in this program that pkg belongs to: an installed harness builds the reference
// service of its own release.
func ownVersion(pkg string) (string, error) {
	info, ok := debug.ReadBuildInfo()
	if ok {
		for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
			if m.Replace != nil || pkg != m.Path && !strings.HasPrefix(pkg, m.Path+"/") {
				continue
			}
			if semver.IsValid(m.Version) && !strings.Contains(m.Version, "+dirty") {
				return m.Version, nil
			}
			return "", fmt.Errorf("this program was not built from a release of %s; run it in a checkout of that module, or write %s@VERSION", m.Path, pkg)
		}
	}
	return "", fmt.Errorf("no module here has it: neither the directory of the file, nor the current one, is in a module that knows it; write %s@VERSION for a published program, or ./DIRECTORY", pkg)
}

// local builds a package in its module. The go command decides what is to be done, so every change of a source is
// noticed; when nothing changed it only looks (0.2 to 0.5 s). The result is kept by its content.
func (b *Builder) local(ctx context.Context, dir, pkg, name string, tell func(string)) (string, error) {
	cache, err := b.cache()
	if err != nil {
		return "", err
	}
	key := hash(dir, pkg)
	release, err := lock(ctx, cache, key, func() { tell("waiting for another build of " + name) })
	if err != nil {
		return "", err
	}
	defer release()
	prune(cache)
	place := filepath.Join(cache, "local", key)
	stage, whole := filepath.Join(place, name), filepath.Join(place, "whole")
	if err := occupy(ctx, cache, place); err != nil {
		return "", err
	}
	// The go command leaves an output alone that carries the right build ID. Half of one may carry it too, so one that
	// was not seen whole is not kept.
	if _, err := os.Stat(whole); err != nil {
		_ = os.Remove(stage)
		tell("building " + name)
	} else if err := os.Remove(whole); err != nil {
		return "", fmt.Errorf("building %s: %w", name, err)
	}
	// Stamping the state of the repository would make another program of each commit.
	if _, err := b.run(ctx, dir, nil, "build", "-trimpath", "-buildvcs=false", "-o", stage, pkg); err != nil {
		return "", err
	}
	if err := isProgram(stage, pkg); err != nil {
		return "", err
	}
	if testing.Testing() {
		if err := b.look(ctx, dir, pkg); err != nil {
			return "", err
		}
	}
	if err := os.WriteFile(whole, nil, 0o644); err != nil {
		return "", fmt.Errorf("building %s: %w", name, err)
	}
	return publish(ctx, cache, stage, name)
}

// sources lists, a line each, what goes into a package and those that it imports: modules, directories, and files.
const sources = `{{if not .Standard}}{{with .Module}}{{.GoMod}}{{end}}
{{$d := .Dir}}{{$d}}{{range .GoFiles}}
{{$d}}/{{.}}{{end}}{{range .CgoFiles}}
{{$d}}/{{.}}{{end}}{{range .EmbedFiles}}
{{$d}}/{{.}}{{end}}{{end}}`

// look opens what a package is built from. "go test" prints a PASS again, and runs nothing, for as long as no file and no directory
// changes that the test itself opened: what only the compiler read would not count.
func (b *Builder) look(ctx context.Context, dir, pkg string) error {
	out, err := b.run(ctx, dir, nil, "list", "-deps", "-f", sources, "--", pkg)
	if err != nil {
		return err
	}
	for file := range strings.SplitSeq(out, "\n") {
		if file == "" {
			continue
		}
		if f, err := os.Open(file); err == nil { // to try is what counts
			f.Close()
		}
	}
	return nil
}

// occupy makes a directory of the cache, or marks it as used for prune.
func occupy(ctx context.Context, cache, dir string) error {
	release, err := use(ctx, cache)
	if err != nil {
		return err
	}
	defer release()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making the cache of built programs: %w", err)
	}
	now := time.Now()
	if err := os.Chtimes(dir, now, now); err != nil {
		return fmt.Errorf("making the cache of built programs: %w", err)
	}
	return nil
}

// publish copies a program to a place named by its content.
func publish(ctx context.Context, cache, file, name string) (string, error) {
	release, err := use(ctx, cache)
	if err != nil {
		return "", err
	}
	defer release()
	in, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("keeping the program built: %w", err)
	}
	defer in.Close()
	h := sha256.New()
	if _, err := io.Copy(h, in); err != nil {
		return "", fmt.Errorf("keeping the program built: %w", err)
	}
	out := filepath.Join(cache, "bin", hex.EncodeToString(h.Sum(nil))[:32], name)
	if used(out) {
		return out, nil
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return "", fmt.Errorf("keeping the program built: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(out), "tmp-")
	if err != nil {
		return "", fmt.Errorf("keeping the program built: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = in.Seek(0, io.SeekStart)
	if err == nil {
		_, err = io.Copy(tmp, in)
	}
	if err := errors.Join(err, tmp.Chmod(0o755), tmp.Close()); err != nil {
		return "", fmt.Errorf("keeping the program built: %w", err)
	}
	if err := os.Rename(tmp.Name(), out); err != nil {
		return "", fmt.Errorf("keeping the program built: %w", err)
	}
	return out, nil
}

// keep is how long a result stays that no run asked for.
const keep = 7 * 24 * time.Hour

// prune removes results of packages at hand that nothing used for long: each change of a source makes another. What
// cannot be removed stays, and all of it while somebody looks for a result: what is old now is marked as used a moment later.
func prune(cache string) {
	f, err := openLock(cache, pruning)
	if err != nil {
		return
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return
	}
	for _, sub := range []string{"bin", "local"} {
		entries, err := os.ReadDir(filepath.Join(cache, sub))
		if err != nil {
			continue
		}
		for _, e := range entries {
			if info, err := e.Info(); err == nil && e.IsDir() && time.Since(info.ModTime()) > keep {
				_ = os.RemoveAll(filepath.Join(cache, sub, e.Name()))
			}
		}
	}
}
