package docker

import (
	"context"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster/docker/engine"
	"github.com/hasvc/gauntlet/harness/cluster/supervise"
)

// launch is one run of a program, from its start to its death.
type launch struct {
	c       *carrier
	to      supervise.Launch
	started chan time.Time // one

	mu     sync.Mutex
	noMem  bool
	engine time.Time // when it was started, by the engine's clock
}

func newLaunch(c *carrier, to supervise.Launch) *launch {
	return &launch{c: c, to: to, started: make(chan time.Time, 1)}
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
	_ = s.Copy(out, errs) // cut off with the engine, which ends the run
	out.Close()
	errs.Close()
	copying.Wait()
}

// startTime is how long the engine's word that a program has started may come after the start.
const startTime = time.Second

// startedAt returns when the program was started. The engine's own clock is nearest to it, where it is this machine's.
func (l *launch) startedAt(ctx context.Context, sameClock bool) time.Time {
	t := time.NewTimer(startTime)
	defer t.Stop()
	select {
	case at := <-l.started:
		l.mu.Lock()
		defer l.mu.Unlock()
		if ago := time.Since(l.engine); sameClock && ago > 0 && ago < startTime {
			return time.Now().Add(-ago) // with a monotonic reading
		}
		return at
	case <-ctx.Done():
	case <-t.C:
	}
	return time.Now()
}

// event takes what the engine says of the container.
func (l *launch) event(e engine.Event) {
	switch e.Kind {
	case engine.Started:
		l.mu.Lock()
		l.engine = e.EngineTime
		l.mu.Unlock()
		select {
		case l.started <- e.At:
		default:
		}
	case engine.OOM:
		l.mu.Lock()
		l.noMem = true
		l.mu.Unlock()
	case engine.Healthy:
		l.to.Health(true, "")
	case engine.Unhealthy:
		l.to.Health(false, "the engine found its healthcheck failing")
	}
}

// await waits for the program's end. The engine is asked for it: the event of it may be dropped, or come when the
// container has been started again.
func (l *launch) await(container *engine.Container) {
	code, err := container.Wait(l.c.life)
	at := time.Now()
	if err != nil {
		if l.c.life.Err() == nil {
			l.c.lose(fmt.Errorf("the end of a program cannot be awaited any more: %w", err))
		}
		code = 128 + int(syscall.SIGKILL) // a topology that ends kills it
	}
	l.c.forget(container.ID(), l)
	if l.c.lost() {
		return // the program ended with the topology: told as a death, it would be the service's
	}
	l.mu.Lock()
	detail := ""
	if l.noMem {
		detail = "a process of it was killed for want of memory"
	}
	l.mu.Unlock()
	l.to.Exited(exitOf(code, at), detail)
}
