package harness

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hasvc/gauntlet/assertions"
	"github.com/hasvc/gauntlet/faults"
	"github.com/hasvc/gauntlet/harness/build"
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/engine"
	"github.com/hasvc/gauntlet/harness/load"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
	"github.com/hasvc/gauntlet/harness/scrape"
	"github.com/hasvc/gauntlet/harness/topology"
	"github.com/hasvc/gauntlet/harness/turn"
	"github.com/hasvc/gauntlet/harness/workload"
	"github.com/hasvc/gauntlet/reports"
	"github.com/hasvc/gauntlet/scenarios"
)

// Scenario is a scenario file that was read and found valid.
type Scenario struct {
	Path string
	file *scenarios.File
	spec *cluster.Spec
}

// Tables are all that a scenario may name.
func Tables() scenarios.Tables {
	return scenarios.Tables{Faults: faults.Table, Assertions: assertions.Table, Defects: scenarios.Defects,
		Metrics: assertions.MetricScope{Parse: scrape.Validate, Interval: scrape.Interval}}
}

// Load reads a scenario file and its topology. Every error of both comes at once, each with its place.
func Load(ctx context.Context, path string) (*Scenario, error) {
	f, spec, err := scenarios.Load(path, Tables(), func(compose string) (*cluster.Spec, error) {
		return topology.Load(ctx, compose, topology.Option{})
	})
	if err != nil {
		return nil, &InputError{err}
	}
	return &Scenario{Path: path, file: f, spec: spec}, nil
}

// InputError is an error of what the user gave: a file, a name, a plan that this version or machine cannot execute.
type InputError struct{ Err error }

func (e *InputError) Error() string { return e.Err.Error() }
func (e *InputError) Unwrap() error { return e.Err }

// Name is the scenario's name.
func (s *Scenario) Name() string { return s.file.Name }

// Seed is the one that opt asks for, else the file's, else a new one.
func (s *Scenario) Seed(asked *uint64) uint64 {
	switch {
	case asked != nil:
		return *asked
	case s.file.Seed != nil:
		return *s.file.Seed
	}
	// 53 bits: every reader of JSON keeps them.
	return rand.Uint64() >> 11
}

// Plan compiles the scenario with a seed. control names the control to carry out, or is empty.
func (s *Scenario) Plan(seed uint64, control string) (*plan.Plan, error) {
	p, err := scenarios.Compile(s.file, s.spec, seed)
	if err != nil {
		return nil, &InputError{err}
	}
	if control == "" {
		return p, nil
	}
	for _, c := range p.Controls {
		if c.Name == control {
			p.Control = &c
			return p, nil
		}
	}
	return nil, &InputError{fmt.Errorf("scenario %s has no control %q", p.Name, control)}
}

// Options of one run. The zero value runs in the sandbox with the scenario's own seed.
type Options struct {
	Driver  cluster.Driver // nil: the sandbox
	Seed    *uint64
	Control string // the name of the control to carry out; empty: the unchanged run
	// Unchanged is the run that the control without faults is compared with; the others need none.
	Unchanged *record.Run
	// Dir is the run directory, which must not hold a run yet. Empty: runs/NAME-TIME below the current directory.
	Dir      string
	Keep     bool // keep the volumes of the topology, in DIR/volumes; an error with a driver whose volumes are its engine's
	Progress func(line string)
	Args     []string // how the run was asked for, for the record
}

