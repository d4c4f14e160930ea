package scenarios

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hasvc/gauntlet/faults"
	"github.com/hasvc/gauntlet/harness/plan"
)

// Explain writes what a plan will do, for somebody who has not read the scenario: the phases on a time line with every
// drawn value, what is only known while the run goes on and how it is found out, what is judged, and by which changes of
// the system the judgement is tested.
func Explain(w io.Writer, p *plan.Plan) error {
	x := &explainer{p: p}
	x.head()
	x.before()
	x.baseline()
	x.faults()
	x.after()
	x.judged()
	x.controls()
	_, err := w.Write(x.b.Bytes())
	return err
}

// explained is how many rounds are shown in full; the others differ by their draws only.
const explained = 2

type explainer struct {
	p    *plan.Plan
	b    bytes.Buffer
	late []string // what is resolved while the run goes on
}

func (x *explainer) line(format string, a ...any) { fmt.Fprintf(&x.b, format+"\n", a...) }

// row is a line of the time line: when, and what.
func (x *explainer) row(when, format string, a ...any) {
	fmt.Fprintf(&x.b, "  %-12s %s\n", when, fmt.Sprintf(format, a...))
}

func (x *explainer) more(format string, a ...any) { x.row("", format, a...) }

func (x *explainer) head() {
	p := x.p
	x.line("%s: %s", p.Name, cmp.Or(p.Summary, "(no summary)"))
	x.line("")
	x.line("scenario  %s", p.File)
	x.line("topology  %s", p.Topology)
	x.line("seed      %d (the same seed draws the same plan)", p.Seed)
	x.line("timeout   %s of a round", short(p.Timeout))
	if n := len(p.Rounds); n > 1 {
		fresh := ""
		if len(p.Fresh) > 0 {
			fresh = "; volumes of " + strings.Join(p.Fresh, ", ") + " start empty each time, the others persist"
		}
		x.line("rounds    %d, each from up to down, each with draws of its own; the worst verdict wins%s", n, fresh)
	}
	if c := p.Control; c != nil && !c.NoFault {
		x.line("control   %s: these must FAIL: %s", c.Name, strings.Join(c.MustFail, ", "))
	}
	x.line("")
}

func (x *explainer) before() {
	x.line("UP, READY  the topology starts; nothing is measured yet")
	for _, pr := range x.p.Programs {
		if pr.Go != "" {
			x.more("program %s is built from %s beforehand", pr.Name, pr.Go)
		} else {
			x.more("program %s is %s of this machine", pr.Name, pr.Exec)
		}
	}
	for _, l := range x.p.Observe {
		x.more("calls from %s to %s are read off the wire", l.From, l.To)
	}
	x.required(plan.PhaseReady)
	x.line("")
}

func (x *explainer) baseline() {
	if w := x.p.Warmup; w > 0 && len(x.p.Loads) > 0 {
		x.line("WARMUP    the first rate of each load, until it is answered as it should be; %s at most; it does not count", short(w))
		x.line("")
	}
	b := x.p.Baseline
	x.line("BASELINE  nothing is broken; at least %s%s", short(b.AtLeast), x.until(b.Until, b.Timeout, "baseline"))
	for _, l := range x.p.Loads {
		how := fmt.Sprintf("%d kinds of requests", len(l.Requests))
		switch {
		case l.Targets != "":
			how = "the requests of " + l.Targets
		case len(l.Requests) == 1:
			how = "one kind of request"
		}
		x.row("from 0s", "load %s: %s to %s, %s; timeout %s%s", l.Name, stages(l.Stages), l.To, how, short(l.Timeout),
			connections(l))
		for _, r := range l.Requests {
			what := r.Method + " " + r.Path
			if l.GRPC != nil {
				what = called(r)
			}
			x.more("  %s: %s, weight %d, good is %s", r.ID, what, r.Weight, expected(r.Expect, l.GRPC != nil))
		}
	}
	for _, w := range x.p.Workloads {
		if w.Kind == "exec" {
			x.row("from 0s", "workload %s: %s in %s, writes a history", w.Name, strings.Join(w.Exec, " "), w.In)
			continue
		}
		x.row("from 0s", "workload %s: %d clients on %d keys of %s, %s operations a second; writes a history", w.Name, w.Clients, w.Keys, w.To,
			strconv.FormatFloat(w.Rate, 'g', -1, 64))
	}
	x.required(plan.PhaseBaseline)
	x.line("")
}

// connections says what a load's connections are and what becomes of them, where that is not the default.
func connections(l plan.Load) string {
	over := ""
	if l.HTTP2 {
		over = ", over HTTP/2"
	}
	switch {
	case !l.KeepAlive:
		return over + ", a new connection each"
	case l.Idle > 0:
		return fmt.Sprintf("%s, connections are closed when idle for %s", over, short(l.Idle))
	}
	return over
}

