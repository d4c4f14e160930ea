// Soak runs scenarios and all their controls again and again, with another process keeping a core busy half of the
// time, and prints for each what came out. A single wrong verdict makes it fail.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/hasvc/gauntlet/assertions"
	"github.com/hasvc/gauntlet/harness"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/scenarios"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "busy" {
		busy()
		return
	}
	n := flag.Int("n", 20, "how often each scenario and each control is run")
	driver := flag.String("driver", "", "what carries the topologies")
	beside := flag.Bool("busy", true, "keep a core busy half of the time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *n, *driver, *beside, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		stop()
		os.Exit(1)
	}
}

// tally is what came of one scenario or control.
type tally struct {
	name        string
	runs, right int
	worst       time.Duration
}

func run(ctx context.Context, n int, driver string, beside bool, names []string) error {
	d, err := harness.DriverByName(driver)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		for _, s := range scenarios.Shipped() {
			names = append(names, s.Name)
		}
	}
	var all []*harness.Scenario
	for _, name := range names {
		files, err := scenarios.Find(name)
		if err != nil {
			return err
		}
		for _, f := range files {
			s, err := harness.Load(ctx, f)
			if err != nil {
				return err
			}
			all = append(all, s)
		}
	}
	dir, err := os.MkdirTemp("", "gauntlet-soak-")
	if err != nil {
		return err
	}
	if beside {
		stopBusy, err := keepBusy(ctx)
		if err != nil {
			return err
		}
		defer stopBusy()
	}

	var order []*tally
	tallies := map[string]*tally{}
	count := func(name string, right bool, took time.Duration) {
		t := tallies[name]
		if t == nil {
			t = &tally{name: name}
			tallies[name] = t
			order = append(order, t)
		}
		t.runs++
		t.worst = max(t.worst, took)
		if right {
			t.right++
		}
	}
	// Turn by turn over all scenarios, so that an early end has seen each of them.
	for turn := range n {
		for _, s := range all {
			if ctx.Err() != nil {
				break
			}
			if err := once(ctx, s, harness.Options{Driver: d}, dir, turn, count); err != nil {
				table(order)
				return err
			}
		}
	}
	table(order)
	wrong := 0
	for _, t := range order {
		wrong += t.runs - t.right
	}
	if wrong > 0 {
		return fmt.Errorf("%d wrong verdicts; their run directories are in %s", wrong, dir)
	}
	return errors.Join(ctx.Err(), os.RemoveAll(dir))
}

// once runs a scenario and its controls, each with a seed of its own for each turn.
func once(ctx context.Context, s *harness.Scenario, opt harness.Options, dir string, turn int, count func(string, bool, time.Duration)) error {
	seed := s.Seed(nil) + uint64(turn)
	opt.Seed = &seed
	opt.Dir = filepath.Join(dir, fmt.Sprintf("%s-%d", s.Name(), turn+1))
	begin := time.Now()
	r, err := s.Run(ctx, opt)
	if err != nil || ctx.Err() != nil {
		return err // what was interrupted is no verdict
	}
	note := func(name string, right bool, why string, took time.Duration, runDir string) {
		count(name, right, took)
		word := "right"
		if !right {
			word = "WRONG"
		} else {
			os.RemoveAll(runDir)
		}
		fmt.Printf("%3d  %s  %-60s %6.1fs  %s\n", turn+1, word, name, took.Seconds(), why)
	}
	note(s.Name(), r.Verdict == assertions.Pass, reason(r.Findings), time.Since(begin), r.Run.Dir)
	for _, c := range r.Run.Plan.Controls {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		note2 := s.Name() + " / " + c.Name
		opt.Control = c.Name
		opt.Dir = filepath.Join(dir, fmt.Sprintf("%s-%d-%d", s.Name(), turn+1, controlNumber(r.Run.Plan, c.Name)))
		begin := time.Now()
		cr, err := s.Run(ctx, opt)
		if err != nil || ctx.Err() != nil {
			return err
		}
		// Judged against a passing run: whether the unchanged one passed has a line of its own.
		killed, why := harness.Killed(assertions.Pass, c, cr.Findings)
		note(note2, killed, why, time.Since(begin), cr.Run.Dir)
	}
	return nil
}

func controlNumber(p *plan.Plan, name string) int {
	for i, c := range p.Controls {
		if c.Name == name {
			return i + 1
		}
	}
	return 0
}

// reason is the first finding that did not pass.
func reason(fs []assertions.Finding) string {
	for _, f := range fs {
		if f.Verdict != assertions.Pass {
			return fmt.Sprintf("%s %s: %s %s", f.ID, f.Verdict, f.Summary, f.Reason)
		}
	}
	return ""
}

func table(order []*tally) {
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "\nSCENARIO / CONTROL\tRIGHT\tOF\tLONGEST")
	for _, t := range order {
		fmt.Fprintf(w, "%s\t%d\t%d\t%.1fs\n", t.name, t.right, t.runs, t.worst.Seconds())
	}
	w.Flush()
}

// keepBusy starts a process of this program that keeps one core busy half of the time.
func keepBusy(ctx context.Context) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	self, err := os.Executable()
	if err != nil {
		cancel()
		return nil, err
	}
	c := exec.CommandContext(ctx, self, "busy")
	// Its end is ours: it reads from a pipe that closes with this process, however that ends.
	in, err := c.StdinPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("start the busy process: %w", err)
	}
	return func() { in.Close(); cancel(); c.Wait() }, nil
}

// busy spins for 3 s in every 6 s until its standard input ends.
func busy() {
	runtime.GOMAXPROCS(2) // one spins, one reads
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		defer close(done)
		b := make([]byte, 1)
		os.Stdin.Read(b)
	})
	for {
		until := time.Now().Add(3 * time.Second)
		for time.Now().Before(until) {
			for range 1_000_000 {
			}
		}
		select {
		case <-done:
			wg.Wait()
			return
		case <-time.After(3 * time.Second):
		}
	}
}
