package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// takeTurn waits until no other timed run goes on on this machine, whoever runs it: two at once would disturb each
// other's timing, and the verdicts with it. The turn ends with release, or with the process.
func takeTurn(ctx context.Context, waiting func()) (release func(), err error) {
	// Not os.TempDir: users with a TMPDIR of their own must meet here too.
	return takeTurnAt(ctx, filepath.Join("/tmp", "gauntlet.turn"), waiting)
}

func takeTurnAt(ctx context.Context, file string, waiting func()) (release func(), err error) {
	f, err := turnFile(file)
	if err != nil {
		return nil, fmt.Errorf("wait for a turn: %w", err)
	}
	told := false
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("wait for a turn: lock %s: %w", f.Name(), err)
		}
		if !told {
			told = true
			waiting()
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// turnFile is one file for all users. It is opened for reading only, which is enough for flock and which the kernel
// allows on another user's file in a sticky directory.
func turnFile(name string) (*os.File, error) {
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		var made *os.File
		if made, err = os.OpenFile(name, os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0o444); err == nil {
			return made, made.Chmod(0o444) // a umask may have kept it from others
		}
		if errors.Is(err, os.ErrExist) {
			return os.Open(name)
		}
	}
	return f, err
}