func stages(ss []plan.Stage) string {
	var parts []string
	for i, s := range ss {
		t := Rate(s.From).String()
		if s.From != s.To {
			t = "from " + Rate(s.From).String() + " to " + Rate(s.To).String()
		}
		if s.For > 0 {
			t += " for " + short(s.For)
		}
		if i == len(ss)-1 && len(ss) > 1 {
			t += ", then " + Rate(s.To).String()
		}
		parts = append(parts, t)
	}
	return strings.Join(parts, ", ")
}

// called says what a gRPC call does.
func called(r plan.Request) string {
	t := "calls " + r.Call
	if s := r.Stream; s != nil {
		if s.Send > 1 {
			t += fmt.Sprintf(", sends %d messages", s.Send)
			if s.Pause > 0 {
				t += " " + short(s.Pause) + " apart"
			}
		}
		if s.Receive > 0 {
			t += fmt.Sprintf(", takes %d messages", s.Receive)
		}
	}
	return t
}

func expected(e plan.Expect, grpc bool) string {
	t := "any 2xx"
	if grpc {
		t = "OK"
	}
	if len(e.Codes) > 0 {
		t = strings.Join(e.Codes, " or ")
	}
	if len(e.Status) > 0 {
		var ss []string
		for _, s := range e.Status {
			ss = append(ss, strconv.Itoa(s))
		}
		t = strings.Join(ss, " or ")
	}
	if e.Matches != "" {
		t += " with a body that matches " + strconv.Quote(e.Matches)
	}
	return t
}

// until describes the condition that a phase waits for.
func (x *explainer) until(c *plan.Condition, timeout plan.Duration, who string) string {
	if c == nil {
		return ""
	}
	x.bind("when the %s ends: %s (waits %s at most)", who, describe(c), short(timeout))
	return fmt.Sprintf(", and until %s (at most %s, or the run is INVALID)", describe(c), short(timeout))
}

func (x *explainer) bind(format string, a ...any) {
	s := fmt.Sprintf(format, a...)
	if !slices.Contains(x.late, s) {
		x.late = append(x.late, s)
	}
}

func (x *explainer) faults() {
	if len(x.p.Rounds) == 0 || len(x.p.Rounds[0].Faults) == 0 {
		x.line("FAULT  nothing is broken in this scenario")
		x.required(plan.PhaseFault)
		x.line("")
		return
	}
	x.line("FAULT  times count from the start of this phase; it ends when every fault that has an end is gone")
	for i, r := range x.p.Rounds {
		if i == explained {
			x.line("  ... and %d more rounds, with other draws (plan.json has them all)", len(x.p.Rounds)-explained)
			break
		}
		if len(x.p.Rounds) > 1 {
			x.line("  round %d", r.N)
		}
		x.round(r)
	}
	x.required(plan.PhaseFault)
	x.line("")
}

// timed is an occurrence with its place on the time line.
type timed struct {
	at   plan.Duration
	when string
	what []string
}

func (x *explainer) round(r plan.Round) {
	var known, late []timed
	for _, f := range r.Faults {
		fixed := f.At.After == nil && f.At.When == nil
		if alike(f) {
			x.place(&known, &late, fixed, x.series(f))
			continue
		}
		for k, o := range f.Occurrences {
			x.place(&known, &late, fixed, x.occurrence(f, k, o))
		}
	}
	slices.SortStableFunc(known, func(a, b timed) int { return cmp.Compare(a.at, b.at) })
	for _, t := range append(known, late...) {
		x.row(t.when, "%s", t.what[0])
		for _, m := range t.what[1:] {
			x.more("%s", m)
		}
	}
}

func (*explainer) place(known, late *[]timed, fixed bool, t timed) {
	if fixed {
		*known = append(*known, t)
	} else {
		*late = append(*late, t)
	}
}

// alike reports whether a repeated fault does the same each time, at even distances.
func alike(f plan.Fault) bool {
	if len(f.Occurrences) < 3 {
		return false
	}
	step := f.Occurrences[1].Offset - f.Occurrences[0].Offset
	for k, o := range f.Occurrences[1:] {
		if o.Offset-f.Occurrences[k].Offset != step || o.For != f.Occurrences[0].For || !bytes.Equal(o.Params, f.Occurrences[0].Params) {
			return false
		}
	}
	return true
}

func (x *explainer) series(f plan.Fault) timed {
	t := x.occurrence(f, 0, f.Occurrences[0])
	t.what[0] += fmt.Sprintf(", %d times, every %s", len(f.Occurrences), short(f.Occurrences[1].Offset-f.Occurrences[0].Offset))
	return t
}

