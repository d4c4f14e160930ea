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
	"syscall"
	"time"

	"github.com/hasvc/gauntlet/harness"
	"github.com/hasvc/gauntlet/harness/build"
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/record"
	"github.com/hasvc/gauntlet/harness/topology"
)

// packages have benchmarks that print figures.
var packages = []string{"./harness/cluster/plane", "./harness/load"}

func main() {
	cold := flag.Bool("cold", false, "also P14: a fresh clone with cold caches to the first verdict (some minutes)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *cold); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, cold bool) error {
	if err := upDown(ctx, 5); err != nil {
		return fmt.Errorf("P1, P2: %w", err)
	}
	if err := ownShare(ctx); err != nil {
		return fmt.Errorf("P12: %w", err)
	}
	for _, p := range packages {
		if err := figures(ctx, p); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	if cold {
		if err := firstVerdict(ctx); err != nil {
			return fmt.Errorf("P14: %w", err)
		}
	}
	return nil
}

const reference = "scenarios/topologies/reference.yaml"

// upDown is P1 and P2: the reference topology to all ready, and down with the audit.
func upDown(ctx context.Context, n int) error {
	spec, err := topology.Load(ctx, reference, topology.Option{})
	if err != nil {
		return err
	}
	if _, err := new(build.Builder).Build(ctx, spec, nil, filepath.Dir(reference), func(string) {}); err != nil {
		return err
	}
	var ups, downs []time.Duration
	for range n {
		dir, err := os.MkdirTemp("", "gauntlet-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		begin := time.Now()
		c, err := harness.Drivers[0].New().Up(ctx, spec, cluster.Options{Dir: dir, Volumes: filepath.Join(dir, "volumes"), Observe: func(cluster.Event) {}})
		if err != nil {
			return err
		}
		ups = append(ups, time.Since(begin))
		begin = time.Now()
		left, err := c.Down(ctx)
		if err != nil || len(left) > 0 {
			return fmt.Errorf("down: %v, left %v", err, left)
		}
		downs = append(downs, time.Since(begin))
	}
	nodes := len(cluster.Planned(spec))
	fmt.Printf("P1 reference topology of %d nodes to all ready, median of %d: %.0f ms\n", nodes, n, ms(median(ups)))
	fmt.Printf("P2 the same taken down, audit included, median of %d: %.0f ms\n", n, ms(median(downs)))
	return nil
}

// ownShare is P12: what the harness itself (this process and the plane) takes of a core while it sends 1,000 requests a second.
func ownShare(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "gauntlet-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file, err := filepath.Abs("ci/bench/thousand.yaml")
	if err != nil {
		return err
	}
	s, err := harness.Load(ctx, file)
	if err != nil {
		return err
	}
	var before, after syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	r, err := s.Run(ctx, harness.Options{Dir: filepath.Join(dir, "run")})
	if err != nil {
		return err
	}
	syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	var took time.Duration
	if n := len(r.Run.Events); n > 0 {
		took = r.Run.Events[n-1].T
	}
	if !slices.ContainsFunc(r.Run.Events, func(e record.Event) bool { return e.Kind == record.LoadSummary }) {
		return fmt.Errorf("the run sent nothing: %s", r.Verdict)
	}
	cpu := cpuOf(after) - cpuOf(before)
	fmt.Printf("P12 the harness's own CPU over a run at 1000 requests a second, of one core: %.1f %% (%v of %v, judging included; the plane's is not in it)\n",
		100*cpu.Seconds()/took.Seconds(), cpu.Round(time.Millisecond), took.Round(time.Millisecond))
	fmt.Printf("P12 the harness's peak memory: %.0f MB\n", float64(after.Maxrss)/1024)
	return nil
}

func cpuOf(r syscall.Rusage) time.Duration {
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
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
func firstVerdict(ctx context.Context) error {
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

func median(ds []time.Duration) time.Duration {
	slices.Sort(ds)
	return ds[len(ds)/2]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
