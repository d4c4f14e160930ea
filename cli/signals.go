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
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() { // stop waits for it
		defer close(done)
		select {
		case s := <-signals:
			signal.Stop(signals)
			cancel(errors.New("interrupted by " + unix.SignalName(s.(syscall.Signal))))
		case <-ctx.Done():
			signal.Stop(signals)
		}
	}()
	return ctx, func() { cancel(nil); <-done }
}