func (x *explainer) occurrence(f plan.Fault, k int, o plan.Occurrence) timed {
	t := timed{at: f.At.Offset + o.Offset}
	switch {
	case f.At.After != nil:
		t.when = "later"
	case f.At.When != nil:
		t.when = "later"
	default:
		t.when = "at " + short(t.at)
	}
	id := f.ID
	if f.Repeated && !alike(f) {
		id += fmt.Sprintf(" #%d", k+1)
	}
	t.what = append(t.what, fmt.Sprintf("%s: %s %s%s", id, f.Kind, flow(o.Params), x.lasts(f, o)))
	if k > 0 && f.Occurrences[k-1].Offset+f.Occurrences[k-1].For > o.Offset {
		t.what[0] += fmt.Sprintf(" (not before #%d is gone)", k)
	}
	wait := func(what string) {
		plus := ""
		if f.At.Plus+o.Offset > 0 {
			plus = ", " + short(f.At.Plus+o.Offset) + " later"
		}
		t.what = append(t.what, fmt.Sprintf("begins %s%s (waits %s at most, or the run is INVALID)", what, plus, short(f.At.Timeout)))
		x.bind("when %s begins: %s", f.ID, what)
	}
	switch {
	case f.At.After != nil:
		wait("after " + eventText(*f.At.After))
	case f.At.When != nil:
		wait("when " + describe(f.At.When))
	}
	if k == 0 {
		x.selections(f.ID, o.Params)
	}
	return t
}

// lasts says how a fault ends.
func (x *explainer) lasts(f plan.Fault, o plan.Occurrence) string {
	switch {
	case f.Held:
		return ", held until the topology comes down"
	case f.Until != nil:
		c := "when"
		var what string
		if f.Until.When != nil {
			what = describe(f.Until.When)
		} else if f.Until.After != nil {
			c, what = "after", eventText(*f.Until.After)
		}
		if f.Until.Plus > 0 {
			what += ", " + short(f.Until.Plus) + " later"
		}
		x.bind("when %s ends: %s %s (waits %s at most)", f.ID, c, what, short(f.Until.Timeout))
		return fmt.Sprintf(", undone %s %s (at most %s, or the run is INVALID)", c, what, short(f.Until.Timeout))
	case o.For > 0:
		return ", undone after " + short(o.For)
	}
	var program faults.Do
	if f.Kind == "do" && json.Unmarshal(o.Params, &program) == nil && program.Background {
		return ", ended with the fault phase"
	}
	if k, ok := faults.ByName(f.Kind); ok && k.Undo {
		return ", undone when the fault phase ends"
	}
	return ""
}

// selections names what a fault selects only when it begins.
func (x *explainer) selections(id string, params json.RawMessage) {
	var any map[string]json.RawMessage
	if json.Unmarshal(params, &any) != nil {
		return
	}
	for _, k := range slices.Sorted(slices.Values(keysOf(any))) {
		if k != "pick" {
			if len(any[k]) > 0 && any[k][0] == '{' {
				x.selections(id, any[k])
			}
			continue
		}
		var t plan.Target
		if json.Unmarshal(params, &t) != nil {
			continue
		}
		of := cmp.Or(t.Group, t.Service, t.Zone)
		switch t.Pick {
		case "", plan.PickAll:
		case plan.PickLeader:
			x.bind("which nodes %s strikes: the leader of %s, asked for when it begins", id, of)
		case plan.PickFollower:
			x.bind("which nodes %s strikes: one of %s that does not lead, drawn when it begins", id, of)
		case plan.PickMajority, plan.PickMinority:
			x.bind("which nodes %s strikes: a %s of %s, drawn when it begins", id, t.Pick, of)
		default:
			x.bind("which nodes %s strikes: %s of %s, drawn among live members that no fault holds when it begins", id, t.Pick, of)
		}
	}
}

func eventText(r plan.EventRef) string {
	return map[plan.FaultEvent]string{
		plan.Started: r.Fault + " was started", plan.InEffect: r.Fault + " is in effect (proved)",
		plan.Undone: r.Fault + " was undone", plan.Gone: r.Fault + " is gone (proved)",
	}[r.Event]
}

