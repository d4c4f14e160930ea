package procs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Cgroup is the control group of a container: it counts what its processes use, those that ended included.
type Cgroup struct {
	cpu    string // the file with the processor time
	member string // the file with its processes
}

// cgroupRoot is where control groups are mounted on every machine that runs systemd or a container engine.
const cgroupRoot = "/sys/fs/cgroup"

// FindCgroup finds the control group of a process, whose path must contain id: a container's, so that a number which
// means another process here than where it came from is found out.
func FindCgroup(pid int, id string) (Cgroup, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return Cgroup{}, fmt.Errorf("find the control group of process %d: %w", pid, err)
	}
	var tried []error
	for _, c := range cgroups(string(b), id) {
		if _, err := c.CPU(); err != nil {
			tried = append(tried, err)
			continue
		}
		if _, err := c.Processes(); err != nil {
			tried = append(tried, err)
			continue
		}
		return c, nil
	}
	if len(tried) > 0 {
		return Cgroup{}, errors.Join(tried...)
	}
	return Cgroup{}, fmt.Errorf("process %d is not of container %s here: the engine numbers processes as another machine does", pid, id)
}

// cgroups are those that /proc/PID/cgroup names ("HIERARCHY:CONTROLLERS:PATH") and that can count processor time.
func cgroups(text, id string) (out []Cgroup) {
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 || !strings.Contains(f[2], id) {
			continue
		}
		switch {
		case f[1] == "": // version 2
			dir := filepath.Join(cgroupRoot, f[2])
			out = append(out, Cgroup{filepath.Join(dir, "cpu.stat"), filepath.Join(dir, "cgroup.procs")})
		case strings.Contains(","+f[1]+",", ",cpuacct,"):
			dir := filepath.Join(cgroupRoot, "cpuacct", f[2])
			out = append(out, Cgroup{filepath.Join(dir, "cpuacct.usage"), filepath.Join(dir, "cgroup.procs")})
		}
	}
	return out
}

// CPU is the processor time that the group has used since it was made.
func (c Cgroup) CPU() (time.Duration, error) {
	b, err := os.ReadFile(c.cpu)
	if err != nil {
		return 0, fmt.Errorf("read a control group: %w", err)
	}
	d, err := cpuOf(string(b))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", c.cpu, err)
	}
	return d, nil
}

// cpuOf reads cpuacct.usage, which is a number of nanoseconds, or cpu.stat, which has a line with one of microseconds.
func cpuOf(text string) (time.Duration, error) {
	text = strings.TrimSpace(text)
	if n, err := strconv.ParseUint(text, 10, 63); err == nil {
		return time.Duration(n), nil
	}
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, "usage_usec "); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(v), 10, 53)
			return time.Duration(n) * time.Microsecond, err
		}
	}
	return 0, errors.New("it does not say how much processor time was used")
}

// Processes are the numbers of the group's processes.
func (c Cgroup) Processes() (pids []int, err error) {
	b, err := os.ReadFile(c.member)
	if err != nil {
		return nil, fmt.Errorf("read a control group: %w", err)
	}
	for _, f := range strings.Fields(string(b)) {
		pid, err := strconv.Atoi(f)
		if err != nil || pid == 0 {
			return nil, fmt.Errorf("read %s: a process of it cannot be seen from here", c.member)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}
