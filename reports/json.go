package reports

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/hasvc/gauntlet/assertions"
	"github.com/hasvc/gauntlet/harness/plan"
)

// SchemaVersion is the version of Document. It grows when a field changes its meaning or goes; new fields do not change it.
const SchemaVersion = 1

// Document is run.json: the results of one or more runs. All times are seconds since the start of their run, unless
// a field says otherwise.
type Document struct {
	Version int                `json:"version"` // SchemaVersion
	Verdict assertions.Verdict `json:"verdict"` // the worst of all, as the exit code says it: FAIL, also for a control that survived, over INVALID, also for what was not run, over PASS
	Results []RunResult        `json:"results"`
	Unrun   []UnrunResult      `json:"unrun,omitempty"` // what was asked for and not run
}

// UnrunResult is a run that did not come about.
type UnrunResult struct {
	Scenario string `json:"scenario"`
	Seed     string `json:"seed"`
	Error    string `json:"error"`
}

// RunResult is one run of a scenario.
type RunResult struct {
	Scenario string             `json:"scenario"`
	Summary  string             `json:"summary,omitempty"`
	Tags     []string           `json:"tags,omitempty"`
	File     string             `json:"file,omitempty"` // the scenario file, as it was named
	Topology string             `json:"topology,omitempty"`
	Seed     string             `json:"seed"` // a decimal number of 64 bits, in quotes because not every reader of JSON has those
	Driver   string             `json:"driver"`
	Tool     string             `json:"tool"`           // version of the harness
	Host     string             `json:"host,omitempty"` // kernel, cores, memory
	Start    time.Time          `json:"start"`          // wall clock of second 0
	Seconds  float64            `json:"seconds"`        // to the last event of the record
	Dir      string             `json:"dir"`            // the run directory, to which the files of evidence are relative
	Complete bool               `json:"complete"`       // false: the harness was ended before the run was
	Verdict  assertions.Verdict `json:"verdict"`
	Warnings []string           `json:"warnings,omitempty"`
	Again    []string           `json:"again"`             // the command that repeats the run, word by word
	Control  *plan.Control      `json:"control,omitempty"` // the one that this run carried out
	Rounds   []RoundResult      `json:"rounds"`
	Findings []FindingResult    `json:"findings"`
	Controls []ControlOutcome   `json:"controls,omitempty"` // when they were run
	Score    *Score             `json:"score,omitempty"`    // of the controls, when they were run
}

// RoundResult is what happened in one round.
type RoundResult struct {
	N      int           `json:"n"`
	Phases []PhaseResult `json:"phases"`
	Faults []FaultResult `json:"faults,omitempty"`
}

// PhaseResult is a phase, with what each load got in it.
type PhaseResult struct {
	Name  string       `json:"name"` // up, ready, warmup, baseline, fault, recovery, verify, drain, down, audit
	From  float64      `json:"from"`
	To    float64      `json:"to"`
	Ended bool         `json:"ended"` // false: it was cut off
	Loads []LoadResult `json:"loads,omitempty"`
}

// LoadResult is what a load got in a phase: of the requests that were due in it. Quantiles are of the time from when a
// request was due to its answer, good or not, in seconds.
type LoadResult struct {
	Load     string   `json:"load"`
	Requests int      `json:"requests"`
	Good     int      `json:"good"`          // as the scenario expects
	Rate     float64  `json:"rate"`          // good answers per second
	P50      *float64 `json:"p50,omitempty"` // left out without requests
	P99      *float64 `json:"p99,omitempty"` // left out with fewer than 1000 requests
	Max      *float64 `json:"max,omitempty"`
}

