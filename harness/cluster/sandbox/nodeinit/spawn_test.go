package nodeinit

import (
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestNoDrainBeginsWithinAStart: a drain kills once, and what is forked after that would outlive it.
func TestNoDrainBeginsWithinAStart(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer null.Close()
	c := &children{procs: map[int]*Start{}, wake: make(chan struct{}, 1)} // without a reaper: it would kill all that it may
	c.idle = sync.NewCond(&c.mu)
	s := &spawner{children: c, work: make(chan func())}
	defer close(s.work)
	steps, free := 0, 0
	go func() {
		runtime.LockOSThread() // it ends with the goroutine: it may have got a namespace of its own
		for f := range s.work {
			steps++
			if c.mu.TryLock() { // a drain could begin
				free++
				c.mu.Unlock()
			}
			f()
		}
	}()
	fds := []int{int(null.Fd()), int(null.Fd())}
	pid, _, err := s.start(&Start{Main: true, Argv: []string{"/bin/true"}, Dir: "/"}, fds)
	if os.Getuid() == 0 { // else it has no right to a namespace
		require.NoError(t, err)
		_, err = syscall.Wait4(pid, nil, 0, nil)
		require.NoError(t, err)
	}
	require.NotZero(t, steps)
	require.Zero(t, free)
}
