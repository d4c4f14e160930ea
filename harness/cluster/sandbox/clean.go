package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Clean removes what topologies left whose harness is dead, and returns their names. The kernel ended their processes
// and freed their networks, mounts and rules; only cgroups can be left. What a living harness uses is not touched.
func Clean() (removed []string, err error) {
	parents, err := findCgroupParents()
	if err != nil {
		return nil, err
	}
	var errs []error
	seen := map[string]bool{}
	for _, dirs := range parents.dirs {
		for _, parent := range dirs {
			found, err := filepath.Glob(filepath.Join(parent, cgroupPrefix+"*"))
			if err != nil {
				return nil, fmt.Errorf("look for cgroups: %w", err)
			}
			for _, dir := range found {
				if seen[dir] || !abandoned(filepath.Base(dir)) {
					continue
				}
				seen[dir] = true
				if err := removeCgroups(dir); err != nil {
					errs = append(errs, err)
					continue
				}
				removed = append(removed, "cgroup "+dir)
			}
		}
	}
	return removed, errors.Join(errs...)
}

// abandoned reports whether the process that made a cgroup of this name is dead.
func abandoned(name string) bool {
	var pid, n int
	var start uint64
	if _, err := fmt.Sscanf(strings.TrimPrefix(name, cgroupPrefix), "%d-%d-%d", &pid, &start, &n); err != nil {
		return false // not one of ours
	}
	now, err := startTime(pid)
	return err != nil || now != start
}

// removeCgroups removes a cgroup and those in it.
func removeCgroups(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove a cgroup: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeCgroups(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove a cgroup: %w", err)
	}
	return nil
}
