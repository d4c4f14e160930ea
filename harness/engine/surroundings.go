package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/record"
)

// surroundEvery parts two samples of the machine: one reads the state of every thread of every node, a millisecond or two.
const surroundEvery = 500 * time.Millisecond

// watchSurroundings records what the machine did, for the run and beside it, until ctx ends. A moment at which it could not be read makes
// the sample after it longer: the counters go on, so that nothing is taken for calm that was not seen. Where the driver cannot say what its
// nodes use (an engine on another machine) there is nothing to compare, and the record has no samples.
func (rd *round) watchSurroundings(ctx context.Context) {
	u, ok := rd.cluster.(cluster.Usager)
	if !ok {
		return
	}
	t := time.NewTicker(surroundEvery)
	defer t.Stop()
	var last *machine
	var moments, failed int
	var why error // of the last that failed
	for ctx.Err() == nil {
		switch now, err := readMachine(ctx, u); {
		case err == nil:
			if last != nil {
				rd.w.Surroundings(now.since(*last, rd.w.At(now.at)))
			}
			last, moments = &now, moments+1
		case ctx.Err() == nil: // else it was not given the time
			moments, failed, why = moments+1, failed+1, err
		}
		select {
		case <-ctx.Done():
		case <-t.C:
		}
	}
	if why != nil {
		rd.w.Event(record.Event{Kind: record.Warning,
			Evidence: fmt.Sprintf("what the machine did beside the run could not be read at %d of %d moments: %v", failed, moments, why)})
	}
}

// machine is what the machine and the run had used at a moment.
type machine struct {
	at                time.Time
	busy, own, waited time.Duration
}

// since is what happened from an earlier moment on.
func (m machine) since(e machine, t time.Duration) record.Surroundings {
	return record.Surroundings{T: t, For: m.at.Sub(e.at), Cores: runtime.NumCPU(), Busy: max(0, m.busy-e.busy),
		// A node that was removed takes what it had waited with it.
		Own: max(0, m.own-e.own), Waited: max(0, m.waited-e.waited)}
}

func readMachine(ctx context.Context, u cluster.Usager) (machine, error) {
	m := machine{at: time.Now()}
	var err error
	if m.busy, err = BusyTime(); err != nil {
		return m, err
	}
	usage, err := u.Usage(ctx)
	if err != nil {
		return m, err
	}
	for name, n := range usage {
		if name == cluster.Engine { // whom it worked for is not known
			m.busy -= n.CPU
			continue
		}
		m.own += n.CPU
		if name != cluster.Plane && name != cluster.Client {
			m.waited += n.Waited
		}
	}
	var self unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &self); err != nil {
		return m, fmt.Errorf("read the harness's own processor time: %w", err)
	}
	m.own += time.Duration(self.Utime.Nano() + self.Stime.Nano())
	return m, nil
}

// BusyTime is what all cores together spent on work since the start of the machine, whoever it was for.
func BusyTime() (time.Duration, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return busyTime(string(stat))
}

// busyTime reads the first line of /proc/stat: the time that all cores together spent since the start of the machine, in units of 10 ms, by
// kind (proc(5)): user, nice, system, idle, iowait, irq, softirq, steal, and two that user and nice contain.
func busyTime(stat string) (time.Duration, error) {
	line, _, _ := strings.Cut(stat, "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return 0, errors.New("/proc/stat does not begin with the times of all cores")
	}
	var ticks uint64
	for i, s := range f[1:9] {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read /proc/stat: %w", err)
		}
		if i != 3 && i != 4 { // idle, iowait
			ticks += n
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}
