package scenarios

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/hasvc/gauntlet/faults"
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// Defaults of what a scenario may leave out.
const (
	DefaultBaseline    = 3 * time.Second
	DefaultWarmup      = 10 * time.Second // at most; it ends as soon as the service is warm
	DefaultRecovery    = 5 * time.Second
	DefaultLoadTimeout = time.Second
	DefaultTrigger     = 60 * time.Second // timeout of at, until and the like
	DefaultClients     = 8
	DefaultKeys        = 16
	DefaultRate        = 100 // operations per second of a workload
)

// Compile makes the plan of a scenario for a seed: a pure function of (file, topology, seed). The scenario's own seed is the
// caller's to use; f.Seed has it. A scenario that Validate refuses is refused here, with the same error.
func Compile(f *File, spec *cluster.Spec, seed uint64) (*plan.Plan, error) {
	if err := f.Validate(spec); err != nil {
		return nil, err
	}
	rounds := 1
	if f.Rounds != nil && f.Rounds.Count > 0 {
		rounds = f.Rounds.Count
	}
	return f.build(namesOf(f, spec), seed, rounds, maxOccurrences), nil
}

// build makes the plan of a file as far as it could be read, each fault with at most so many occurrences: Validate needs a
// sketch of one to judge assertions by.
func (f *File) build(n *names, seed uint64, rounds, occurrences int) *plan.Plan {
	p := &plan.Plan{
		Version: plan.Version, Name: f.Name, Summary: f.Summary, Tags: f.Tags,
		File: f.path, Topology: f.TopologyPath(), Seed: seed, Timeout: f.Timeout,
		Recovery: plan.Duration(DefaultRecovery),
	}
	if f.Rounds != nil {
		p.Fresh = f.Rounds.Fresh
	}
	for _, name := range inOrder(f.Programs, f.root.get("programs")) {
		p.Programs = append(p.Programs, plan.Program{Name: name, Go: f.Programs[name].Go, Exec: f.Programs[name].Exec})
	}
	src := source{seed: seed}
	for _, name := range inOrder(f.Workloads, f.root.get("workloads")) {
		p.Workloads = append(p.Workloads, workload(name, f.Workloads[name], src.of("workload", name).value()))
	}
	for _, name := range inOrder(f.Load, f.root.get("load")) {
		l := load(name, f.Load[name], src.of("load", name).value())
		l.Targets = f.beside(l.Targets)
		if l.GRPC != nil {
			l.GRPC.Descriptors = f.beside(l.GRPC.Descriptors)
		}
		p.Loads = append(p.Loads, l)
	}
	f.steady(p)
	for i := range f.Require {
		r := &f.Require[i]
		p.Require = append(p.Require, plan.Require{ID: r.ID, At: r.At, By: r.By, Condition: *r.Condition.plan()})
	}
	for _, a := range f.Abort {
		if a.SLO != nil {
			p.Abort = append(p.Abort, plan.Abort{Load: a.SLO.Load, Success: a.SLO.Success, For: a.SLO.For})
		}
	}
	for _, a := range f.Assert {
		if a.at != nil {
			x := plan.Assert{ID: a.ID, Kind: a.Kind, Params: a.at.json(), Line: a.at.line}
			if a.Params != nil {
				x.Params = marshal(a.Params) // as they were understood: who judges reads JSON, which has stricter forms than the file
			}
			p.Assert = append(p.Assert, x)
		}
	}
	p.Observe = f.observed()
	p.Controls = controls(f.Controls)
	if len(f.Faults) > 0 {
		p.Controls = append(p.Controls, plan.Control{Name: plan.NoFaultControl, NoFault: true})
	}
	for k := 1; k <= rounds; k++ {
		p.Rounds = append(p.Rounds, f.round(n, src, k, occurrences))
	}
	if p.Timeout == 0 {
		p.Timeout = enough(n, p)
	}
	return p
}

func (f *File) steady(p *plan.Plan) {
	switch {
	case f.Warmup != nil:
		p.Warmup = *f.Warmup
	case len(p.Loads) > 0:
		p.Warmup = plan.Duration(DefaultWarmup)
	}
	p.Baseline = plan.Baseline{AtLeast: plan.Duration(DefaultBaseline)}
	if b := f.Baseline; b != nil {
		p.Baseline.AtLeast = b.AtLeast
		if u := b.Until; u != nil && u.When != nil {
			p.Baseline.Until, p.Baseline.Timeout = u.When.plan(), timeout(u.Timeout)
		}
	}
	if r := f.Recovery; r != nil {
		p.Recovery = r.AtLeast
		if u := r.Until; u != nil {
			p.RecoveryUntil, p.RecoveryTimeout = u.condition(), timeout(u.Timeout)
		}
	}
}

