package load

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ticker is a timerfd: a descriptor in the runtime's epoll set, which wakes it when the timer is due.
type ticker struct {
	fd   int
	file *os.File
	rang chan struct{}
	done chan struct{}
}

// newTicker returns nil when there is no timerfd to be had.
func newTicker() *ticker {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil
	}
	t := &ticker{fd: fd, file: os.NewFile(uintptr(fd), "timerfd"), rang: make(chan struct{}, 1), done: make(chan struct{})}
	go t.read()
	return t
}

func (t *ticker) read() {
	defer close(t.done)
	var expired [8]byte
	for {
		if _, err := t.file.Read(expired[:]); err != nil {
			return // closed
		}
		select {
		case t.rang <- struct{}{}:
		default:
		}
	}
}

// set arms the timer, for d > 0.
func (t *ticker) set(d time.Duration) bool {
	return unix.TimerfdSettime(t.fd, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}, nil) == nil
}

func (t *ticker) close() {
	_ = t.file.Close() // wakes read
	<-t.done
}
