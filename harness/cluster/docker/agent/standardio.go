package agent

import (
	"fmt"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hasvc/gauntlet/harness/cluster/plane"
)

// serveHarness serves the harness on the standard streams until it is gone and then for as long as linger says, or until the engine asks
// the container to stop.
func serveHarness(handlers map[string]plane.Handler, linger func() time.Duration) error {
	// What anything in this process prints to the standard output would break the session: from here on it goes to
	// the standard error.
	fd, err := unix.FcntlInt(uintptr(unix.Stdout), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return fmt.Errorf("keeping the standard output for the session: %w", err)
	}
	if err := unix.Dup3(unix.Stderr, unix.Stdout, 0); err != nil {
		return fmt.Errorf("keeping the standard output for the session: %w", err)
	}
	served := make(chan error, 1)
	go func() { served <- serve(os.Stdin, os.NewFile(uintptr(fd), "the harness"), handlers) }()
	// The kernel gives process 1 no signal that it has no handler for.
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM, unix.SIGINT)
	select {
	case err := <-served:
		if err != nil {
			return err
		}
	case <-stop:
		return nil // the kernel closes the streams, by which the harness hears of it
	}
	select {
	case <-time.After(linger()):
	case <-stop:
	}
	return nil
}
