// Soak runs scenarios and all their controls again and again, with another process keeping a core busy half of the
// time, and prints for each what came out. A single wrong verdict makes it fail.
//
//	go run ./ci/soak -n 20
//	go run ./ci/soak -n 5 -driver sandbox,docker -results soak.jsonl -table docs/verdicts.md
//	go run ./ci/soak -n 20 -fill -results soak.jsonl     goes on where an earlier soak was stopped
//	go run ./ci/soak -from soak.jsonl,more.jsonl -table docs/verdicts.md      runs nothing
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/hasvc/gauntlet/harness"
	"github.com/hasvc/gauntlet/harness/cluster/docker/engine"
	"github.com/hasvc/gauntlet/scenarios"
	"golang.org/x/sys/unix"
)

// settings are those of the command line.
type settings struct {
	n       int
	drivers []string
	busy    bool
	quiet   bool     // run the control no-fault too
	results string   // file that each verdict is appended to; empty: none
	fill    bool     // count the verdicts that are in that file already
	from    []string // files of verdicts to make the table of, without running anything
	table   string   // file that the table is written to as a page; empty: none
	names   []string // of scenarios; none: the shipped ones
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "busy" {
		busy()
		return
	}
	var s settings
	var drivers, from string
	flag.IntVar(&s.n, "n", 20, "how often each scenario and each control is run on each driver")
	flag.StringVar(&drivers, "driver", harness.Drivers[0].Name, "what carries the topologies: drivers, with commas between them")
	flag.BoolVar(&s.busy, "busy", true, "keep a core busy half of the time")
	flag.BoolVar(&s.quiet, "no-fault", true, "run each scenario without its faults too, as a control")
	flag.StringVar(&s.results, "results", "", "append each verdict to this `FILE`, as a line of JSON, when it comes")
	flag.BoolVar(&s.fill, "fill", false, "run only what is missing to -n in the file of -results, and show all of it")
	flag.StringVar(&from, "from", "", "run nothing, and make the table of these `FILES` of -results, with commas between them")
	flag.StringVar(&s.table, "table", "", "write the table to this `FILE`, as Markdown")
	flag.Parse()
	s.drivers, s.names = strings.Split(drivers, ","), flag.Args()
	if from != "" {
		s.from = strings.Split(from, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, s, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings, stdout io.Writer) error {
	if s.from != nil {
		results, err := readResults(s.from)
		if err != nil {
			return err
		}
		_, err = s.show(results, stdout)
		return err
	}
	var results []result
	if s.fill {
		if s.results == "" {
			return errors.New("-fill needs -results FILE, which has the verdicts so far")
		}
		var err error
		if results, err = readResults([]string{s.results}); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	all, err := load(ctx, s.names)
	if err != nil {
		return err
	}
	kernel, err := kernelRelease()
	if err != nil {
		return err
	}
	var on []carrier
	for _, name := range s.drivers {
		c, err := newCarrier(ctx, name)
		if err != nil {
			return err
		}
		on = append(on, c)
	}
	var file io.Writer = io.Discard
	if s.results != "" {
		f, err := os.OpenFile(s.results, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer f.Close()
		file = f
	}
	dir, err := os.MkdirTemp("", "gauntlet-soak-")
	if err != nil {
		return err
	}
	if s.busy {
		stopBusy, err := keepBusy(ctx)
		if err != nil {
			return err
		}
		defer stopBusy()
	}
	have := tally{}
	for _, r := range results {
		have.add(r)
	}
	note := func(r result) error {
		r.Kernel = kernel
		results = append(results, r)
		have.add(r)
		word := "right"
		if !r.Right {
			word = "WRONG"
		}
		fmt.Fprintf(stdout, "%3d  %s  %-8s %-60s %6.1fs  %s\n", r.Turn, word, r.Driver, r.name(), r.Seconds, r.Why)
		if err := r.write(file); err != nil {
			return fmt.Errorf("write to %s: %w", s.results, err)
		}
		return nil
	}
	runErr := s.turns(ctx, all, on, dir, have, note)
	wrong, err := s.show(results, stdout)
	if err := errors.Join(runErr, err); err != nil {
		return err
	}
	if wrong > 0 {
		return fmt.Errorf("%d wrong verdicts; their run directories are in %s", wrong, dir)
	}
	return errors.Join(ctx.Err(), os.RemoveAll(dir))
}

// turns goes turn by turn over all scenarios, and over the drivers in each, so that an early end has seen all of them.
func (s settings) turns(ctx context.Context, all []*harness.Scenario, on []carrier, dir string, have tally, note func(result) error) error {
	for range s.n {
		for _, sc := range all {
			for _, c := range on {
				if ctx.Err() != nil {
					return nil // run reports it
				}
				turn := have[verdict{c.Name(), sc.Name(), ""}]
				p, err := sc.Plan(sc.Seed(nil), "")
				if err != nil {
					return err
				}
				if missing := have.missing(s.n, c.Name(), p, s.quiet); len(missing) > 0 {
					if err := once(ctx, sc, c, missing, dir, turn, note); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// load reads the scenarios with these names; without names, all that ship.
func load(ctx context.Context, names []string) (all []*harness.Scenario, err error) {
	if len(names) == 0 {
		for _, s := range scenarios.Shipped() {
			names = append(names, s.Name)
		}
	}
	for _, name := range names {
		files, err := scenarios.Find(name)
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			s, err := harness.Load(ctx, f)
			if err != nil {
				return nil, err
			}
			all = append(all, s)
		}
	}
	return all, nil
}

// show prints the table, writes it as a page when that is asked for, and returns how many verdicts were wrong.
func (s settings) show(results []result, stdout io.Writer) (wrong int, err error) {
	if len(results) == 0 {
		return 0, errors.New("there is no verdict to show")
	}
	t := tabulate(results)
	if err := t.text(stdout); err != nil {
		return 0, err
	}
	if s.table == "" {
		return t.wrong(), nil
	}
	var page bytes.Buffer
	if err := t.markdown(&page); err != nil {
		return 0, err
	}
	return t.wrong(), os.WriteFile(s.table, page.Bytes(), 0o644)
}

// kernelRelease is what uname -r prints.
func kernelRelease() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("ask for the kernel's release: %w", err)
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}

// engineVersion says which engine the Docker driver uses.
func engineVersion(ctx context.Context) (string, error) {
	e, err := engine.Connect(ctx)
	if err != nil {
		return "", err
	}
	defer e.Close()
	return e.Kind() + " " + e.Version(), nil
}
