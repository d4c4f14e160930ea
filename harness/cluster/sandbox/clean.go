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
// and freed their networks, mounts and rules; only cgroups can be left, and the directories of the doctor. What a living
// harness uses is not touched.
func Clean() (removed []string, err error) {
	removed, err = cleanDoctors()
	cgroups, cgroupsErr := cleanCgroups()
	return append(removed, cgroups...), errors.Join(err, cgroupsErr)
}

// cleanDoctors removes this user's directories of doctors that are dead.
func cleanDoctors() (removed []string, err error) {
	found, err := filepath.Glob(filepath.Join(os.TempDir(), doctorPrefix+"*"))
	if err != nil {
		return nil, fmt.Errorf("look for directories of the doctor: %w", err)
	}
	var errs []error
	for _, dir := range found {
		st, err := os.Lstat(dir)
		if err != nil || !st.IsDir() || ownerOf(st) != os.Geteuid() || !abandoned(filepath.Base(dir), doctorPrefix) {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			errs = append(errs, fmt.Errorf("remove a directory of the doctor: %w", err))
			continue
		}
		removed = append(removed, "directory "+dir)
	}
	return removed, errors.Join(errs...)
}

func cleanCgroups() (removed []string, err error) {
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
				if seen[dir] || !abandoned(filepath.Base(dir), cgroupPrefix) {
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

// ownName begins the name of what this process makes, so that Clean can tell whether it lives: PREFIX-PID-START-, where START is its
// start time.
func ownName(prefix string) (string, error) {
	start, err := startTime(os.Getpid())
	return fmt.Sprintf("%s%d-%d-", prefix, os.Getpid(), start), err
}

// abandoned reports whether the process that made what bears this name is dead.
func abandoned(name, prefix string) bool {
	var pid, n int
	var start uint64
	if _, err := fmt.Sscanf(strings.TrimPrefix(name, prefix), "%d-%d-%d", &pid, &start, &n); err != nil {
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