// Run carries the scenario out and judges it. An error means that no verdict came about because of what the user gave
// (*InputError); whatever goes wrong once the run has begun is a verdict, INVALID, with its reason in the record.
func (s *Scenario) Run(ctx context.Context, opt Options) (*reports.Result, error) {
	progress := opt.Progress
	if progress == nil {
		progress = func(string) {}
	}
	driver := opt.Driver
	if driver == nil {
		driver = Drivers[0].New()
	}
	if opt.Dir != "" {
		defer os.Remove(opt.Dir) // of a run that never began: what is not empty stays
	}
	seed := s.Seed(opt.Seed)
	p, err := s.Plan(seed, opt.Control)
	if err != nil {
		return nil, err
	}
	if p.Control != nil && p.Control.NoFault {
		if err := withoutFaults(p, opt.Unchanged); err != nil {
			return nil, &InputError{err}
		}
	}
	if err := Executable(p, driver); err != nil {
		return nil, err
	}
	if _, keeps := driver.(cluster.VolumeKeeper); opt.Keep && keeps {
		return nil, &InputError{fmt.Errorf("the driver %s has volumes in its engine, and none that could be kept in the run directory", driver.Name())}
	}
	spec, err := s.changed(ctx, p.Control)
	if err != nil {
		return nil, &InputError{err}
	}
	bin, err := new(build.Builder).Build(ctx, spec, p.Programs, filepath.Dir(s.Path), progress)
	if err != nil {
		return nil, &InputError{err}
	}
	release, err := turn.Take(ctx, func() { progress("waiting for another run on this machine to end") })
	if err != nil {
		return nil, err
	}
	defer release()
	settle(ctx, progress)
	if testing.Testing() {
		calm(ctx, progress, engine.BusyTime)
	}
	dir := opt.Dir
	if dir == "" {
		dir = RunDir("runs", p, opt.Control)
	}
	w, err := record.Create(dir, record.Meta{Tool: Version(), Driver: driver.Name(), Host: host(), Args: opt.Args, Warnings: spec.Warnings, Nodes: nodes(spec)}, p)
	if err != nil {
		return nil, &InputError{err}
	}
	metrics, err := scrape.NewRecorder(w)
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	job := engine.Job{Plan: p, Spec: spec, Bin: bin, Record: w, Progress: progress, Parts: parts(driver, metrics)}
	if opt.Keep {
		job.Volumes = filepath.Join(dir, "volumes")
	}
	// What went wrong is in the record, where judging finds it: the verdict is INVALID, with the reason.
	execErr := engine.Execute(ctx, job)
	if err := errors.Join(metrics.Close(), w.Close()); err != nil {
		return nil, fmt.Errorf("write the record: %w", errors.Join(err, execErr))
	}
	r, err := Check(context.WithoutCancel(ctx), dir)
	return r, err
}

// Unsupported says why this version cannot execute a plan, or returns nothing. Such a scenario is valid all the same.
func Unsupported(p *plan.Plan) []string { return scenarios.Unsupported(p, Tables()) }

// Executable says whether this version and a driver can execute a plan on this machine, before anything is built or started:
// an *InputError that lists every reason, or nil.
func Executable(p *plan.Plan, driver cluster.Driver) error {
	if why := Unsupported(p); len(why) > 0 {
		return &InputError{&engine.PlanError{Problems: why}}
	}
	if err := engine.Check(p, driver); err != nil {
		return &InputError{err}
	}
	return nil
}

// Check judges a run directory and those of the controls that were run with it, writes findings.json, run.json and
// junit.xml into it and returns the result. It dials nothing.
func Check(ctx context.Context, dir string) (*reports.Result, error) {
	run, done, err := openRun(dir)
	if err != nil {
		return nil, &InputError{err}
	}
	defer done()
	controls, err := reports.SavedControls(dir)
	if err != nil {
		return nil, &InputError{err}
	}
	findings, verdict := assertions.Judge(ctx, run)
	r := &reports.Result{Run: run, Findings: findings, Verdict: verdict}
	for _, c := range controls {
		r.Controls = append(r.Controls, checkControl(ctx, run, verdict, c))
	}
	if ctx.Err() != nil { // what it cut short is INVALID, and would replace what was found before
		return nil, fmt.Errorf("judge %s: %w", dir, context.Cause(ctx))
	}
	return r, errors.Join(assertions.Save(dir, findings, verdict), reports.Save(*r))
}

// openRun reads a run directory with its metrics. What these hold open is let go of by done; they open anew when they are
// asked again.
func openRun(dir string) (run *record.Run, done func(), err error) {
	if run, err = record.Open(dir); err != nil {
		return nil, nil, err
	}
	m := scrape.Open(run)
	if m == nil {
		return run, func() {}, nil
	}
	run.Metrics = m
	return run, func() { _ = m.Close() }, nil // it was only read
}

