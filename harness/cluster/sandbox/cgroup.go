package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/sandbox/nodeinit"
)

// cgroupPrefix begins the names of the sandbox's cgroups: see ownName.
const cgroupPrefix = "gauntlet-"

var limitControllers = []string{"cpu", "memory", "pids"}

// cgroupParents finds where cgroups can be made: by controller, of version 1 or 2.
type cgroupParents struct {
	version nodeinit.CgroupVersion
	dirs    map[string][]string // controller -> directories to try
}

// findCgroupParents reads where this process stands in the hierarchies of this machine.
func findCgroupParents() (cgroupParents, error) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return cgroupParents{}, fmt.Errorf("read this process's cgroups: %w", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return cgroupParents{}, fmt.Errorf("read the mounts: %w", err)
	}
	return parseCgroups(string(own), string(mounts)), nil
}

// parseCgroups does so from the content of /proc/self/cgroup and /proc/self/mountinfo. Where a machine has both versions, programs join
// those of version 1 alone.
func parseCgroups(own, mounts string) cgroupParents {
	v1 := cgroupParents{version: 1, dirs: map[string][]string{}}
	v2 := cgroupParents{version: 2, dirs: map[string][]string{}}
	paths := map[string]string{} // controller, "" for version 2 -> own path
	for line := range strings.Lines(own) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) == 3 {
			for _, c := range strings.Split(f[1], ",") {
				paths[c] = f[2]
			}
		}
	}
	for line := range strings.Lines(mounts) {
		// 30 24 0:26 ROOT MOUNTPOINT options - TYPE source superoptions
		before, after, ok := strings.Cut(line, " - ")
		b, a := strings.Fields(before), strings.Fields(after)
		if !ok || len(b) < 5 || len(a) < 3 {
			continue
		}
		root, at := b[3], b[4]
		switch a[0] {
		case "cgroup":
			for _, c := range strings.Split(a[2], ",") {
				if slices.Contains(limitControllers, c) {
					v1.dirs[c] = upwards(at, root, paths[c], false)
				}
			}
		case "cgroup2":
			for _, c := range limitControllers {
				v2.dirs[c] = upwards(at, root, paths[""], true)
			}
		}
	}
	if len(v1.dirs) > 0 {
		return v1
	}
	return v2
}

// upwards returns the directories from a process's own cgroup up to the mount's root. In version 2 a group with
// processes cannot have children with controllers, so its own comes last.
func upwards(at, root, own string, ownLast bool) []string {
	rel, err := filepath.Rel(root, own)
	if err != nil || strings.HasPrefix(rel, "..") {
		rel = "."
	}
	var dirs []string
	for d := filepath.Join(at, rel); ; d = filepath.Dir(d) {
		dirs = append(dirs, d)
		if d == at || !strings.HasPrefix(d, at) {
			break
		}
	}
	if ownLast && len(dirs) > 1 {
		dirs = append(dirs[1:], dirs[0])
	}
	return dirs
}

var cgroupNumber atomic.Int64

// runCgroup is the cgroup of one topology; nodes' cgroups are in it.
type runCgroup struct {
	version nodeinit.CgroupVersion
	dirs    map[string]string // controller -> directory; one and the same in version 2
}

// newRunCgroup makes the cgroups of a topology for the controllers.
func newRunCgroup(controllers []string) (*runCgroup, error) {
	parents, err := findCgroupParents()
	if err != nil {
		return nil, err
	}
	name, err := ownName(cgroupPrefix)
	if err != nil {
		return nil, err
	}
	return parents.make(name+strconv.FormatInt(cgroupNumber.Add(1), 10), controllers, enable)
}

// make makes the cgroups of a topology: in version 2 one that has all the controllers, for a process is in one.
func (p cgroupParents) make(name string, controllers []string, enable func(parent, dir, controller string) error) (*runCgroup, error) {
	g := &runCgroup{version: p.version, dirs: map[string]string{}}
	together := slices.Chunk(controllers, 1)
	if p.version == 2 {
		together = slices.Values([][]string{controllers})
	} else {
		enable = func(string, string, string) error { return nil }
	}
	for cs := range together {
		if err := g.make(cs, name, p.dirs[cs[0]], enable); err != nil {
			return nil, errors.Join(err, g.remove())
		}
	}
	return g, nil
}

