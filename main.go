// Gauntlet starts a service the way it runs in production, breaks its surroundings on a schedule, and says, with proof,
// whether the service held.
package main

import (
	"context"
	"os"

	"github.com/hasvc/gauntlet/cli"
)

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := cli.Interruptible(context.Background())
	defer stop()
	return cli.Main(ctx, os.Args[1:], os.Stdout, os.Stderr)
}
