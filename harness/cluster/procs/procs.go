// Package procs reads what processes use from /proc.
package procs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of the times in /proc/PID/stat: USER_HZ is 100 on every machine that Go knows.
const tick = 10 * time.Millisecond

// Process is a process, also one that has ended and was not reaped yet.
type Process struct {
	PID, Parent int
	CPU         time.Duration // user and system time of its threads, those that ended included
	Reaped      time.Duration // of the children that it has waited for, and of theirs
	RSS         uint64        // bytes
	Threads     uint64
	Ended       bool // and not reaped yet
}

// All lists the processes that this process's /proc shows.
func All() (map[int]Process, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	names, err := d.Readdirnames(-1)
	d.Close()
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	all := map[int]Process{}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, ok := Read(pid); ok {
			all[pid] = p
		}
	}
	return all, nil
}

// Read reads one process; false when there is none.
func Read(pid int) (Process, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return Process{}, false
	}
	return parse(pid, b)
}

// parse reads "pid (name) state ppid ...", where the name may hold anything. proc_pid_stat(5) numbers the fields from 1.
func parse(pid int, stat []byte) (Process, bool) {
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return Process{}, false
	}
	f := strings.Fields(string(stat[end+1:]))
	const first = 3 // the number of f[0]
	if len(f) <= 24-first {
		return Process{}, false
	}
	number := func(n int) uint64 {
		v, _ := strconv.ParseInt(f[n-first], 10, 64) // a negative one is an old kernel's wrap
		return uint64(max(v, 0))
	}
	ticks := func(n ...int) (sum time.Duration) {
		for _, n := range n {
			sum += time.Duration(number(n)) * tick
		}
		return sum
	}
	return Process{
		Ended: f[0] == "Z" || f[0] == "X", PID: pid, Parent: int(number(4)), CPU: ticks(14, 15), Reaped: ticks(16, 17),
		RSS: number(24) * uint64(os.Getpagesize()), Threads: number(20),
	}, true
}

// Tree returns the descendants of a process among all, without itself. What lost its parent belongs to the first
// process of its namespace, so nobody is missed below that.
func Tree(all map[int]Process, root int) []Process {
	below := map[int][]Process{}
	for _, p := range all {
		below[p.Parent] = append(below[p.Parent], p)
	}
	var tree []Process
	todo := below[root]
	for len(todo) > 0 {
		p := todo[0]
		tree = append(tree, p)
		todo = append(todo[1:], below[p.PID]...)
	}
	return tree
}

// Descriptors counts the open descriptors of a process; none when it has ended, reaped or not.
func Descriptors(pid int) (uint64, error) {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	// Since Linux 6.2 the size of the directory is their number.
	if st, err := os.Stat(dir); err == nil && st.Size() > 0 {
		return uint64(st.Size()), nil
	}
	d, err := os.Open(dir)
	if err == nil {
		defer d.Close()
		var names []string
		if names, err = d.Readdirnames(-1); err == nil {
			return uint64(len(names)), nil
		}
	}
	// What has ended and was not reaped has none, and its directory is root's, who in a user namespace may be nobody: it cannot be read there.
	if p, ok := Read(pid); ended(err) || !ok || p.Ended {
		return 0, nil
	}
	return 0, fmt.Errorf("count the descriptors of process %d: %w", pid, err)
}

// Sockets counts the sockets in use in the network of a process; none when it has ended.
func Sockets(pid int) (uint64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/net/sockstat")
	if err != nil {
		if ended(err) {
			return 0, nil
		}
		return 0, fmt.Errorf("count the sockets in the network of process %d: %w", pid, err)
	}
	for line := range strings.Lines(string(b)) {
		if n, ok := strings.CutPrefix(line, "sockets: used "); ok {
			return strconv.ParseUint(strings.TrimSpace(n), 10, 64)
		}
	}
	return 0, fmt.Errorf("count the sockets in the network of process %d: sockstat does not say", pid)
}

// ended reports whether a process was gone when it was looked at.
func ended(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) || errors.Is(err, syscall.EINVAL)
}

// Waits returns, for each thread of a process, how long it was ready to run and had no processor, since it began. There is none where the
// kernel does not count it (CONFIG_SCHED_INFO), or the process has ended.
func Waits(pid int) map[int]time.Duration {
	dir := "/proc/" + strconv.Itoa(pid) + "/task/"
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	names, err := d.Readdirnames(-1)
	d.Close()
	if err != nil {
		return nil
	}
	waits := make(map[int]time.Duration, len(names))
	for _, name := range names {
		tid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		b, err := os.ReadFile(dir + name + "/schedstat")
		if err != nil {
			continue
		}
		// Documentation/scheduler/sched-stats.rst: time on the processor, time waited for one, both in ns; number of slices.
		if f := strings.Fields(string(b)); len(f) == 3 {
			if ns, err := strconv.ParseInt(f[1], 10, 64); err == nil {
				waits[tid] = time.Duration(ns)
			}
		}
	}
	return waits
}
