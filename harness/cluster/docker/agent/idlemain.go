package agent

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// runIdle is process 1 of a container in which others run programs: it reaps what they leave, and ends on SIGTERM.
func runIdle() error {
	signals := make(chan os.Signal, 1)
	stop := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGCHLD)
	signal.Notify(stop, unix.SIGTERM, unix.SIGINT)
	for {
		reap() // before the first signal too: children may have ended while nobody listened
		select {
		case <-signals:
		case <-stop:
			return nil
		}
	}
}

// reap collects every child that has ended.
func reap() {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid == 0 {
			return
		}
	}
}
