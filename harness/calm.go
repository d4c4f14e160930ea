package harness

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"
)

// A timed run in go test has the compilers and the tests of other packages for neighbours, all of one session with the
// load's generator, which then sends late and makes the run INVALID.
const (
	calmCores = 0.8             // processors that must have nothing to do: two, with one of them busy, are enough for a run
	calmFor   = 2 * time.Second // and for how long
	calmMost  = 2 * time.Minute // bounds the wait: who is always busy is judged as that
)

// calm waits until others leave the machine enough processor time for a timed run; idle is the sum of what was left so
// far, 0 where that is not known.
func calm(ctx context.Context, progress func(string), idle func() time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, calmMost)
	defer cancel()
	tick := time.NewTicker(calmFor)
	defer tick.Stop()
	for before, told := idle(), false; ; {
		begin := time.Now()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := idle()
		if now == 0 || float64(now-before) >= calmCores*float64(time.Since(begin)) {
			return
		}
		if !told {
			told = true
			progress("waiting for a processor: the machine is busy with other work")
		}
		before = now
	}
}

// idleTime is how long the processors together had nothing to do since the system began; 0 where it does not say.
func idleTime() time.Duration {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	return parseIdle(b)
}

// parseIdle reads /proc/stat (proc(5)): "cpu user nice system idle iowait ...", in hundredths of a second. A processor that
// waits for a disk has time for others.
func parseIdle(stat []byte) time.Duration {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	var user, nice, system, idle, iowait time.Duration
	if _, err := fmt.Sscanf(string(line), "cpu %d %d %d %d %d", &user, &nice, &system, &idle, &iowait); err != nil {
		return 0
	}
	return (idle + iowait) * 10 * time.Millisecond
}
