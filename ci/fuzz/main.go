// Fuzz runs every fuzz target of the module for a time each.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"time"
)

func main() {
	d := flag.Duration("time", time.Minute, "for each target")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *d); err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, d time.Duration) error {
	pkgs, err := exec.CommandContext(ctx, "go", "list", "./...").Output()
	if err != nil {
		return fmt.Errorf("list packages: %w", err)
	}
	n := 0
	for _, pkg := range strings.Fields(string(pkgs)) {
		out, err := exec.CommandContext(ctx, "go", "test", "-list", "^Fuzz", pkg).Output()
		if err != nil {
			return fmt.Errorf("list the fuzz targets of %s: %w", pkg, err)
		}
		for _, target := range strings.Fields(string(out)) {
			if !strings.HasPrefix(target, "Fuzz") {
				continue
			}
			n++
			fmt.Printf("== %s %s\n", pkg, target)
			c := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-fuzz", "^"+target+"$", "-fuzztime", d.String(), "-fuzzminimizetime", "20x", pkg)
			c.Stdout, c.Stderr = os.Stdout, os.Stderr
			if err := c.Run(); err != nil {
				return fmt.Errorf("%s in %s: %w", target, pkg, err)
			}
		}
	}
	if n == 0 {
		return fmt.Errorf("no fuzz target was found")
	}
	fmt.Printf("%d targets, %v each: nothing was found\n", n, d)
	return nil
}
