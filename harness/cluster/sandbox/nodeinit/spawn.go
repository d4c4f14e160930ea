package nodeinit

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// spawner starts programs from one thread of its own. With cgroups of version 1 that thread, and not the init's first
// one, is a member of the node's groups: programs inherit them at the fork, while the init's memory stays outside. It
// also has no capability to hand on.
type spawner struct {
	children *children
	work     chan func()
	cgroup   int // the directory of the programs' cgroup of version 2, in which they are started; 0: none
}

func newSpawner(c *children) *spawner {
	s := &spawner{children: c, work: make(chan func())}
	go func() { // for as long as the process lives
		runtime.LockOSThread()
		disarm()
		for f := range s.work {
			f()
		}
	}()
	return s
}

// do runs f on the spawner's thread.
func (s *spawner) do(f func()) {
	done := make(chan struct{})
	s.work <- func() {
		defer close(done)
		f()
	}
	<-done
}

// disarm sees to it that what this thread executes has no capability, not even in the node's own user namespace: an
// empty bounding set for user 0, no ambient set for the others.
func disarm() {
	for c := uintptr(0); unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0) == nil; c++ {
	}
	_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) == nil {
		data[0].Inheritable, data[1].Inheritable = 0, 0
		_ = unix.Capset(&header, &data[0])
	}
	_ = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}

// join moves the spawner's thread into cgroups of version 1. Version 2 knows no threads: there the init moves into one of its
// own, the first, and starts programs in the second. The kernel asks for the rights of who opened the files, and for a
// start in a cgroup for the init's own.
func (s *spawner) join(version CgroupVersion, files []int) (err error) {
	if version == 2 {
		if len(files) != 2 {
			return fmt.Errorf("join the node's cgroup: %d descriptors, want 2", len(files))
		}
		if s.cgroup, err = unix.FcntlInt(uintptr(files[1]), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return fmt.Errorf("keep the programs' cgroup: %w", err)
		}
		files = files[:1]
	}
	s.do(func() {
		for _, fd := range files {
			if _, werr := unix.Write(fd, []byte("0")); werr != nil {
				err = fmt.Errorf("join the node's cgroup: %w", werr)
				return
			}
		}
	})
	return err
}

// start starts a program and returns its pid and the time.
func (s *spawner) start(p *Start, fds []int) (pid int, at int64, err error) {
	if len(p.Argv) == 0 {
		return 0, 0, errors.New("no program to start")
	}
	want := 2
	if p.Stdin {
		want = 3
	}
	if len(fds) != want {
		return 0, 0, fmt.Errorf("%d descriptors for a program, want %d", len(fds), want)
	}
	path, err := lookPath(p.Argv[0], p.Env)
	if err != nil {
		return 0, 0, err
	}
	files := make([]uintptr, 0, 3)
	if !p.Stdin {
		null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return 0, 0, fmt.Errorf("open /dev/null: %w", err)
		}
		defer unix.Close(null)
		files = append(files, uintptr(null))
	}
	for _, fd := range fds {
		files = append(files, uintptr(fd))
	}
	attr := &syscall.ProcAttr{Dir: p.Dir, Env: p.Env, Files: files, Sys: s.attributes(p.User)}

	c := s.children
	c.mu.Lock()
	defer c.mu.Unlock()
	c.awaitDrainedLocked()
	if p.Main {
		if err := s.forget(); err != nil {
			return 0, 0, err
		}
	}
	s.do(func() { pid, err = syscall.ForkExec(path, p.Argv, attr) })
	if err != nil {
		return 0, 0, describe(err, path, p)
	}
	c.startedLocked(pid, p)
	return pid, monotonic(), nil
}

// forget takes away what programs that are dead have left in memory, as a container's end does: files, and what System V
// and POSIX name for processes to share.
func (s *spawner) forget() error {
	if err := emptyScratches(); err != nil {
		return err
	}
	var err error
	s.do(func() { err = unix.Unshare(unix.CLONE_NEWIPC) }) // programs inherit it
	if err != nil {
		return fmt.Errorf("make an IPC namespace for the program: %w", err)
	}
	return nil
}

// attributes gives the program a session and a cgroup of its own and makes it its user.
func (s *spawner) attributes(u User) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setsid: true, UseCgroupFD: s.cgroup != 0, CgroupFD: s.cgroup}
	if u.Switch {
		groups := make([]uint32, len(u.Groups))
		for i, g := range u.Groups {
			groups[i] = uint32(g)
		}
		a.Credential = &syscall.Credential{Uid: uint32(u.UID), Gid: uint32(u.GID), Groups: groups}
	}
	return a
}

// describe says why a program did not start, in words that tell what to do.
func describe(err error, path string, p *Start) error {
	if _, serr := os.Stat(p.Dir); serr != nil {
		return fmt.Errorf("working directory %s: %w", p.Dir, err)
	}
	switch {
	case errors.Is(err, syscall.ENOENT):
		return fmt.Errorf("start %s: %w (its interpreter or dynamic loader is not in the node)", path, err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("start %s as uid %d: %w (not executable, or working directory %s not accessible, for this user)", path, p.User.UID, err, p.Dir)
	case errors.Is(err, syscall.ENOEXEC):
		return fmt.Errorf("start %s: %w (no executable of this machine, and no #! line)", path, err)
	}
	return fmt.Errorf("start %s: %w", path, err)
}

// lookPath finds a program as execvp does, by the PATH of the program's own environment.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		if _, err := os.Stat(name); err != nil {
			return "", fmt.Errorf("program %s: %w", name, syscall.ENOENT)
		}
		return name, nil
	}
	path := ""
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	for _, dir := range strings.Split(path, ":") {
		if dir == "" {
			continue
		}
		f := dir + "/" + name
		if st, err := os.Stat(f); err == nil && !st.IsDir() && st.Mode()&0o111 != 0 {
			return f, nil
		}
	}
	return "", fmt.Errorf("program %s is not on the node's PATH %s: %w", name, path, syscall.ENOENT)
}
