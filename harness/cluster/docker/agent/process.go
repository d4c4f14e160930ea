package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// process is a living process of the PID namespace whose /proc is mounted.
type process struct {
	pid, parent int
	started     string // with pid, it names the process in all time
}

// processes lists them.
func processes() ([]process, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	names, err := d.Readdirnames(-1)
	d.Close()
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	var all []process
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue // it has ended meanwhile
		}
		if p, ok := parseStat(pid, stat); ok {
			all = append(all, p)
		}
	}
	return all, nil
}

// statFields are those of /proc/PID/stat (proc(5)) from the third on: "pid (name) state ppid ...", where the name may hold anything.
func statFields(stat []byte) []string {
	return strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
}

// parseStat reads the state, the parent(4) and the starttime(22). It is not ok for what has ended and only waits to be reaped.
func parseStat(pid int, stat []byte) (p process, ok bool) {
	f := statFields(stat)
	const state, parent, started = 0, 1, 19
	if len(f) <= started || f[state] == "Z" || f[state] == "X" {
		return p, false
	}
	p = process{pid: pid, started: f[started]}
	p.parent, _ = strconv.Atoi(f[parent])
	return p, true
}

// ending reports whether a line of /proc/PID/stat is of a process that has ended or is about to: its flags (9) have
// PF_EXITING.
func ending(stat []byte) bool {
	const flags, exiting = 6, 0x4
	f := statFields(stat)
	if len(f) <= flags {
		return true
	}
	n, err := strconv.ParseUint(f[flags], 10, 64)
	return err == nil && n&exiting != 0
}

// commandContains reports whether the command line, its words joined by spaces, contains text.
func (p process) commandContains(text string) (bool, error) {
	b, err := p.read("cmdline")
	return strings.Contains(strings.ReplaceAll(string(b), "\x00", " "), text), err
}

// environmentHas reports whether the environment that the process was started with has KEY=VALUE.
func (p process) environmentHas(setting string) (bool, error) {
	b, err := p.read("environ")
	return slices.Contains(strings.Split(string(b), "\x00"), setting), err
}

// read returns nothing for a process that has ended. One that has given its memory back and is not a zombie yet has
// files of the machine's root, which the root of a user namespace may not open.
func (p process) read(name string) ([]byte, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.pid, name))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return nil, nil
	}
	if errors.Is(err, os.ErrPermission) {
		if stat, gone := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid)); gone != nil || ending(stat) {
			return nil, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("looking at process %d (are SYS_PTRACE and the PID namespace there?): %w", p.pid, err)
	}
	return b, nil
}

// descendants are what processes have started, and what those have, as far as the parents still live.
func descendants(of, all []process) (found []process) {
	in := map[int]bool{}
	for _, p := range of {
		in[p.pid] = true
	}
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if !in[p.pid] && in[p.parent] {
				in[p.pid], grown = true, true
				found = append(found, p)
			}
		}
	}
	return found
}
