// Gauntlet starts a service the way it runs in production, breaks its surroundings on a schedule, and says, with proof,
// whether the service held.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/hasvc/gauntlet/cli"
)

func main() {
	os.Exit(run())
}

func run() int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		s := <-signals
		// The second signal ends the process at once; the plane and everything in it end with it.
		signal.Stop(signals)
		cancel(errors.New("interrupted by " + s.String()))
	}()
	return cli.Main(ctx, os.Args[1:], os.Stdout, os.Stderr)
}
