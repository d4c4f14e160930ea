// Package etcdbin builds the etcd server, for tests and for `hasvc dev`.
package etcdbin

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

const (
	pkg     = "go.etcd.io/etcd/server/v3"
	version = "v3.7.3"
)

// Path of the etcd server, built once per machine and user with the go command, which must be there.
func Path() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("looking for a place to keep etcd: %w", err)
	}
	dir := filepath.Join(cache, "gauntlet-test")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "etcd-"+version)
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	// Test binaries of several packages run at once.
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("waiting for another test that builds etcd: %w", err)
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return path, build(path)
}

// build makes a module of its own: `go install` refuses etcd's server because of its replace directives.
func build(path string) error {
	dir, err := os.MkdirTemp("", "etcd-build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	made := filepath.Join(dir, "etcd")
	for _, args := range [][]string{{"mod", "init", "build"}, {"get", pkg + "@" + version}, {"build", "-o", made, pkg}} {
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building etcd: go %v: %w\n%s", args, err, out)
		}
	}
	b, err := os.ReadFile(made)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", b, 0o755); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
