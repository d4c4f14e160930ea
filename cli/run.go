package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hasvc/gauntlet/assertions"
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
		Short: "Run scenarios: names of shipped ones, files, or directories of files",
		Example: `  gauntlet run store-leader-kill
  gauntlet run --controls store-leader-kill    also with each of its controls, which must fail
  gauntlet run --count 5 my/scenario.yaml      five times, the seed advancing by one
  gauntlet run --all -o junit > results.xml`,
		RunE: func(c *cobra.Command, args []string) (err error) {
			f.seeded = c.Flags().Changed("seed")
			*code, err = f.run(c.Context(), args, c.OutOrStdout(), c.ErrOrStderr())
			return err
		},
	}
	c.Flags().BoolVar(&f.all, "all", false, "every shipped scenario")
	c.Flags().BoolVar(&f.controls, "controls", false, "run the controls too, and print the mutation score")
	c.Flags().IntVar(&f.count, "count", 1, "how often; the seed advances by one each time")
	c.Flags().Uint64Var(&f.seed, "seed", 0, "draw everything random from this seed (default: the scenario's own, or a new one)")
	c.Flags().StringVar(&f.driver, "driver", "", "what carries the topology: "+driverNames())
	c.Flags().BoolVar(&f.keep, "keep", false, "keep the volumes of the nodes in the run directory")
	c.Flags().StringVar(&f.out, "out", "runs", "directory for run directories")
	c.Flags().StringVarP(&f.format, "output", "o", "text", "what to print: "+formatNames())
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
	files, err := f.files(args)
	if err != nil {
		return exitInput, err
	}
	// All are read before the first one runs: a mistake in the last file is found now, not in ten minutes.
	todo := make([]*harness.Scenario, len(files))
	for i, file := range files {
		if todo[i], err = harness.Load(ctx, file); err != nil {
			return exitInput, err
		}
	}
	var results []reports.Result
	for _, s := range todo {
		for i := range f.count {
			r, err := f.one(ctx, s, driver, uint64(i), stderr)
			if r != nil {
				results = append(results, *r)
			}
			if err != nil {
				return codeOf(ctx, err), err
			}
			// Text is read as it comes; the other formats are one document.
			if f.format == "text" {
				if err := format.Render(stdout, results[len(results)-1:]); err != nil {
					return exitInvalid, err
				}
			}
			if ctx.Err() != nil {
				break
			}
		}
	}
	if f.format != "text" {
		if err := format.Render(stdout, results); err != nil {
			return exitInvalid, err
		}
	} else if len(results) > 1 {
		summary(stdout, results)
	}
	return verdictCode(overall(results)), nil
}

// overall is the worst verdict; a control that survived is a FAIL, of the scenario rather than the service.
func overall(results []reports.Result) assertions.Verdict {
	var vs []assertions.Verdict
	for _, r := range results {
		vs = append(vs, r.Verdict)
		for _, c := range r.Controls {
			if !c.Killed {
				vs = append(vs, assertions.Fail)
			}
		}
	}
	return assertions.Worst(vs...)
}

// files are the scenarios that were asked for.
func (f *runFlags) files(args []string) ([]string, error) {
	if f.all == (len(args) > 0) {
		return nil, &harness.InputError{Err: fmt.Errorf("name scenarios to run, or --all; \"gauntlet list\" names the shipped ones")}
	}
	if f.all {
		for _, s := range scenarios.Shipped() {
			args = append(args, s.Name)
		}
	}
	return resolve(args)
}

// resolve turns names, files and directories into scenario files.
func resolve(args []string) ([]string, error) {
	var files []string
	for _, a := range args {
		found, err := scenarios.Find(a)
		if err != nil {
			return nil, &harness.InputError{Err: err}
		}
		files = append(files, found...)
	}
	return files, nil
}

// one runs a scenario, and its controls when they were asked for.
func (f *runFlags) one(ctx context.Context, s *harness.Scenario, d cluster.Driver, turn uint64, stderr io.Writer) (*reports.Result, error) {
	var asked *uint64
	if f.seeded {
		asked = &f.seed
	}
	seed := s.Seed(asked) + turn
	p, err := s.Plan(seed, "")
	if err != nil {
		return nil, err
	}
	opt := harness.Options{
		Driver: d, Seed: &seed, Keep: f.keep, Dir: harness.RunDir(f.out, p, ""), Args: os.Args[1:], Progress: progress(stderr, p),
	}
	r, err := s.Run(ctx, opt)
	if err != nil || !f.controls || ctx.Err() != nil {
		return r, err
	}
	return r, s.RunControls(ctx, r, opt, func(name string) string { return harness.RunDir(f.out, p, name) })
}

// progress prints lines with the time since the start: plain, so that it reads well in a log.
func progress(w io.Writer, p *plan.Plan) func(string) {
	begin := time.Now()
	fmt.Fprintf(w, "%s, seed %d\n", p.Name, p.Seed)
	return func(line string) {
		fmt.Fprintf(w, "%6.1fs  %s\n", time.Since(begin).Seconds(), strings.TrimRight(line, "\n"))
	}
}

// summary is a line for each of several results.
func summary(w io.Writer, results []reports.Result) {
	fmt.Fprintln(w)
	for _, r := range results {
		line := fmt.Sprintf("%-8s %s (seed %d)  %s", r.Verdict, r.Run.Plan.Name, r.Run.Plan.Seed, filepath.Clean(r.Run.Dir))
		if n := len(r.Controls); n > 0 {
			killed := 0
			for _, c := range r.Controls {
				if c.Killed {
					killed++
				}
			}
			line += fmt.Sprintf("  controls killed: %d of %d", killed, n)
		}
		fmt.Fprintln(w, line)
	}
}