// FaultResult is one injection of a fault. A step that was not reached is left out.
type FaultResult struct {
	ID         string   `json:"id"`
	Kind       string   `json:"kind"`
	Occurrence int      `json:"occurrence"` // from 1
	Targets    []string `json:"targets,omitempty"`
	Links      []string `json:"links,omitempty"`      // "a -> b"
	Planned    *float64 `json:"planned,omitempty"`    // when it was due
	PlannedFor float64  `json:"plannedFor,omitempty"` // seconds that it was to hold
	Started    *float64 `json:"started,omitempty"`
	InEffect   *float64 `json:"inEffect,omitempty"` // proved
	Undone     *float64 `json:"undone,omitempty"`
	Gone       *float64 `json:"gone,omitempty"`      // proved
	Proof      string   `json:"proof,omitempty"`     // that it took effect
	ActedOn    string   `json:"actedOn,omitempty"`   // while it held
	GoneProof  string   `json:"goneProof,omitempty"` // that it is gone
	Failures   []string `json:"failures,omitempty"`
}

// FindingResult is the result of one assertion, or of one thing that assertions rest on.
type FindingResult struct {
	ID       string             `json:"id"`
	Kind     string             `json:"kind"`
	Class    assertions.Class   `json:"class"`           // service, safety or premise
	Round    int                `json:"round,omitempty"` // left out: of the run as a whole
	Verdict  assertions.Verdict `json:"verdict"`
	Summary  string             `json:"summary"`
	Reason   string             `json:"reason,omitempty"` // why INVALID
	Evidence []EvidenceResult   `json:"evidence,omitempty"`
}

// EvidenceResult is what a finding rests on.
type EvidenceResult struct {
	What   string             `json:"what"`
	File   string             `json:"file,omitempty"` // in the run directory
	From   *float64           `json:"from,omitempty"` // the window
	To     *float64           `json:"to,omitempty"`
	Count  int                `json:"count,omitempty"` // samples
	Nodes  []string           `json:"nodes,omitempty"`
	Values map[string]float64 `json:"values,omitempty"` // seconds, shares, rates
	Detail string             `json:"detail,omitempty"`
}

// ControlOutcome is what became of a control.
type ControlOutcome struct {
	Name     string          `json:"name"`
	NoFault  bool            `json:"noFault,omitempty"` // the A/A control
	Killed   bool            `json:"killed"`            // of the A/A control: quiet
	Unshown  bool            `json:"unshown,omitempty"` // neither killed nor alive: nothing was shown either way
	Reason   string          `json:"reason,omitempty"`
	Unread   string          `json:"unread,omitempty"` // why its record could not be judged again; the rest is what was judged before
	Dir      string          `json:"dir,omitempty"`
	Findings []FindingResult `json:"findings,omitempty"`
}

// JSON writes a Document.
func JSON(w io.Writer, results []Result, unrun ...Unrun) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(Describe(results, unrun...)); err != nil {
		return fmt.Errorf("writing run.json: %w", err)
	}
	return nil
}

// Describe makes the Document of results and of what was not run.
func Describe(results []Result, unrun ...Unrun) Document {
	d := Document{Version: SchemaVersion, Results: []RunResult{}}
	for _, r := range results {
		d.Results = append(d.Results, describe(r))
	}
	d.Verdict = Overall(results)
	for _, u := range unrun {
		d.Unrun = append(d.Unrun, UnrunResult{Scenario: u.Scenario, Seed: fmt.Sprint(u.Seed), Error: u.Error})
		d.Verdict = assertions.Worst(d.Verdict, assertions.Invalid)
	}
	return d
}

func describe(r Result) RunResult {
	pl, m := r.Run.Plan, r.Run.Meta
	out := RunResult{
		Scenario: pl.Name, Summary: pl.Summary, Tags: pl.Tags, File: pl.File, Topology: pl.Topology, Seed: fmt.Sprint(pl.Seed),
		Driver: m.Driver, Tool: m.Tool, Host: m.Host, Start: m.Start.UTC(), Dir: r.Run.Dir, Complete: r.Run.Complete,
		Verdict: r.Verdict, Warnings: m.Warnings, Again: again(r), Control: pl.Control, Rounds: []RoundResult{}, Findings: findingResults(r.Findings),
	}
	if n := len(r.Run.Events); n > 0 {
		out.Seconds = r.Run.Events[n-1].T.Seconds()
	}
	for _, rd := range r.Run.Rounds {
		out.Rounds = append(out.Rounds, roundResult(tell(pl, rd)))
	}
	for _, c := range r.Controls {
		out.Controls = append(out.Controls, ControlOutcome{Name: c.Name, NoFault: c.NoFault, Killed: c.Verdict == assertions.Pass, Unshown: c.Verdict == assertions.Invalid,
			Reason: c.Reason, Unread: c.Unread, Dir: c.Dir, Findings: findingResults(c.Findings)})
	}
	if len(r.Controls) > 0 {
		s := ScoreOf(r)
		out.Score = &s
	}
	return out
}

