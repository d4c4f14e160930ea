package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hasvc/gauntlet/harness"
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/reports"
	"github.com/hasvc/gauntlet/scenarios"
)

// runFlags are the flags of run.
type runFlags struct {
	all, controls, keep bool
	count               int
	seed                uint64
	seeded              bool
	driver, out, format string
}

func runCommand(code *int) *cobra.Command {
	f := runFlags{}
	c := &cobra.Command{
		Use:   "run [SCENARIO...]",
		Short: "Run scenarios, judge them, and print what was found",
		Long: `Run scenarios, judge them, and print what was found. SCENARIO is a file, a directory of files, or the name of a shipped
scenario ("gauntlet list"). What is being done is told on standard error, the results on standard output. Each run writes a directory of
its own, below --out. Runs on one machine wait for each other: two at once would disturb each other's timing.

The exit code is that of the worst verdict: 0 PASS, 1 FAIL (also when a control survives), 3 INVALID (also when one shows nothing). Ctrl-C undoes what
was done and judges what there is (130); a second one ends at once.`,
		Example: `  gauntlet run store-leader-kill
  gauntlet run --controls store-leader-kill    and again with each known defect, which must be noticed
  gauntlet run --count 5 my/scenario.yaml      five times, the seed advancing by one
  gauntlet run --all -o junit > results.xml`,
		RunE: func(c *cobra.Command, args []string) (err error) {
			f.seeded = c.Flags().Changed("seed")
			*code, err = f.run(c.Context(), args, c.OutOrStdout(), c.ErrOrStderr())
			return err
		},
	}
	c.Flags().BoolVar(&f.all, "all", false, "run every shipped scenario")
	c.Flags().BoolVar(&f.controls, "controls", false, "also run each scenario's controls (the same run with one thing made wrong, which must fail, and without a fault, which must not), and print the mutation score")
	c.Flags().IntVar(&f.count, "count", 1, "run each scenario `N` times, the seed advancing by one")
	c.Flags().Uint64Var(&f.seed, "seed", 0, "draw everything random from this `SEED` (default: the scenario's own, or a new one)")
	c.Flags().StringVar(&f.driver, "driver", "", "run the topology on this `DRIVER`: "+driverNames())
	c.Flags().BoolVar(&f.keep, "keep", false, "keep what the nodes wrote to their volumes, in the run directory (driver sandbox: those of docker are the engine's)")
	c.Flags().StringVar(&f.out, "out", "runs", "put the run directories below this `DIRECTORY`")
	outputFlag(c, &f.format)
	return c
}

func (f *runFlags) run(ctx context.Context, args []string, stdout, stderr io.Writer) (int, error) {
	format, err := formatByName(f.format)
	if err != nil {
		return exitInput, err
	}
	driver, err := harness.DriverByName(f.driver)
	if err != nil {
		return exitInput, err
	}
	if f.count < 1 {
		return exitInput, &harness.InputError{Err: fmt.Errorf("--count %d: at least 1", f.count)}
	}
	// All are read before the first one runs: a mistake in the last file is found now, not in ten minutes.
	todo, err := f.load(ctx, args, driver)
	if err != nil {
		return codeOf(ctx, err), err
	}
	results, unrun, err := f.each(ctx, todo, driver, format, stdout, stderr)
	// What was run is printed, whatever went wrong then, and what was not.
	if f.format == "text" {
		if len(results) > 1 {
			summary(stdout, results)
		}
		err = errors.Join(err, render(format, stdout, nil, unrun...))
	} else {
		err = errors.Join(err, render(format, stdout, results, unrun...))
	}
	if err != nil {
		return codeOf(ctx, err), err
	}
	return verdictCode(reports.Overall(results)), nil
}

// each runs every scenario as often as was asked for, and prints text as it comes; the other formats are one document. After an error
// it breaks off: what was not run is told with it.
func (f *runFlags) each(ctx context.Context, todo []*harness.Scenario, driver cluster.Driver, format reports.Format, stdout, stderr io.Writer) (
	results []reports.Result, unrun []reports.Unrun, broken error) {
	for _, s := range todo {
		seed := s.Seed(f.asked())
		for i := range f.count {
			u := reports.Unrun{Scenario: s.Name(), Seed: seed + uint64(i)}
			why := broken
			if why == nil {
				why = context.Cause(ctx)
			}
			if why != nil {
				u.Error = "the command broke off before it: " + why.Error()
				unrun = append(unrun, u)
				continue
			}
			r, err := f.one(ctx, s, driver, seed+uint64(i), stderr)
			if r != nil {
				results = append(results, *r)
				if f.format == "text" {
					err = errors.Join(err, render(format, stdout, results[len(results)-1:]))
				}
			}
			if r == nil && err != nil {
				u.Error = err.Error()
				unrun = append(unrun, u)
			}
			broken = err
		}
	}
	return results, unrun, broken
}

