// Bench measures what performance is judged by and prints a line for each figure:
//
//	P4 idle link, 256-byte round trip p50: 20.9 us (peer: bare veth 16.8 us, ratio 1.24)
//
// Figures of single packages come from the benchmarks in their tests, which print lines of this form; those of the whole
// are measured here. A benchmark is not a test: it fails only when it cannot measure.
package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// packages have benchmarks that print figures.
var packages = []string{"./harness/cluster/plane", "./harness/load"}

func main() {
	if len(os.Args) > 1 && tools[os.Args[1]] != nil {
		if err := tools[os.Args[1]](os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", strings.Join(os.Args[1:], " "), err)
			os.Exit(1)
		}
		return
	}
	n := flag.Int("n", 5, "how often topologies are started and taken down")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "bench [-n N] [STEP...]; the steps, of which all but cold are the default:\n")
		for _, s := range steps {
			fmt.Fprintf(flag.CommandLine.Output(), "  %-8s %s\n", s.name, s.doc)
		}
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *n, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// step is what can be measured by itself.
type step struct {
	name, doc string
	run       func(ctx context.Context, n int) error
}

// steps in the order in which they are done.
var steps = []step{
	{"updown", "P1, P2: the reference topology up and down, on each driver and by Compose", upDown},
	{"docker", "P3, P4, P5 between two nodes on Docker", inDocker},
	{"own", "P12: what the harness itself takes", ownShare},
	{"hasvc", "the reference service: orders through all hops, and what each of its mechanisms costs", ofHasvc},
	{"packages", "what the benchmarks of single packages measure", inPackages},
	{"cold", "P14: a fresh clone with cold caches to the first verdict (some minutes)", firstVerdict},
}

func run(ctx context.Context, n int, names []string) error {
	for _, name := range names {
		if !slices.ContainsFunc(steps, func(s step) bool { return s.name == name }) {
			return fmt.Errorf("no step is called %q: see -help", name)
		}
	}
	for _, s := range steps {
		if len(names) == 0 && s.name == "cold" || len(names) > 0 && !slices.Contains(names, s.name) {
			continue
		}
		if err := s.run(ctx, n); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

func inPackages(ctx context.Context, _ int) error {
	for _, p := range packages {
		if err := figures(ctx, p); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}

var figure = regexp.MustCompile(`^P\d+ .*: `)

// figures runs a package's own benchmark and prints its lines.
func figures(ctx context.Context, pkg string) error {
	c := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", ".", "-benchtime", "1x", "-timeout", "20m", pkg)
	out, err := c.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	n := 0
	for l := bufio.NewScanner(bytes.NewReader(out)); l.Scan(); {
		if figure.MatchString(l.Text()) {
			n++
			fmt.Println(l.Text())
		}
	}
	if n == 0 {
		return fmt.Errorf("its benchmark printed no figure:\n%s", out)
	}
	return nil
}

// firstVerdict is P14: clone, cold module and build caches, the README's first command.
func firstVerdict(ctx context.Context, _ int) error {
	dir, err := os.MkdirTemp("", "gauntlet-cold-")
	if err != nil {
		return err
	}
	defer func() {
		// The module cache is read-only.
		exec.Command("chmod", "-R", "u+w", dir).Run()
		os.RemoveAll(dir)
	}()
	clone := filepath.Join(dir, "gauntlet")
	if out, err := exec.CommandContext(ctx, "git", "clone", "-q", ".", clone).CombinedOutput(); err != nil {
		return fmt.Errorf("clone: %w\n%s", err, out)
	}
	begin := time.Now()
	c := exec.CommandContext(ctx, "go", "run", ".", "run", "store-leader-kill")
	c.Dir = clone
	c.Env = append(slices.DeleteFunc(os.Environ(), func(e string) bool {
		return strings.HasPrefix(e, "GOCACHE=") || strings.HasPrefix(e, "GOMODCACHE=") || strings.HasPrefix(e, "GOPATH=") || strings.HasPrefix(e, "GAUNTLET_CACHE=")
	}), "GOCACHE="+dir+"/build", "GOMODCACHE="+dir+"/mod", "GAUNTLET_CACHE="+dir+"/gauntlet")
	out, err := c.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	fmt.Printf("P14 a fresh clone with cold caches to the first verdict, %d cores: %.0f s\n", runtime.NumCPU(), time.Since(begin).Seconds())
	return nil
}
