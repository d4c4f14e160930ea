// Mutate shows what the tests of a package do not notice: it changes the code in one small way at a time, runs the tests, and prints
// the changes that they let pass.
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
	"slices"
	"strings"
	"time"
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
	flag.BoolVar(&s.list, "list", false, "print the mutants and run nothing")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := mutate(ctx, s, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		stop()
		os.Exit(1)
	}
}

// mutate tries the mutants one after the other: each uses all cores while it is compiled.
func mutate(ctx context.Context, s settings, out io.Writer) error {
	all, err := read(s.dir, s.files)
	if err != nil {
		return err
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
	if o, said := t.try(ctx, nil); o != survived {
		return fmt.Errorf("the tests do not pass unchanged: %s\n%s", o, said)
	}
	count := map[outcome]int{}
	var left []mutant
	for _, m := range all {
		o, _ := t.try(ctx, &m)
		if ctx.Err() != nil {
			break
		}
		count[o]++
		if o == survived {
			left = append(left, m)
			fmt.Fprintln(out, "survived", m)
		}
	}
	tried := count[killed] + count[survived]
	if tried == 0 {
		return fmt.Errorf("no mutant of %s could be tried", filepath.Join(s.dir, s.files))
	}
	share := 100 * float64(count[killed]) / float64(tried)
	fmt.Fprintf(out, "%d of %d mutants killed (%.1f %%), %d survived; %d more did not compile\n", count[killed], tried, share, len(left), count[stillborn])
	if share < s.least {
		return fmt.Errorf("%.1f %% of the mutants were killed, wanted %.1f %%", share, s.least)
	}
	return ctx.Err()
}
