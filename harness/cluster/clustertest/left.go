package clustertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// surroundings are what a topology could leave behind on this machine.
type surroundings struct {
	descriptors map[string]int // what they lead to -> how many
	mounts      map[string]bool
	goroutines  goleak.Option
}

// look takes stock of this process and its machine.
func (s *suite) look() surroundings {
	now := surroundings{descriptors: map[string]int{}, mounts: map[string]bool{}, goroutines: goleak.IgnoreCurrent()}
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil {
			continue // the descriptor of the directory itself
		}
		kind, _, special := strings.Cut(to, ":[")
		if special {
			to = kind // socket, pipe, net: one is like another
		}
		now.descriptors[to]++
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 4 && !ofEngine(f[4]) {
			now.mounts[f[4]] = true
		}
	}
	return now
}

// ofEngine reports whether a mount is a container engine's own. Those come and go with the containers of others; what a driver leaves
// in an engine it has to find itself, by its labels.
func ofEngine(mount string) bool {
	for _, dir := range []string{"/var/lib/docker/", "/run/docker/", "/var/run/docker/", "/var/lib/containers/"} {
		if strings.HasPrefix(mount, dir) {
			return true
		}
	}
	return false
}

// left says what is there that was not there before. Processes are told by the mark in their environment and by being descendants
// of this one: a network namespace lives as long as a process, a descriptor or a mount holds it, so those three show it too.
func (s *suite) left(before surroundings) error {
	var all []error
	for _, p := range descendants() {
		all = append(all, fmt.Errorf("process %d: %s", p, cmdline(p)))
	}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if env, err := os.ReadFile("/proc/" + e.Name() + "/environ"); err == nil && strings.Contains(string(env), markEnv+"="+s.mark) {
			all = append(all, fmt.Errorf("process %d: %s", pid, cmdline(pid)))
		}
	}
	now := s.look()
	for to, n := range now.descriptors {
		if n > before.descriptors[to] {
			all = append(all, fmt.Errorf("%d descriptors more of %s", n-before.descriptors[to], to))
		}
	}
	for m := range now.mounts {
		if !before.mounts[m] {
			all = append(all, fmt.Errorf("mount %s", m))
		}
	}
	return errors.Join(all...)
}

// nothingLeft waits until the machine is as it was: the kernel frees some things a moment later.
func (s *suite) nothingLeft(t *testing.T, before surroundings) {
	t.Helper()
	poll(t, context.Background(), 5*time.Second, "nothing is left", func() error { return s.left(before) })
	// goleak does its own waiting.
	require.NoError(t, goleak.Find(before.goroutines), "goroutines are left")
}

// descendants are the processes below this one.
func descendants() []int {
	children := map[int][]int{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		children[parent(pid)] = append(children[parent(pid)], pid)
	}
	var all []int
	for next := []int{os.Getpid()}; len(next) > 0; next = next[1:] {
		all = append(all, children[next[0]]...)
		next = append(next, children[next[0]]...)
	}
	return all
}

// stat returns the fields of /proc/PID/stat from the state on, or nil when there is no such process.
func stat(pid int) []string {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return nil
	}
	_, rest, _ := strings.Cut(string(b)[strings.LastIndexByte(string(b), ')'):], " ")
	return strings.Fields(rest)
}

func parent(pid int) int {
	f := stat(pid)
	if len(f) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(f[1])
	return n
}

// procState is the letter of a process's state, empty when there is none.
func procState(pid int) string {
	f := stat(pid)
	if len(f) == 0 {
		return ""
	}
	return f[0]
}

func cmdline(pid int) string {
	b, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	return strings.ReplaceAll(string(b), "\x00", " ")
}
