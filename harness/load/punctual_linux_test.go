package load

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// threadAttrs returns the slice and the nice value of every thread of this process.
func threadAttrs(t *testing.T) map[int]unix.SchedAttr {
	t.Helper()
	all := map[int]unix.SchedAttr{}
	eachThread(func(tid int) bool {
		if a, err := unix.SchedGetAttr(tid, 0); err == nil {
			all[tid] = *a
		}
		return false
	})
	return all
}

// mayPreferSession asks the kernel: not everybody may, nor root everywhere, and not every kernel groups by session.
func mayPreferSession(t *testing.T) bool {
	t.Helper()
	was := groupNice()
	if os.WriteFile(autogroup, []byte(strconv.Itoa(min(was, punctualNice))), 0) != nil {
		return false
	}
	require.NoError(t, os.WriteFile(autogroup, []byte(strconv.Itoa(was)), 0))
	return true
}

func TestPunctualIsGivenAndTakenBack(t *testing.T) {
	before, err := unix.SchedGetAttr(os.Getpid(), 0)
	require.NoError(t, err)
	if before.Policy != unix.SCHED_NORMAL {
		t.Skipf("this process has scheduling policy %d", before.Policy)
	}
	group := groupNice()
	mayPrefer := mayPreferSession(t)
	one, two := keepPunctual(true), keepPunctual(true)
	// Threads that begin now have it too.
	hold, held := make(chan struct{}), make(chan struct{})
	for range 4 {
		go func() {
			runtime.LockOSThread()
			held <- struct{}{}
			<-hold
		}()
		<-held
	}
	during := threadAttrs(t)
	if mayPrefer {
		require.Equal(t, min(group, punctualNice), groupNice())
	}
	got, ok := during[os.Getpid()]
	require.True(t, ok)
	if got.Runtime != punctualSlice && got.Nice == before.Nice {
		t.Skip("this kernel has no slices for ordinary threads, and this user may not lower its nice value")
	}
	for tid, a := range during {
		require.Equal(t, got, a, "thread %d", tid)
	}
	one()
	one()
	require.Equal(t, got, threadAttrs(t)[os.Getpid()], "another still needs it")
	two()
	for tid, a := range threadAttrs(t) {
		require.Equal(t, before.Nice, a.Nice, "thread %d", tid)
		require.Equal(t, before.Runtime, a.Runtime, "thread %d", tid)
	}
	require.Equal(t, group, groupNice())
	close(hold)
}

func TestPunctualLeavesTheSessionAlone(t *testing.T) {
	group := groupNice()
	release := keepPunctual(false)
	defer release()
	require.Equal(t, group, groupNice())
}

// However the harness ends, who goes on in its session has what there was before.
func TestTheSessionIsGivenBackAfterSIGKILL(t *testing.T) {
	if !mayPreferSession(t) {
		t.Skip("this user, or this kernel, cannot lower the nice value of a session")
	}
	// A shell leads a session of its own, and stays when the process in it has been killed.
	leader := exec.Command("/bin/sh", "-c", `"$0"; read _`, os.Args[0])
	leader.Env = append(os.Environ(), takesSession+"=yes")
	leader.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	in, err := leader.StdinPipe()
	require.NoError(t, err)
	out, err := leader.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, leader.Start())
	defer func() {
		require.NoError(t, in.Close())
		_ = leader.Wait() // its last read met the end
	}()
	nice := func() string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/autogroup", leader.Process.Pid))
		require.NoError(t, err)
		return strings.Fields(string(b))[2]
	}
	var pid int
	_, err = fmt.Fscanln(out, &pid)
	require.NoError(t, err)
	require.Equal(t, strconv.Itoa(punctualNice), nice())
	require.NoError(t, unix.Kill(pid, unix.SIGKILL))
	for deadline := time.Now().Add(time.Minute); nice() != "0"; time.Sleep(5 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "the session still has the nice value %s", nice())
	}
}