// make makes the cgroup for controllers in the first parent that can have it.
func (g *runCgroup) make(controllers []string, name string, parents []string, enable func(parent, dir, controller string) error) error {
	what := strings.Join(controllers, ", ")
	if len(parents) == 0 {
		return fmt.Errorf("no cgroup hierarchy has the controller %s", what)
	}
	var errs []error
	for _, parent := range parents {
		dir := filepath.Join(parent, name)
		err := os.Mkdir(dir, 0o755)
		if errors.Is(err, fs.ErrExist) {
			err = nil // of another controller
		}
		for _, c := range controllers {
			if err == nil {
				err = enable(parent, dir, c)
			}
		}
		if err == nil {
			for _, c := range controllers {
				g.dirs[c] = dir
			}
			return nil
		}
		if !slices.Contains(slices.Collect(maps.Values(g.dirs)), dir) {
			_ = os.Remove(dir)
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("no cgroup can be made for %s: %w", what, errors.Join(errs...))
}

// enable hands a controller of version 2 down to the children of parent and of dir.
func enable(parent, dir, controller string) error {
	for _, d := range []string{parent, dir} {
		b, err := os.ReadFile(d + "/cgroup.subtree_control")
		if err != nil {
			return err
		}
		if slices.Contains(strings.Fields(string(b)), controller) {
			continue
		}
		if err := os.WriteFile(d+"/cgroup.subtree_control", []byte("+"+controller), 0); err != nil {
			return err
		}
	}
	return nil
}

// remove removes the cgroups of the topology, and in them that of a node whose processes outlived its removal.
func (g *runCgroup) remove() error {
	if g == nil {
		return nil
	}
	var errs []error
	for _, dir := range g.dirs {
		errs = append(errs, removeCgroups(dir))
	}
	return errors.Join(errs...)
}

// initsCgroup is where the inits of limited nodes are in version 2, beside the nodes' own. No node can have this name.
const initsCgroup = "(inits)"

// nodeCgroup limits the programs of one node. Its init stays outside: it must not be what the limit hits. A nil one
// limits nothing.
type nodeCgroup struct {
	version nodeinit.CgroupVersion
	dirs    map[string]string
	ooms    int64
}

// node makes the cgroup of a node with its limits. owner is who its init is on this machine.
func (g *runCgroup) node(name string, l cluster.Limits, owner int) (*nodeCgroup, error) {
	n, err := g.room(name, controllersOf(l), owner)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("limit node %s: %w", name, err), n.remove())
	}
	for _, s := range n.settings(l) {
		err := os.WriteFile(filepath.Join(n.dirs[s.controller], s.file), []byte(s.value), 0)
		if err != nil && !s.optional {
			return nil, errors.Join(fmt.Errorf("limit node %s: %w", name, err), n.remove())
		}
	}
	return n, nil
}

