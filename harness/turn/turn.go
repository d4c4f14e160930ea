// Package turn lets what needs the machine for itself take turns: timed runs, and tests that measure or load it.
package turn

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Env names another file to take turns by, for runs whose verdicts rest on no timing; None takes no turn at all.
const Env = "GAUNTLET_TURN"

// None as the value of Env is for what runs inside the turn of its parent.
const None = "none"

// Take waits until nobody else on this machine has the turn, whoever runs it: two timed runs at once would disturb each
// other's timing, and the verdicts with it. waiting is called once when there is something to wait for. The turn ends
// with release, or with the process.
func Take(ctx context.Context, waiting func()) (release func(), err error) {
	file := os.Getenv(Env)
	switch file {
	case None:
		return func() {}, nil
	case "":
		// Not os.TempDir: users with a TMPDIR of their own must meet here too.
		file = filepath.Join("/tmp", "gauntlet.turn")
	}
	return takeAt(ctx, file, waiting)
}

// Main is the whole of a TestMain for tests that load the machine: they take a turn as timed runs do, and what they
// execute again runs inside it.
func Main(run func() int) int {
	release, err := Take(context.Background(), func() {})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer release()
	os.Setenv(Env, None)
	return run()
}

// Hold takes a turn that lasts until the end of a test, and of what that executes. It is for packages whose tests together
// would keep others waiting for longer than these may take.
func Hold(t testing.TB) {
	t.Helper()
	release, err := Take(t.Context(), func() {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	t.Setenv(Env, None)
}

// takeAt waits to be the next one, and then for the turn: who has just had it and wants it again comes after those that wait.
func takeAt(ctx context.Context, file string, waiting func()) (release func(), err error) {
	waiting = sync.OnceFunc(waiting)
	next, err := lock(ctx, file+".next", waiting)
	if err != nil {
		return nil, err
	}
	defer next.Close()
	f, err := lock(ctx, file, waiting)
	if err != nil {
		return nil, err
	}
	return func() { f.Close() }, nil
}

// lock waits until nobody else has a lock on the file. It ends with the file.
func lock(ctx context.Context, file string, waiting func()) (*os.File, error) {
	f, err := turnFile(file)
	if err != nil {
		return nil, fmt.Errorf("wait for a turn: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("wait for a turn: lock %s: %w", f.Name(), err)
		}
		waiting()
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
