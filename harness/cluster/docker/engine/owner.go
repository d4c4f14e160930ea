package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Labels of everything that a run makes.
const (
	LabelOurs  = "dev.gauntlet"       // "1"
	LabelRun   = "dev.gauntlet.run"   // the run's id
	LabelOwner = "dev.gauntlet.owner" // the harness's process, see owner
	LabelNode  = "dev.gauntlet.node"
	LabelRole  = "dev.gauntlet.role"
	LabelName  = "dev.gauntlet.name" // of the topology

	labelUnnamed = "dev.gauntlet.unnamed" // "1": a volume that goes with its run, see Run.UnnamedVolume
)

// owner is the process that a run belongs to.
//
// A process id says nothing without its namespace: two harnesses in containers of one machine may both be process 7. So
// the label also has the boot and the namespace, and the machine, because after a restart every process of before is dead.
type owner struct {
	machine string // machine id and host name: ids are copied with images
	boot    string // the kernel's id of this boot; empty where there is no /proc
	pidNS   string
	pid     int
	start   string // of the process, in ticks since the boot
}

// label writes an owner.
func (o owner) label() string {
	return strings.Join([]string{o.machine, o.boot, o.pidNS, strconv.Itoa(o.pid), o.start}, "/")
}

// parseOwner reads what label wrote.
func parseOwner(label string) (owner, error) {
	f := strings.Split(label, "/")
	if len(f) != 5 {
		return owner{}, fmt.Errorf("%q is not an owner", label)
	}
	pid, err := strconv.Atoi(f[3])
	if err != nil {
		return owner{}, fmt.Errorf("%q is not an owner: %w", label, err)
	}
	return owner{machine: f[0], boot: f[1], pidNS: f[2], pid: pid, start: f[4]}, nil
}

// self is this process as an owner.
var self = sync.OnceValue(func() owner {
	id, _ := os.ReadFile("/etc/machine-id") // not every system has one: the name has to do
	host, _ := os.Hostname()
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	ns, _ := os.Readlink("/proc/self/ns/pid")
	start, _ := startTime(os.Getpid())
	return owner{
		machine: strings.TrimSpace(string(id)) + "-" + host,
		boot:    strings.TrimSpace(string(boot)),
		pidNS:   ns, pid: os.Getpid(), start: start,
	}
})

// abandoned reports whether the process is known to be dead. Of another machine's, and of another namespace's, nothing
// is known.
func (o owner) abandoned() bool {
	me := self()
	switch {
	case me.boot == "" || o.boot == "":
		return false // no /proc: nothing can be told
	case o.boot != me.boot:
		return o.machine == me.machine // this machine was started again since
	case o.pidNS != me.pidNS:
		return false
	}
	start, err := startTime(o.pid)
	return errors.Is(err, fs.ErrNotExist) || err == nil && start != o.start
}

// startTime returns when a process was started (proc(5), stat, field 22). One that died and was not waited for counts as
// not there: the error is fs.ErrNotExist.
func startTime(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, fs.ErrNotExist) && unix.Kill(pid, 0) != unix.ESRCH {
		return "", fmt.Errorf("process %d lives, and /proc does not show it (hidepid)", pid)
	}
	if err != nil {
		return "", err
	}
	// The command's name, in parentheses, may hold anything.
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 20 {
		return "", fmt.Errorf("/proc/%d/stat has %d fields", pid, len(f))
	}
	if f[0] == "Z" || f[0] == "X" {
		return "", fs.ErrNotExist
	}
	return f[19], nil
}