// describe puts a condition into words.
func describe(c *plan.Condition) string {
	in := ""
	if c.In != "" {
		in = " in " + c.In
	}
	switch {
	case c.HTTP != "":
		return c.HTTP + " answers 2xx" + in
	case c.TCP != "":
		return c.TCP + " accepts a connection" + in
	case c.Log != nil:
		node := c.Log.Node
		if id, ok := parseTargetRef(node); ok {
			node = "a node that " + id + " struck"
		}
		return fmt.Sprintf("the log of %s has a new line that matches %q", node, c.Log.Matches)
	case len(c.Exec) > 0:
		return fmt.Sprintf("%q exits with 0%s", strings.Join(c.Exec, " "), in)
	case c.Workload != nil:
		return fmt.Sprintf("workload %s has acknowledged %s operations", c.Workload.Workload, c.Workload.Acked)
	case c.Metric != nil:
		return fmt.Sprintf("%s is %s", c.Metric.Query, c.Metric.Is)
	case c.Event != nil:
		return eventText(*c.Event)
	}
	return "(no condition)"
}

func (x *explainer) required(phase string) {
	for _, r := range x.p.Require {
		if r.At == phase {
			x.row("at its end", "required (%s): %s", r.ID, describe(&r.Condition))
		}
		if r.By == phase {
			x.row("by its end", "required (%s): %s", r.ID, describe(&r.Condition))
		}
	}
}

func (x *explainer) after() {
	x.line("RECOVERY  the faults are gone, load and workloads go on; at least %s%s", short(x.p.Recovery), x.until(x.p.RecoveryUntil, x.p.RecoveryTimeout, "recovery"))
	x.required(plan.PhaseRecovery)
	x.line("")
	x.line("VERIFY  the load has stopped%s", map[bool]string{true: "; workloads read back what they wrote", false: ""}[len(x.p.Workloads) > 0])
	x.required(plan.PhaseVerify)
	x.required("end")
	x.line("")
	x.line("DRAIN, DOWN, AUDIT  everything is taken down; what is left behind makes the run INVALID")
	x.line("")
	for _, a := range x.p.Abort {
		x.line("ABORT  the run ends as FAIL as soon as the success of %s is %s over %s", a.Load, a.Success, short(a.For))
		x.line("")
	}
	if len(x.late) > 0 {
		x.line("KNOWN ONLY DURING THE RUN  each is resolved once and recorded")
		for _, l := range x.late {
			x.line("  - %s", l)
		}
		x.line("")
	}
}

func (x *explainer) judged() {
	if len(x.p.Assert) == 0 {
		x.line("JUDGED  nothing but that every node lived that no fault took down")
		return
	}
	x.line("JUDGED")
	width := 0
	for _, a := range x.p.Assert {
		width = max(width, len(a.ID))
	}
	for _, a := range x.p.Assert {
		x.line("  %-*s  %s %s", width, a.ID, a.Kind, flow(a.Params))
	}
}

func (x *explainer) controls() {
	if len(x.p.Controls) == 0 {
		return
	}
	x.line("")
	x.line("CONTROLS  the same run with one change; then these must FAIL, which shows that they can")
	for _, c := range x.p.Controls {
		if c.NoFault {
			x.line("  %s: none; without a fault all must hold, or their bounds are broken by noise", c.Name)
			continue
		}
		x.line("  %s: %s", c.Name, strings.Join(c.MustFail, ", "))
	}
}

// short writes a time without zero parts: 2m, not 2m0s.
func short(d plan.Duration) string {
	s := d.D().String()
	if d.D() >= time.Minute {
		if t, ok := strings.CutSuffix(s, "m0s"); ok {
			s = t + "m"
		}
		if t, ok := strings.CutSuffix(s, "h0m"); ok {
			s = t + "h"
		}
	}
	return s
}

// flow writes JSON as a scenario would: {group: store, pick: leader}.
func flow(j json.RawMessage) string {
	dec := json.NewDecoder(bytes.NewReader(j))
	dec.UseNumber()
	var b strings.Builder
	if err := flowValue(&b, dec); err != nil {
		return string(j)
	}
	return b.String()
}

func flowValue(b *strings.Builder, dec *json.Decoder) error {
	t, err := dec.Token()
	if err != nil {
		return err
	}
	switch t := t.(type) {
	case json.Delim:
		closing := map[json.Delim]string{'{': "}", '[': "]"}[t]
		b.WriteString(t.String())
		for first := true; dec.More(); first = false {
			if !first {
				b.WriteString(", ")
			}
			if t == '{' {
				k, err := dec.Token()
				if err != nil {
					return err
				}
				fmt.Fprintf(b, "%v: ", k)
			}
			if err := flowValue(b, dec); err != nil {
				return err
			}
		}
		b.WriteString(closing)
		_, err = dec.Token()
		return err
	case string:
		if t == "" || strings.ContainsAny(t, ",:{}[]#\"'\n\t") {
			t = strconv.Quote(t)
		}
		b.WriteString(t)
	case nil:
		b.WriteString("null")
	default:
		fmt.Fprint(b, t)
	}
	return nil
}