// load reads the scenarios that were asked for and looks whether they can be executed here. All mistakes come at once.
func (f *runFlags) load(ctx context.Context, args []string, d cluster.Driver) ([]*harness.Scenario, error) {
	if f.all == (len(args) > 0) {
		return nil, &harness.InputError{Err: errors.New("name scenarios to run, or give --all; \"gauntlet list\" names the shipped ones")}
	}
	if f.all {
		for _, s := range scenarios.Shipped() {
			args = append(args, s.Name)
		}
	}
	todo, err := load(ctx, args)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, s := range todo {
		p, err := s.Plan(s.Seed(f.asked()), "")
		if err == nil {
			err = harness.Executable(p, d)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.Path, err))
		}
	}
	return todo, errors.Join(errs...)
}

// load reads scenarios. The errors of all of them come joined.
func load(ctx context.Context, args []string) ([]*harness.Scenario, error) {
	files, err := resolve(args)
	if err != nil {
		return nil, err
	}
	var todo []*harness.Scenario
	var errs []error
	for _, file := range files {
		s, err := harness.Load(ctx, file)
		todo, errs = append(todo, s), append(errs, err)
	}
	return todo, errors.Join(errs...)
}

// asked is the seed of the command line, or nil.
func (f *runFlags) asked() *uint64 {
	if !f.seeded {
		return nil
	}
	return &f.seed
}

// resolve turns names, files and directories into scenario files.
func resolve(args []string) ([]string, error) {
	var files []string
	var errs []error
	for _, a := range args {
		found, err := scenarios.Find(a)
		files, errs = append(files, found...), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, &harness.InputError{Err: err}
	}
	return files, nil
}

// one runs a scenario, and its controls when they were asked for.
func (f *runFlags) one(ctx context.Context, s *harness.Scenario, d cluster.Driver, seed uint64, stderr io.Writer) (*reports.Result, error) {
	p, err := s.Plan(seed, "")
	if err != nil {
		return nil, err
	}
	opt := harness.Options{
		Driver: d, Seed: &seed, Keep: f.keep, Dir: harness.RunDir(f.out, p, ""), Args: os.Args[1:], Progress: progress(stderr, p),
	}
	r, err := s.Run(ctx, opt)
	if err == nil {
		// Who sends the results to a file sees how it ended.
		opt.Progress(fmt.Sprintf("%s, recorded in %s", r.Verdict, r.Run.Dir))
	}
	if err != nil || !f.controls || ctx.Err() != nil {
		return r, err
	}
	return r, s.RunControls(ctx, r, opt, func(name string) string { return harness.RunDir(f.out, p, name) })
}

// progress tells which run begins, and prints the lines of what is done in it.
func progress(w io.Writer, p *plan.Plan) func(string) {
	fmt.Fprintf(w, "%s, seed %d\n", p.Name, p.Seed)
	return timed(w)
}

// timed prints lines with the time since now: plain, so that it reads well in a log.
func timed(w io.Writer) func(string) {
	begin := time.Now()
	return func(line string) {
		fmt.Fprintf(w, "%6.1fs  %s\n", time.Since(begin).Seconds(), strings.TrimRight(reports.Plain(line), "\n"))
	}
}

// summary is a line for each of several results.
func summary(w io.Writer, results []reports.Result) {
	fmt.Fprintln(w)
	for _, r := range results {
		line := fmt.Sprintf("%-8s %s (seed %d)  %s", r.Verdict, r.Run.Plan.Name, r.Run.Plan.Seed, filepath.Clean(r.Run.Dir))
		if len(r.Controls) > 0 {
			s := reports.ScoreOf(r)
			line += fmt.Sprintf("  controls killed: %d of %d", s.Killed, s.Run)
			if s.Unshown > 0 {
				line += fmt.Sprintf(", nothing shown by %d", s.Unshown)
			}
			if s.Noise != "" {
				line += ", without a fault: " + s.Noise
			}
		}
		fmt.Fprintln(w, line)
	}
}
