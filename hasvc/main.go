// Hasvc is the reference service of Gauntlet: one binary, several roles, every mechanism of a highly available service in
// a file of its own, and a switch (HASVC_DEFECT) to make each of them wrong. It imports nothing of the harness.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/hasvc/gauntlet/hasvc/internal/command"
)

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	return command.Run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
}
