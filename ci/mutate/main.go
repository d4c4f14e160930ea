// Mutate shows what the tests of a package do not notice: it changes the code in one small way at a time, runs the tests, and prints
// the changes that they let pass. Arguments after the flags are given to the tests.
//
//	go run ./ci/mutate -quick -sample 40 -- -rapid.nofailfile
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// settings of a run.
type settings struct {
	dir    string // of the package
	files  string // a pattern of file names
	run    string // tests, as go test -run takes it
	sample int    // mutants, drawn; 0: all
	seed   uint64
	limit  time.Duration // of the tests of one mutant
	least  float64       // percent that must be killed
	list   bool
	quick  bool     // only mutants that one compilation does for
	again  string   // an earlier output: only what survived there; empty: all
	args   []string // given to the tests
}

func main() {
	var s settings
	flag.StringVar(&s.dir, "dir", "assertions", "the package's directory")
	flag.StringVar(&s.files, "files", "*.go", "only files of this name")
	flag.StringVar(&s.run, "run", "", "only these tests")
	flag.IntVar(&s.sample, "sample", 0, "so many mutants, drawn; 0: all")
	flag.Uint64Var(&s.seed, "seed", 1, "of the draw")
	flag.DurationVar(&s.limit, "limit", 2*time.Minute, "of the tests of one mutant; one that takes longer is killed")
	flag.Float64Var(&s.least, "least", 0, "fail when fewer percent are killed")
	flag.BoolVar(&s.quick, "quick", false, "only mutants that share one compilation")
	flag.StringVar(&s.again, "again", "", "only the mutants that survived by this `FILE`, an earlier output; the package's sources must not have changed")
	flag.BoolVar(&s.list, "list", false, "print the mutants and run nothing")
	flag.Parse()
	s.args = flag.Args()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := mutate(ctx, s, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		stop()
		os.Exit(1)
	}
}

// mutate tries the mutants, as many at a time as there are processors.
func mutate(ctx context.Context, s settings, out io.Writer) error {
	all, err := read(s.dir, s.files)
	if err != nil {
		return err
	}
	every := all
	if s.quick {
		all = slices.DeleteFunc(slices.Clone(all), func(m mutant) bool { return m.switched == nil })
	}
	if s.again != "" {
		before, err := os.ReadFile(s.again)
		if err != nil {
			return fmt.Errorf("reading an earlier output: %w", err)
		}
		lines := strings.Split(string(before), "\n")
		all = slices.DeleteFunc(slices.Clone(all), func(m mutant) bool { return !slices.Contains(lines, survivor(m)) })
	}
	if s.sample > 0 && s.sample < len(all) {
		r := rand.New(rand.NewPCG(s.seed, 0))
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:s.sample]
		slices.SortFunc(all, func(a, b mutant) int { return strings.Compare(a.where(), b.where()) })
	}
	if s.list {
		for _, m := range all {
			fmt.Fprintln(out, m)
		}
		return nil
	}
	tmp, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return fmt.Errorf("making a directory for mutants: %w", err)
	}
	defer os.RemoveAll(tmp)
	t := trial{settings: s, tmp: tmp}
	if err := t.build(ctx, every); err != nil {
		return err
	}
	if err := t.trace(ctx); err != nil {
		return err
	}
	count := map[outcome]int{}
	var mu sync.Mutex
	var side errgroup.Group
	side.SetLimit(runtime.NumCPU())
	for _, m := range all {
		side.Go(func() error {
			o := t.try(ctx, m)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			mu.Lock()
			defer mu.Unlock()
			count[o]++
			if o == survived {
				fmt.Fprintln(out, survivor(m))
			}
			return nil
		})
	}
	stopped := side.Wait()
	tried := count[killed] + count[survived]
	if tried == 0 {
		return fmt.Errorf("no mutant of %s could be tried", filepath.Join(s.dir, s.files))
	}
	share := 100 * float64(count[killed]) / float64(tried)
	fmt.Fprintf(out, "%d of %d mutants killed (%.1f %%), %d survived; %d more did not compile\n", count[killed], tried, share, count[survived], count[stillborn])
	if share < s.least {
		return fmt.Errorf("%.1f %% of the mutants were killed, wanted %.1f %%", share, s.least)
	}
	return stopped
}

// survivor is the line of the output about a mutant that was not noticed.
func survivor(m mutant) string { return fmt.Sprint("survived ", m) }