// result is the control that was described.
func (c ControlOutcome) result() ControlResult {
	v := assertions.Fail
	switch {
	case c.Killed:
		v = assertions.Pass
	case c.Unshown:
		v = assertions.Invalid
	}
	return ControlResult{Name: c.Name, NoFault: c.NoFault, Verdict: v, Reason: c.Reason, Unread: c.Unread, Dir: c.Dir, Findings: findings(c.Findings)}
}

func roundResult(s *story) RoundResult {
	out := RoundResult{N: s.n, Phases: []PhaseResult{}}
	for _, p := range s.phases {
		x := PhaseResult{Name: p.name, From: p.from.Seconds(), To: p.to.Seconds(), Ended: p.ended}
		for _, l := range s.loads {
			for _, f := range l.phases {
				if f.phase == p.name {
					x.Loads = append(x.Loads, LoadResult{Load: l.load, Requests: f.requests, Good: f.good, Rate: f.rate, P50: sec(f.p50), P99: sec(f.p99), Max: sec(f.worst)})
				}
			}
		}
		out.Phases = append(out.Phases, x)
	}
	for _, l := range s.lives {
		var failures []string
		for _, f := range l.failures {
			failures = append(failures, f.text)
		}
		out.Faults = append(out.Faults, FaultResult{
			ID: l.fault, Kind: l.kind, Occurrence: l.occurrence, Targets: l.targets, Links: l.links,
			Planned: sec(l.planned), PlannedFor: l.plannedFor.Seconds(), Started: sec(l.started), InEffect: sec(l.inEffect),
			Undone: sec(l.undone), Gone: sec(l.gone), Proof: l.proof, ActedOn: l.bit, GoneProof: l.goneProof, Failures: failures,
		})
	}
	return out
}

func sec(d *time.Duration) *float64 {
	if d == nil {
		return nil
	}
	s := d.Seconds()
	return &s
}

func findingResults(fs []assertions.Finding) []FindingResult {
	out := []FindingResult{}
	for _, f := range fs {
		x := FindingResult{ID: f.ID, Kind: f.Kind, Class: f.Class, Round: f.Round, Verdict: f.Verdict, Summary: f.Summary, Reason: f.Reason}
		for _, e := range f.Evidence {
			y := EvidenceResult{What: e.What, File: e.File, Count: e.Count, Nodes: e.Nodes, Values: assertions.Finite(e.Values), Detail: e.Detail}
			if e.Window != nil {
				y.From, y.To = sec(&e.Window.From), sec(&e.Window.To)
			}
			x.Evidence = append(x.Evidence, y)
		}
		out = append(out, x)
	}
	return out
}

// findings are those that were described.
func findings(described []FindingResult) []assertions.Finding {
	var out []assertions.Finding
	for _, x := range described {
		f := assertions.Finding{ID: x.ID, Kind: x.Kind, Class: x.Class, Round: x.Round, Verdict: x.Verdict, Summary: x.Summary, Reason: x.Reason}
		for _, y := range x.Evidence {
			e := assertions.Evidence{What: y.What, File: y.File, Count: y.Count, Nodes: y.Nodes, Values: y.Values, Detail: y.Detail}
			if y.From != nil && y.To != nil {
				e.Window = &assertions.Window{From: offset(*y.From), To: offset(*y.To)}
			}
			f.Evidence = append(f.Evidence, e)
		}
		out = append(out, f)
	}
	return out
}

func offset(s float64) time.Duration { return time.Duration(math.Round(s * 1e9)) }
