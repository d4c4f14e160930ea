package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// Interruptible returns a context that ends with the first SIGINT or SIGTERM: what goes on is undone and recorded then. The
// second one ends the process at once; the plane, and with it everything that the run started, ends with the process.
func Interruptible(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	stopped, done := make(chan struct{}), make(chan struct{})
	signals := make(chan os.Signal, 2) // the second may come before the first was looked at
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() { // stop waits for it
		defer close(done)
		for n := 1; ; n++ {
			select {
			case s := <-signals:
				if n > 1 {
					os.Exit(exitInterrupted) // what would be undone ends with the process
				}
				cancel(errors.New("interrupted by " + unix.SignalName(s.(syscall.Signal))))
			case <-stopped:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(stopped)
		<-done
		cancel(nil)
	}
}
