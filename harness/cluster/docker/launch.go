package docker

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster/docker/engine"
	"github.com/hasvc/gauntlet/harness/cluster/supervise"
)

// launch is one run of a program, from its start to its death.
type launch struct {
	c  *carrier
	to supervise.Launch
}

// copy writes the program's output to its log, line by line, until it ends.
func (l *launch) copy(s *engine.Stream) {
	var copying sync.WaitGroup
	writer := func() *io.PipeWriter {
		r, w := io.Pipe()
		copying.Go(func() { l.to.Log.CopyLines(r) })
		return w
	}
	out, errs := writer(), writer()
	err := s.Copy(out, errs) // cut off with the engine, which ends the run, or with the topology
	out.Close()
	errs.Close()
	copying.Wait()
	if err != nil && l.c.streams.Err() != nil {
		l.to.Log.CopyLines(strings.NewReader("gauntlet: what the program wrote is not all here: the engine did not give it in time\n"))
	}
}

// recent is how old a time of the engine's may be that is taken for one of this machine's clock.
const recent = 10 * time.Second

// momentOf turns a time of the engine's into one with a monotonic reading: the engine was nearer to what happened. Where
// its clock is another, and where it says nothing, heard is as good as it gets.
func (c *carrier) momentOf(at, heard time.Time) time.Time {
	if ago := heard.Sub(at); c.foreign == nil && !at.IsZero() && ago >= 0 && ago < recent {
		return heard.Add(-ago)
	}
	return heard
}

// await waits for the program's end. The engine is asked for it: the event of it may be dropped, or come when the
// container has been started again.
func (l *launch) await(container *engine.Container) {
	code, err := container.Wait(l.c.life)
	at := time.Now()
	detail := ""
	if err != nil {
		if l.c.life.Err() == nil {
			l.c.lose(fmt.Errorf("the end of a program cannot be awaited any more: %w", err))
		}
		code = 128 + int(syscall.SIGKILL) // a topology that ends kills it
	} else if st, err := container.Inspect(l.c.life); err == nil { // else it was removed meanwhile
		at = l.c.momentOf(st.Finished, at)
		if st.OOMKilled {
			detail = "a process of it was killed for want of memory"
		}
	}
	if l.c.lost() {
		return // the program ended with the topology: told as a death, it would be the service's
	}
	l.to.Exited(exitOf(code, at), detail)
}
