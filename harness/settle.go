package harness

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// dirtyMost is how much unwritten data, in bytes, is left alone: writing it holds nobody up for long.
const dirtyMost = 32 << 20

// settleMost bounds the wait for a disk that does not come to rest: others may be writing too.
const settleMost = 30 * time.Second

// settle has the system write what the builds have left in memory before anything is started. The kernel writes hundreds of
// megabytes of compiled packages seconds later by itself, and a store that waits for its own synced writes behind them looks
// broken: the first run on a fresh machine failed its baseline by that.
func settle(ctx context.Context, progress func(string)) {
	dirty := unwritten()
	if dirty < dirtyMost {
		return
	}
	progress(fmt.Sprintf("writing %d MiB to disk that are left of building", dirty>>20))
	ctx, cancel := context.WithTimeout(ctx, settleMost)
	defer cancel()
	done := make(chan struct{})
	go func() { defer close(done); unix.Sync() }() // ends by itself: nothing can stop a sync
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// unwritten is what the system holds in memory and has still to write, in bytes; 0 where it does not say.
func unwritten() uint64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer f.Close()
	var sum uint64
	for s := bufio.NewScanner(f); s.Scan(); {
		var kib uint64
		for _, name := range []string{"Dirty:", "Writeback:"} {
			if rest, ok := strings.CutPrefix(s.Text(), name); ok {
				if _, err := fmt.Sscanf(rest, "%d kB", &kib); err == nil {
					sum += kib << 10
				}
			}
		}
	}
	return sum
}