// room makes the cgroup of a node. In version 2 the init moves no process but starts it there, for which it must be allowed to write to
// the cgroup and to the one above that its own is in too.
func (g *runCgroup) room(name string, controllers []string, owner int) (*nodeCgroup, error) {
	n := &nodeCgroup{version: g.version, dirs: map[string]string{}}
	for _, c := range controllers {
		n.dirs[c] = filepath.Join(g.dirs[c], name)
		if err := os.Mkdir(n.dirs[c], 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return n, err
		}
		if g.version == 1 {
			continue
		}
		if err := os.Mkdir(filepath.Join(g.dirs[c], initsCgroup), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return n, err
		}
		for _, dir := range []string{g.dirs[c], n.dirs[c]} {
			if err := os.Chown(filepath.Join(dir, "cgroup.procs"), owner, -1); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// controllersOf says what limits need.
func controllersOf(l cluster.Limits) (c []string) {
	if l.CPUs > 0 {
		c = append(c, "cpu")
	}
	if l.Memory > 0 {
		c = append(c, "memory")
	}
	if l.Pids > 0 {
		c = append(c, "pids")
	}
	return c
}

type cgroupSetting struct {
	controller, file, value string
	optional                bool
}

func (n *nodeCgroup) settings(l cluster.Limits) (s []cgroupSetting) {
	const period = 100000
	quota := strconv.Itoa(max(1000, int(l.CPUs*period)))
	memory := strconv.FormatInt(l.Memory, 10)
	if l.CPUs > 0 && n.version == 1 {
		s = append(s, cgroupSetting{"cpu", "cpu.cfs_period_us", strconv.Itoa(period), false}, cgroupSetting{"cpu", "cpu.cfs_quota_us", quota, false})
	} else if l.CPUs > 0 {
		s = append(s, cgroupSetting{"cpu", "cpu.max", quota + " " + strconv.Itoa(period), false})
	}
	if l.Memory > 0 && n.version == 1 {
		s = append(s, cgroupSetting{"memory", "memory.limit_in_bytes", memory, false}, cgroupSetting{"memory", "memory.memsw.limit_in_bytes", memory, true})
	} else if l.Memory > 0 {
		s = append(s, cgroupSetting{"memory", "memory.max", memory, false}, cgroupSetting{"memory", "memory.swap.max", "0", true})
	}
	if l.Pids > 0 {
		s = append(s, cgroupSetting{"pids", "pids.max", strconv.FormatInt(l.Pids, 10), false})
	}
	return s
}

// open returns what the init needs for its programs to join: the tasks files of version 1; in version 2 the cgroup.procs of
// its own cgroup and the directory of the programs'.
func (n *nodeCgroup) open() (version nodeinit.CgroupVersion, files []*os.File, err error) {
	if n == nil {
		return 0, nil, nil
	}
	add := func(path string, flags int) {
		var f *os.File
		if err == nil {
			f, err = os.OpenFile(path, flags, 0)
		}
		if err == nil {
			files = append(files, f)
		}
	}
	for _, dir := range n.dirs {
		if n.version == 1 {
			add(dir+"/tasks", os.O_WRONLY)
			continue
		}
		add(filepath.Join(filepath.Dir(dir), initsCgroup, "cgroup.procs"), os.O_WRONLY)
		add(dir, unix.O_PATH|unix.O_DIRECTORY)
		break // one directory has all controllers
	}
	if err != nil {
		closeFiles(files)
		return 0, nil, fmt.Errorf("open a node's cgroup: %w", err)
	}
	return n.version, files, nil
}

// explain says whether a death was the kernel's answer to too much memory.
func (n *nodeCgroup) explain(x cluster.Exit) string {
	if n == nil || n.dirs["memory"] == "" {
		return ""
	}
	file := "memory.events"
	if n.version == 1 {
		file = "memory.oom_control"
	}
	b, err := os.ReadFile(filepath.Join(n.dirs["memory"], file))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		var ooms int64
		if _, err := fmt.Sscanf(line, "oom_kill %d", &ooms); err != nil {
			continue
		}
		before := n.ooms
		if n.ooms = ooms; ooms > before && x.Signal == "SIGKILL" {
			return "killed by the kernel: over its memory limit"
		}
	}
	return ""
}

func (n *nodeCgroup) remove() error {
	if n == nil {
		return nil
	}
	var errs []error
	for _, dir := range n.dirs {
		errs = append(errs, removeCgroups(dir))
	}
	return errors.Join(errs...)
}

// startTime returns when a process started, in ticks since the boot: with the pid it names a process for ever.
func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("look at process %d: %w", pid, err)
	}
	s := string(b)
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(f) < 20 {
		return 0, fmt.Errorf("look at process %d: its stat has %d fields", pid, len(f))
	}
	return strconv.ParseUint(f[19], 10, 64)
}
