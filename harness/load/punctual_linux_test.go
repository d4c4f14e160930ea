package load

import (
	"os"
	"runtime"
	"testing"

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

func TestPunctualIsGivenAndTakenBack(t *testing.T) {
	before, err := unix.SchedGetAttr(os.Getpid(), 0)
	require.NoError(t, err)
	if before.Policy != unix.SCHED_NORMAL {
		t.Skipf("this process has scheduling policy %d", before.Policy)
	}
	group := groupNice()
	mayPrefer := setGroupNice(min(group, punctualNice)) == nil // not everybody, nor root everywhere
	require.NoError(t, setGroupNice(group))
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