// condition is what a trigger waits for, as a condition.
func (t *Trigger) condition() *plan.Condition {
	if t.When != nil {
		return t.When.plan()
	}
	ref, _ := parseEvent(t.After)
	return &plan.Condition{Event: &ref}
}

func timeout(d plan.Duration) plan.Duration {
	if d == 0 {
		return plan.Duration(DefaultTrigger)
	}
	return d
}

func workload(name string, w Workload, seed uint64) plan.Workload {
	out := plan.Workload{Name: name, Kind: w.kind(), To: w.To, Exec: w.Exec, In: w.In, Seed: seed,
		Clients: w.Clients, Keys: w.Keys, Rate: float64(w.Rate), Timeout: w.Timeout}
	if out.Kind == "exec" {
		if out.In == "" {
			out.In = cluster.Client
		}
		return out
	}
	setDefault(&out.Clients, DefaultClients)
	setDefault(&out.Keys, DefaultKeys)
	setDefault(&out.Rate, DefaultRate)
	setDefault(&out.Timeout, plan.Duration(DefaultLoadTimeout))
	return out
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func load(name string, l Stream, seed uint64) plan.Load {
	out := plan.Load{Name: name, To: l.To, Port: l.Port, Timeout: l.Timeout, KeepAlive: true, Idle: l.Idle, HTTP2: l.HTTP2, Targets: l.Targets, Seed: seed}
	setDefault(&out.Timeout, plan.Duration(DefaultLoadTimeout))
	if l.KeepAlive != nil {
		out.KeepAlive = *l.KeepAlive
	}
	if len(l.Stages) == 0 {
		out.Stages = []plan.Stage{{From: float64(l.Rate), To: float64(l.Rate)}}
	}
	for _, s := range l.Stages {
		from, to := s.From, s.To
		if from == 0 && to == 0 {
			from, to = s.Rate, s.Rate
		}
		out.Stages = append(out.Stages, plan.Stage{For: s.For, From: float64(from), To: float64(to)})
	}
	if l.GRPC != nil {
		out.GRPC = &plan.GRPC{Descriptors: l.GRPC.Descriptors}
	}
	for _, r := range l.Requests {
		q := plan.Request{ID: requestID(r), Weight: 1, Path: r.Path, Headers: r.Headers, Body: r.Body, Call: r.Call, Message: r.Message, Metadata: r.Metadata}
		if l.GRPC == nil {
			q.Method = method(r)
		}
		if r.Stream != nil {
			q.Stream = &plan.Stream{Send: r.Stream.Send, Receive: r.Stream.Receive, Pause: r.Stream.Pause}
		}
		if r.Weight != nil {
			q.Weight = *r.Weight
		}
		if r.Expect != nil {
			q.Expect = plan.Expect{Status: r.Expect.Status, Codes: r.Expect.Code, Matches: r.Expect.Matches}
		}
		out.Requests = append(out.Requests, q)
	}
	return out
}

func (c *Condition) plan() *plan.Condition {
	out := &plan.Condition{HTTP: c.HTTP, TCP: c.TCP, Log: c.Log, Exec: c.Exec, In: c.In}
	if len(c.Exec) > 0 && out.In == "" {
		out.In = cluster.Client
	}
	if c.Workload != "" {
		out.Workload = &plan.WorkloadCondition{Workload: c.Workload, Acked: c.Acked}
	}
	if c.Metric != "" {
		out.Metric = &plan.MetricCondition{Query: c.Metric, Is: c.Is}
	}
	if ref, ok := parseEvent(c.Event); ok {
		out.Event = &ref
	}
	return out
}

// trigger draws a moment.
func (t *Trigger) trigger(src source) plan.Trigger {
	if t == nil {
		return plan.Trigger{}
	}
	plus := src.of("plus").span(t.Plus)
	switch {
	case t.When != nil:
		return plan.Trigger{When: t.When.plan(), Plus: plus, Timeout: timeout(t.Timeout)}
	case t.After != "":
		ref, _ := parseEvent(t.After)
		return plan.Trigger{After: &ref, Plus: plus, Timeout: t.Timeout} // left out, it is set by patience
	}
	return plan.Trigger{Offset: plus}
}

func (f *File) round(n *names, src source, k, occurrences int) plan.Round {
	r := plan.Round{N: k}
	for i := range f.Faults {
		x := &f.Faults[i]
		if x.Params == nil {
			continue
		}
		r.Faults = append(r.Faults, x.draw(src.of("round", k, "fault", x.ID), occurrences))
	}
	patience(n, &r)
	return r
}

// draw makes one round's instance of a fault.
func (f *Fault) draw(src source, occurrences int) plan.Fault {
	out := plan.Fault{ID: f.ID, Kind: f.Kind, At: f.At.trigger(src.of("at"))}
	if f.Until != nil {
		u := f.Until.trigger(src.of("until"))
		out.Until = &u
	}
	out.Held = f.For != nil && f.For.End
	if f.AtMost != nil {
		out.AtMost = float64(*f.AtMost)
	}
	offsets := []plan.Duration{0}
	if f.Repeat != nil {
		out.Repeated, out.Window = true, f.Repeat.For
		offsets = f.Repeat.offsets(src, occurrences)
	}
	for k, offset := range offsets {
		at := src.of("occurrence", k+1)
		o := plan.Occurrence{Offset: offset, Seed: at.of("seed").value(), Params: drawn(f.Params, f.row, at.of("params"))}
		if f.For != nil && !f.For.End {
			o.For = at.of("for").lasting(f.For.Span)
		}
		out.Occurrences = append(out.Occurrences, o)
	}
	return out
}

// offsets are the starts of a repeated fault: the first at once, each one `every` after the one before.
func (r *Repeat) offsets(src source, most int) []plan.Duration {
	var all []plan.Duration
	var at plan.Duration
	for k := 0; k < most; k++ {
		if r.Times > 0 && k >= r.Times || r.For > 0 && at >= r.For && k > 0 {
			break
		}
		all = append(all, at)
		if r.Times <= 0 && r.For <= 0 {
			break
		}
		step := src.of("occurrence", k+1, "every").span(r.Every)
		if step <= 0 {
			break
		}
		at += step
	}
	return all
}

// drawn are the parameters with their ranges drawn, as JSON.
func drawn(p faults.Params, row faults.Kind, src source) json.RawMessage {
	// The file's parameters stay as they are: a copy is made by the way they go anyway.
	c := row.New()
	if err := json.Unmarshal(marshal(p), c); err != nil {
		return marshal(p)
	}
	src.params(reflect.ValueOf(c).Elem())
	return marshal(c)
}

// marshal writes JSON without escapes for <, > and &.
func marshal(v any) json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return json.RawMessage("null") // every type that is written here can be
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

func controls(cs []Control) []plan.Control {
	var out []plan.Control
	seen := map[string]int{}
	for _, c := range cs {
		x := plan.Control{Defect: c.Defect, Service: c.Service, Env: c.Env, Flags: c.Flags, MustFail: c.MustFail}
		x.Name = controlName(c)
		if seen[x.Name]++; seen[x.Name] > 1 {
			x.Name += fmt.Sprintf("#%d", seen[x.Name])
		}
		out = append(out, x)
	}
	return out
}

// controlName says what a control changes: "ack-early in orders", "MYDB_VERSION=v1.0.0", "mydb --ack-before-write".
func controlName(c Control) string {
	var parts []string
	switch {
	case c.Defect != "" && c.Service != "":
		return c.Defect + " in " + c.Service
	case c.Defect != "":
		return c.Defect
	}
	for _, k := range slices.Sorted(slices.Values(keysOf(c.Env))) {
		parts = append(parts, k+"="+c.Env[k])
	}
	for _, k := range slices.Sorted(slices.Values(keysOf(c.Flags))) {
		parts = append(parts, k+" "+strings.Join(c.Flags[k], " "))
	}
	return strings.Join(parts, ", ")
}

// enough is a timeout for a scenario that leaves it out: twice what is planned, each wait at its longest, and a minute and
// a half for what is not: start, verify, drain, down.
func enough(n *names, p *plan.Plan) plan.Duration {
	sum := p.Warmup + p.Baseline.AtLeast + p.Baseline.Timeout + p.Recovery + p.RecoveryTimeout
	var longest plan.Duration
	for _, r := range p.Rounds {
		for _, f := range r.Faults {
			at := f.At.Offset + f.At.Plus + f.At.Timeout
			for _, o := range f.Occurrences {
				at = max(at, f.At.Offset+f.At.Plus+f.At.Timeout+o.Offset) + n.inflicting(f.Kind, o) + o.For
				if f.Until != nil {
					at += f.Until.Plus + f.Until.Timeout
				}
				at = min(at, maxWait)
			}
			longest = max(longest, at)
		}
	}
	total := 2*(sum+longest) + plan.Duration(90*time.Second)
	grain := plan.Duration(10 * time.Second)
	return min((total+grain-1)/grain*grain, plan.Duration(24*time.Hour))
}
