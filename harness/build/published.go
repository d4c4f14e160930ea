package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/mod/semver"
)

var commitForm = regexp.MustCompile(`^[0-9a-f]{7,40}$`)

// published builds a program of the module proxy, once.
func (b *Builder) published(ctx context.Context, pkg, version string, tell func(string)) (string, error) {
	plain := strings.TrimSuffix(version, "+incompatible")
	if semver.Canonical(plain) != plain && !commitForm.MatchString(version) || plain == "" {
		return "", fmt.Errorf("%s is no exact version, so the run could not be repeated; name one such as v1.2.3, or a commit", version)
	}
	cache, err := b.cache()
	if err != nil {
		return "", err
	}
	settings, err := b.settings(ctx, cache)
	if err != nil {
		return "", err
	}
	key := hash(pkg, version, settings)
	out := filepath.Join(cache, "go", key, binaryName(pkg))
	if used(out) {
		return out, nil
	}
	what := pkg + "@" + version
	release, err := lock(ctx, cache, key, func() { tell("waiting for another build of " + what) })
	if err != nil {
		return "", err
	}
	defer release()
	if used(out) {
		return out, nil
	}
	tell("building " + what + " (once; it is kept)")
	if err := os.MkdirAll(filepath.Join(cache, "go"), 0o755); err != nil {
		return "", fmt.Errorf("making the cache of built programs: %w", err)
	}
	// On the same file system as the result, so that a rename publishes it whole or not at all.
	tmp, err := os.MkdirTemp(filepath.Join(cache, "go"), "tmp-")
	if err != nil {
		return "", fmt.Errorf("making the cache of built programs: %w", err)
	}
	defer os.RemoveAll(tmp)
	work, dist := filepath.Join(tmp, "module"), filepath.Join(tmp, "out")
	for _, d := range []string{work, dist} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return "", fmt.Errorf("making the cache of built programs: %w", err)
		}
	}
	// `go install P@V` refuses modules with replace directives (etcd's server has some): a module of our own that
	// requires P builds any program.
	env := []string{"GOWORK=off", "GO111MODULE=on"}
	for _, args := range [][]string{
		{"mod", "init", "build.invalid/throwaway"},
		{"get", what},
		{"build", "-mod=mod", "-trimpath", "-buildvcs=false", "-o", filepath.Join(dist, binaryName(pkg)), pkg},
	} {
		if _, err := b.run(ctx, work, env, args...); err != nil {
			return "", err
		}
	}
	if err := isProgram(filepath.Join(dist, binaryName(pkg)), pkg); err != nil {
		return "", err
	}
	if err := os.Rename(dist, filepath.Dir(out)); err != nil {
		return "", fmt.Errorf("keeping the program built: %w", err)
	}
	return out, nil
}

// isProgram: for a package that is no command, go build -o writes an archive or nothing, and no error.
func isProgram(file, pkg string) error {
	st, err := os.Stat(file)
	if errors.Is(err, os.ErrNotExist) || err == nil && st.Mode()&0o111 == 0 {
		return fmt.Errorf("%s is no program: its package is not main", pkg)
	}
	return err
}

// cache is the cache directory.
func (b *Builder) cache() (string, error) {
	if b.Cache != "" {
		return filepath.Abs(b.Cache)
	}
	return CacheDir()
}

// settings are those of the go command that change what it builds, outside any module.
func (b *Builder) settings(ctx context.Context, cache string) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.env != "" {
		return b.env, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("making the cache of built programs: %w; set %s to a directory that can be written", err, CacheVariable)
	}
	out, err := b.run(ctx, cache, []string{"GOWORK=off"}, "env", "GOVERSION", "GOOS", "GOARCH", "GOAMD64", "GOARM64", "CGO_ENABLED", "GOFLAGS", "GOEXPERIMENT", "CC")
	if err != nil {
		return "", err
	}
	b.env = out
	return out, nil
}

// used reports whether a result is there, and marks it as used for prune.
func used(file string) bool {
	st, err := os.Stat(file)
	if err != nil || !st.Mode().IsRegular() {
		return false
	}
	now := time.Now()
	_ = os.Chtimes(filepath.Dir(file), now, now) // a cache owned by another user still serves
	return true
}

func hash(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s\n", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))[:32]
}
