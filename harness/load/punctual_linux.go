package load

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A generator beside neighbours that want every core is late by what the scheduler lets them have first. A request for
// a short slice (kernels from 6.12, no privilege needed) puts a thread that wakes before those that are in the middle
// of a long one; a low nice value, where it is allowed, does so on every kernel. Where the kernel groups threads by session
// (sched_autogroup) a thread's nice value counts only within its session, and each node is a session: the group has a
// nice value of its own. The harness needs a small part of a core, so it takes nothing from the service that its
// lateness would not distort more.
const (
	punctualSlice = 300_000 // ns
	punctualNice  = -10
)

var punctuality struct {
	mu      sync.Mutex
	users   int
	was     map[int]unix.SchedAttr // by thread
	session func()                 // gives the session back what it had
}

// keepPunctual has the scheduler prefer the threads of this process, and all of its session when that is asked for, until
// release is called. The first of several users says whether it is. What the system does not
// allow is not done: the generator's lag is measured all the same.
func keepPunctual(session bool) (release func()) {
	p := &punctuality
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users++; p.users == 1 {
		p.session = func() {}
		if session {
			p.session = preferSession() // first: what it starts is not to inherit what threads are given
		}
		p.was = map[int]unix.SchedAttr{}
		eachThread(func(tid int) bool {
			if _, done := p.was[tid]; done {
				return false
			}
			now, err := unix.SchedGetAttr(tid, 0)
			if err != nil || now.Policy != unix.SCHED_NORMAL {
				return false
			}
			p.was[tid] = *now
			return prefer(tid, *now)
		})
	}
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.users--; p.users > 0 {
			return
		}
		restore(p.was)
		p.session()
	})
}

// preferSession gives the session of this process a low nice value. The session outlives the process, which may be killed or end at
// the second Ctrl-C: so a shell beside it gives the value back, when the pipe between them ends. Without a shell nothing is taken.
func preferSession() (release func()) {
	was := groupNice()
	if was <= punctualNice {
		return func() {}
	}
	keeper := exec.Command("/bin/sh", "-c", `read _; echo "$0" >`+autogroup, strconv.Itoa(was))
	keeper.SysProcAttr = &unix.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C goes to the process group
	pipe, err := keeper.StdinPipe()
	if err != nil || keeper.Start() != nil {
		return func() {}
	}
	_ = os.WriteFile(autogroup, []byte(strconv.Itoa(punctualNice)), 0) // not everybody may
	return func() {
		_ = pipe.Close()
		_ = keeper.Wait()
	}
}

// prefer asks for a short slice and, if it may, a low nice value.
func prefer(tid int, now unix.SchedAttr) bool {
	want := unix.SchedAttr{Policy: now.Policy, Nice: min(now.Nice, punctualNice), Runtime: punctualSlice}
	if unix.SchedSetAttr(tid, &want, 0) == nil {
		return true
	}
	want.Nice = now.Nice
	return unix.SchedSetAttr(tid, &want, 0) == nil
}

// restore gives every thread what it had. Threads that began meanwhile have inherited the preference of another: they
// get what the process's first thread had.
func restore(was map[int]unix.SchedAttr) {
	first, known := was[os.Getpid()]
	seen := map[int]bool{}
	eachThread(func(tid int) bool {
		if seen[tid] {
			return false
		}
		seen[tid] = true
		attr, ok := was[tid]
		if !ok {
			attr, ok = first, known
		}
		if !ok {
			return false
		}
		// A default slice reads as the default; 0 asks for it again.
		attr.Runtime, attr.Deadline, attr.Period, attr.Flags = 0, 0, 0, 0
		return unix.SchedSetAttr(tid, &attr, 0) == nil
	})
}

// autogroup is where the nice value of this process's session stands, as in "/autogroup-6 nice 0".
const autogroup = "/proc/self/autogroup"

// groupNice is that nice value, 0 where there is none.
func groupNice() int {
	b, err := os.ReadFile(autogroup)
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) != 3 {
		return 0
	}
	n, _ := strconv.Atoi(f[2])
	return n
}

// eachThread calls f for the threads of this process, again and again until it has changed none: a thread that begins
// meanwhile is like the one that began it.
func eachThread(f func(tid int) (changed bool)) {
	for again := true; again; {
		again = false
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return
		}
		for _, t := range tasks {
			if tid, err := strconv.Atoi(t.Name()); err == nil && f(tid) {
				again = true
			}
		}
	}
}