// Findings reads the result of a run directory that was judged before, with what became of its controls then.
func Findings(dir string) (*reports.Result, error) {
	run, done, err := openRun(dir)
	if err != nil {
		return nil, &InputError{err}
	}
	done()
	findings, verdict, err := assertions.Load(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("the run %s has not been judged; \"gauntlet check %s\" does that", dir, dir)
	}
	if err != nil {
		return nil, &InputError{err}
	}
	controls, err := reports.SavedControls(dir)
	if err != nil {
		return nil, &InputError{err}
	}
	return &reports.Result{Run: run, Findings: findings, Verdict: verdict, Controls: controls}, nil
}

// changed is the topology with a control's change.
func (s *Scenario) changed(ctx context.Context, c *plan.Control) (*cluster.Spec, error) {
	var opt topology.Option
	if c != nil {
		opt.Env, opt.Flags = c.Env, c.Flags
		if c.Defect != "" {
			opt.Defects = map[string][]string{c.Service: {c.Defect}}
		}
	}
	// Read anew each time: building writes the executables into the Spec.
	return topology.Load(ctx, s.file.TopologyPath(), opt)
}

// The faults of loads need it: a Generator that is not Paced has no spike.
var _ engine.Paced = (*load.Generator)(nil)

// parts wires load, workloads and metrics to the engine.
func parts(d cluster.Driver, metrics *scrape.Recorder) engine.Parts {
	return engine.Parts{
		Driver:  d,
		Metrics: func(c cluster.Cluster) (engine.Metrics, error) { return metrics.Scrape(c) },
		Load: func(l plan.Load, e engine.Env) (engine.Generator, error) {
			return load.New(l, load.Env{Cluster: e.Cluster, Record: e.Record, Round: e.Round, RunID: e.RunID, Ready: e.Ready, Phase: e.Phase})
		},
		Workload: func(w plan.Workload, e engine.Env) (engine.Workload, error) {
			return workload.New(w, workload.Env{Cluster: e.Cluster, Record: e.Record, Round: e.Round, RunID: e.RunID, Ready: e.Ready, Phase: e.Phase})
		},
	}
}

// RunDir makes an empty run directory below parent, so that of two runs that wait for their turn each has its own.
func RunDir(parent string, p *plan.Plan, control string) string {
	name := p.Name
	if control != "" {
		name += "-" + strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
				return r
			}
			return '_'
		}, control)
	}
	_ = os.MkdirAll(parent, 0o755) // what is wrong with it, creating the record says
	for n := 1; ; n++ {
		dir := filepath.Join(parent, fmt.Sprintf("%s-%d", name, n))
		if err := os.Mkdir(dir, 0o755); !errors.Is(err, os.ErrExist) {
			return dir
		}
	}
}

// host describes the machine for the record, without names.
func host() string {
	var u unix.Utsname
	var si unix.Sysinfo_t
	if unix.Uname(&u) != nil || unix.Sysinfo(&si) != nil {
		return runtime.GOOS
	}
	return fmt.Sprintf("%s %s, %d cores, %d GiB", unix.ByteSliceToString(u.Sysname[:]), unix.ByteSliceToString(u.Release[:]),
		runtime.NumCPU(), uint64(si.Totalram)*uint64(si.Unit)>>30)
}

// DriverRow is a row of the table of drivers.
type DriverRow struct {
	Name string
	Doc  string
	New  func() cluster.Driver
}

// DriverByName finds a driver; the empty name is the default.
func DriverByName(name string) (cluster.Driver, error) {
	if name == "" {
		return Drivers[0].New(), nil
	}
	var names []string
	for _, d := range Drivers {
		if d.Name == name {
			return d.New(), nil
		}
		names = append(names, d.Name)
	}
	slices.Sort(names)
	return nil, &InputError{fmt.Errorf("no driver is called %q; there are: %s", name, strings.Join(names, ", "))}
}
