package nodeinit

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// process is a line of the node's process table, without process 1.
type process struct {
	pid, parent, session int
	name                 string
	state                byte
}

// processes lists the living processes of the node.
func processes() ([]process, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("list the node's processes: %w", err)
	}
	names, err := d.Readdirnames(-1)
	d.Close()
	if err != nil {
		return nil, fmt.Errorf("list the node's processes: %w", err)
	}
	var all []process
	for _, n := range names {
		pid, err := strconv.Atoi(n)
		if err != nil || pid == 1 {
			continue
		}
		if p, ok := readProcess(pid); ok && p.state != 'Z' && p.state != 'X' {
			all = append(all, p)
		}
	}
	return all, nil
}

// readProcess reads /proc/PID/stat: "pid (name) state ppid pgrp session ...", where the name may hold anything.
func readProcess(pid int) (process, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return process{}, false
	}
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return process{}, false
	}
	f := strings.Fields(string(b[end+1:]))
	if len(f) < 4 {
		return process{}, false
	}
	p := process{pid: pid, name: string(b[open+1 : end]), state: f[0][0]}
	p.parent, _ = strconv.Atoi(f[1])
	p.session, _ = strconv.Atoi(f[3])
	return p, true
}

// matches reports whether the command line contains s.
func (p process) matches(s string) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(p.pid) + "/cmdline")
	return err == nil && strings.Contains(strings.TrimSpace(strings.ReplaceAll(string(b), "\x00", " ")), s)
}

func (p process) stopped() bool { return p.state == 'T' || p.state == 't' }

// runningProcess names a process that is not stopped, or returns "".
func runningProcess() (string, error) {
	all, err := processes()
	if err != nil {
		return "", err
	}
	for _, p := range all {
		if !p.stopped() {
			return fmt.Sprintf("process %d (%s)", p.pid, p.name), nil
		}
	}
	return "", nil
}
