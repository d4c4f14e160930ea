package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// lock takes the lock of a key and returns its release. The kernel gives it back when a holder dies. It is polled, not
// awaited in the kernel, so that ctx can end the wait.
func lock(ctx context.Context, cache, key string, waiting func()) (release func(), err error) {
	return take(ctx, cache, key, unix.LOCK_EX, waiting)
}

// pruning is the lock of prune. Whoever uses a result that it may remove has it shared until the result is marked.
const pruning = "prune"

// use takes the lock of prune as one of many.
func use(ctx context.Context, cache string) (release func(), err error) {
	return take(ctx, cache, pruning, unix.LOCK_SH, func() {})
}

func openLock(cache, key string) (*os.File, error) {
	dir := filepath.Join(cache, "lock")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the cache of built programs: %w; set %s to a directory that can be written", err, CacheVariable)
	}
	f, err := os.OpenFile(filepath.Join(dir, key), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening a lock in the cache of built programs: %w; set %s to a directory that can be written", err, CacheVariable)
	}
	return f, nil
}

func take(ctx context.Context, cache, key string, how int, waiting func()) (release func(), err error) {
	f, err := openLock(cache, key)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for told := false; ; {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("locking %s: %w", f.Name(), err)
		}
		if !told {
			told = true
			waiting()
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		case <-tick.C:
		}
	}
}
