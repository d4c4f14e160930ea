package harness

import (
	"context"
	"runtime"
	"time"
)

// A timed run in go test has the compilers and the tests of other packages for neighbours, all of one session with the
// load's generator, which then sends late and makes the run INVALID.
const (
	calmCores = 0.8             // processors that must have nothing to do: two, with one of them busy, are enough for a run
	calmFor   = 2 * time.Second // and for how long
	calmMost  = 2 * time.Minute // bounds the wait: who is always busy is judged as that
)

// calm waits until others leave the machine enough processor time for a timed run; busy is what all processors spent on work so
// far. Where that is not known there is nothing to wait for.
func calm(ctx context.Context, progress func(string), busy func() (time.Duration, error)) {
	ctx, cancel := context.WithTimeout(ctx, calmMost)
	defer cancel()
	tick := time.NewTicker(calmFor)
	defer tick.Stop()
	before, err := busy()
	for told := false; err == nil; {
		begin, now := time.Now(), time.Duration(0)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now, err = busy(); float64(runtime.NumCPU())-float64(now-before)/float64(time.Since(begin)) >= calmCores {
			return
		}
		if !told {
			told = true
			progress("waiting for a processor: the machine is busy with other work")
		}
		before = now
	}
}
