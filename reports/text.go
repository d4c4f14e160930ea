package reports

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hasvc/gauntlet/assertions"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// TextOptions change the text.
type TextOptions struct {
	Color bool // of verdicts, for a terminal
}

// Text tells each result to people: what happened, what was found, how to repeat it.
func Text(w io.Writer, results []Result, unrun ...Unrun) error {
	return TextOptions{}.Render(w, results, unrun...)
}

// Render is Text with options.
func (o TextOptions) Render(w io.Writer, results []Result, unrun ...Unrun) error {
	p := &page{w: w, color: o.Color}
	for i, r := range results {
		if i > 0 {
			p.blank()
			p.write(strings.Repeat("=", width) + "\n\n")
		}
		p.result(r)
	}
	for i, u := range unrun {
		if i == 0 {
			p.blank()
		}
		p.styled(p.verdict(assertions.Invalid)+"  ", assertions.Invalid.String()+"  ", u.Scenario+": not run: "+u.Error)
	}
	return p.err
}

func (p *page) result(r Result) {
	pl := r.Run.Plan
	p.head(r)
	stories := make([]*story, len(r.Run.Rounds))
	for i, rd := range r.Run.Rounds {
		stories[i] = tell(pl, rd)
	}
	p.happened(r, stories)
	p.findings(r)
	if len(r.Controls) > 0 {
		p.controls(r)
	}
	p.repeat(r)
}

func (p *page) verdict(v assertions.Verdict) string {
	switch v {
	case assertions.Pass:
		return p.paint("32", v.String())
	case assertions.Fail:
		return p.paint("31", v.String())
	}
	return p.paint("33", v.String())
}

func (p *page) head(r Result) {
	pl, m := r.Run.Plan, r.Run.Meta
	p.styled(p.verdict(r.Verdict)+"  ", r.Verdict.String()+"  ", pl.Name)
	switch {
	case pl.Control == nil:
	case pl.Control.NoFault:
		p.line("  ", "This is the control without a fault: the same load for the same time. Steps in the life of a fault are told where they came in the run it is compared with.")
	default:
		p.line("  ", "This is a control: the same scenario with "+change(*pl.Control)+", in which must fail: "+strings.Join(pl.Control.MustFail, ", ")+".")
	}
	if pl.Summary != "" {
		p.line("  ", pl.Summary)
	}
	switch r.Verdict {
	case assertions.Invalid:
		p.line("  ", "INVALID: nothing was shown either way. The findings below say why.")
	case assertions.Fail:
		p.line("  ", "FAIL: something that must hold did not. The findings below show it.")
	}
	length := ""
	if n := len(r.Run.Events); n > 0 {
		length = ", " + dur(r.Run.Events[n-1].T)
	}
	p.line("  ", fmt.Sprintf("seed %d, driver %s, %s%s", pl.Seed, m.Driver, m.Start.UTC().Format("2006-01-02 15:04:05 UTC"), length))
	p.line("  ", strings.TrimSuffix(strings.Join(nonEmpty("gauntlet "+m.Tool, m.Host), ", "), ", "))
	p.line("  ", "record: "+r.Run.Dir)
	for _, w := range m.Warnings {
		p.line("  warning: ", w)
	}
	if !r.Run.Complete {
		p.line("  ", "The record has no end: the harness was ended before the run was.")
	}
}

func nonEmpty(ss ...string) []string {
	return slices.DeleteFunc(ss, func(s string) bool { return strings.TrimSpace(s) == "" })
}

// maxTold bounds the rounds whose time line is told: the first ones with a finding that is not PASS.
const maxTold = 3

func (p *page) happened(r Result, stories []*story) {
	p.blank()
	p.write(p.paint("1", "What happened") + " (seconds since the start of the run)\n")
	if len(stories) == 0 {
		p.line("  ", "Nothing: no round began.")
		for _, e := range r.Run.Events {
			if t, ok := sentence(e, "", nil); ok {
				p.moment(e.T, "", t)
			}
		}
		return
	}
	bad := map[int]bool{}
	for _, f := range r.Findings {
		if f.Verdict != assertions.Pass {
			bad[f.Round] = true
		}
	}
	var told []*story
	var quiet []string
	for _, s := range stories {
		if len(stories) > maxTold && (!bad[s.n] && (len(told) > 0 || len(bad) > 0) || len(told) >= maxTold) {
			quiet = append(quiet, strconv.Itoa(s.n))
			continue
		}
		told = append(told, s)
	}
	if len(told) == 0 { // what is not PASS belongs to no round
		told, quiet = stories[:1], quiet[1:]
	}
	// What belongs to no round, such as an interruption, stands at the end of the last one.
	last := told[len(told)-1]
	for _, e := range r.Run.Events {
		if e.Round == 0 {
			last.rest = append(last.rest, e)
		}
	}
	for _, s := range told {
		if len(stories) > 1 {
			p.blank()
			p.line("  ", fmt.Sprintf("Round %d of %d", s.n, len(r.Run.Plan.Rounds)))
		}
		p.round(r.Run.Plan, s)
	}
	if len(quiet) > 0 {
		p.blank()
		p.line("  ", fmt.Sprintf("Not told here, in %s: rounds %s. run.json has them all.", r.Run.Dir, ranges(quiet)))
	}
}

// ranges writes 1 2 3 5 as 1-3, 5.
func ranges(ns []string) string {
	var out []string
	for i := 0; i < len(ns); {
		j := i
		for j+1 < len(ns) {
			a, _ := strconv.Atoi(ns[j])
			b, _ := strconv.Atoi(ns[j+1])
			if b != a+1 {
				break
			}
			j++
		}
		if j > i {
			out = append(out, ns[i]+"-"+ns[j])
		} else {
			out = append(out, ns[i])
		}
		i = j + 1
	}
	return strings.Join(out, ", ")
}

// moment is a line of the time line.
func (p *page) moment(t time.Duration, indent, text string) {
	p.line(fmt.Sprintf("%9.3f  %s", t.Seconds(), indent), text)
}

// phaseWords say what a phase is for, to who does not know.
var phaseWords = map[string]string{
	plan.PhaseUp:       "the topology is started",
	plan.PhaseReady:    "waiting until every node is ready",
	plan.PhaseWarmup:   "load that does not count, until it is answered as it should be",
	plan.PhaseBaseline: "nothing is broken yet",
	plan.PhaseFault:    "faults are injected",
	plan.PhaseRecovery: "the faults are gone; time to recover",
	plan.PhaseVerify:   "load has stopped; what was written is read back",
	plan.PhaseDrain:    "the programs are stopped",
	plan.PhaseAudit:    "looking for what is left behind",
	plan.PhaseDown:     "everything is taken away",
}

// entry is a line of the time line before it is written.
type entry struct {
	t      time.Duration
	indent string
	text   string
	order  int // of what happens at one time: phases first
}

// maxLives is how many injections of a repeated fault are told one by one.
const maxLives = 4

func (p *page) round(pl *plan.Plan, s *story) {
	var es []entry
	add := func(t time.Duration, order int, indent, text string) { es = append(es, entry{t, indent, text, order}) }
	for _, ph := range s.phases {
		text := ph.name + " for " + dur(ph.to-ph.from)
		if !ph.ended {
			text = ph.name + ", which did not come to its end"
		}
		if w := phaseWords[ph.name]; w != "" {
			text += ": " + w
		}
		add(ph.from, 0, "", text)
	}
	count, folded := map[string]int{}, map[string][]*life{}
	quiet := map[string][]span{} // nodes of folded injections, whose announced deaths and starts are not told either
	for _, l := range s.lives {
		count[l.fault]++
		if l.of > maxLives && count[l.fault] >= maxLives && count[l.fault] < l.of && len(l.failures) == 0 {
			folded[l.fault] = append(folded[l.fault], l)
			if l.started != nil {
				end := s.to
				if l.gone != nil {
					end = *l.gone
				}
				for _, n := range l.targets {
					quiet[n] = append(quiet[n], span{from: *l.started, to: end})
				}
			}
			continue
		}
		l.tell(add)
	}
	for _, fault := range slices.Sorted(maps.Keys(folded)) {
		fold(fault, folded[fault], add)
	}
	for _, e := range s.rest {
		if e.Kind == record.LoadSummary || e.Kind == record.WorkloadEnd && e.Error == "" {
			continue // in the tables below
		}
		if slices.ContainsFunc(quiet[e.Node], func(q span) bool { return e.T >= q.from && e.T <= q.to && e.Node != "" && !unannounced(e) }) {
			continue
		}
		if text, ok := sentence(e, s.phaseAt(e.T), s.lives); ok {
			add(e.T, 1, "  ", text)
		}
	}
	slices.SortStableFunc(es, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.t, b.t), cmp.Compare(a.order, b.order))
	})
	for _, e := range es {
		p.moment(e.t, e.indent, e.text)
	}
	p.loads(s)
	p.workloads(pl, s)
}

// tell adds the steps of one injection.
func (l *life) tell(add func(time.Duration, int, string, string)) {
	name := l.name()
	const in = "  "
	if l.started != nil {
		text := name + " begins"
		if on := l.on(); on != "" {
			text += " on " + on
		}
		if l.planned != nil {
			text += fmt.Sprintf("; planned for %.3f", l.planned.Seconds())
			if late := *l.started - *l.planned; late >= time.Millisecond || late <= -time.Millisecond {
				text += ", " + dur(late) + " late"
			}
		}
		for _, b := range l.bindings {
			if len(b.Targets) == 1 && b.Targets[0] == b.ID {
				continue // a node that was named
			}
			text += fmt.Sprintf("; %s was %s", b.ID, strings.Join(b.Targets, ", "))
		}
		add(*l.started, 2, in, text)
	}
	if l.inEffect != nil {
		text := name + " in effect"
		if l.started != nil {
			text += " after " + dur(*l.inEffect-*l.started)
		}
		add(*l.inEffect, 3, in, text+proof(l.proof))
	}
	if l.undone != nil {
		text := name + " undone"
		if l.inEffect != nil {
			text += ", held for " + dur(*l.undone-*l.inEffect)
			if l.plannedFor > 0 {
				text += " (planned " + dur(l.plannedFor) + ")"
			} else if l.held {
				text += " (planned: to the end)"
			}
		}
		if l.bit != "" {
			text += "; it acted on: " + l.bit
		}
		add(*l.undone, 4, in, text)
	}
	if l.gone != nil {
		text := name + " gone"
		if l.undone != nil {
			text += " after " + dur(*l.gone-*l.undone)
		}
		add(*l.gone, 5, in, text+proof(l.goneProof))
	}
	for _, f := range l.failures {
		add(f.at, 6, in, name+" "+f.text)
	}
}

func proof(s string) string {
	if s == "" {
		return ""
	}
	return ", proved: " + s
}

// fold tells many injections in one line.
func fold(fault string, ls []*life, add func(time.Duration, int, string, string)) {
	var started, held []time.Duration
	proved := 0
	for _, l := range ls {
		if l.started != nil {
			started = append(started, *l.started)
		}
		if l.inEffect != nil {
			proved++
			if l.undone != nil {
				held = append(held, *l.undone-*l.inEffect)
			}
		}
	}
	if len(started) == 0 {
		return
	}
	text := fmt.Sprintf("%s: %d more injections up to %.3f, %d of them proved", fault, len(ls), slices.Max(started).Seconds(), proved)
	if len(held) > 0 {
		text += fmt.Sprintf(", held for %s to %s", dur(slices.Min(held)), dur(slices.Max(held)))
	}
	add(started[0], 2, "  ", text)
}

// name of an injection: the fault's id, its kind where that says more, and which occurrence.
func (l *life) name() string {
	s := l.fault
	if l.kind != "" && l.kind != l.fault {
		s += " (" + l.kind + ")"
	}
	if l.of > 1 || l.occurrence > 1 {
		s += fmt.Sprintf(" #%d", l.occurrence)
	}
	return s
}

// maxLinks is how many links are named one by one.
const maxLinks = 4

func (l *life) on() string {
	if len(l.links) > maxLinks {
		return fmt.Sprintf("%s and %d more links", strings.Join(l.links[:maxLinks], ", "), len(l.links)-maxLinks)
	}
	if len(l.links) > 0 {
		return strings.Join(l.links, ", ")
	}
	return strings.Join(l.targets, ", ")
}

func unannounced(e record.Event) bool { return e.Kind == record.NodeExited && !e.Announced }

// sentence tells an event that belongs to no life of a fault. What nodes do while they are started or taken down is not worth a line.
func sentence(e record.Event, phase string, lives []*life) (string, bool) {
	switch e.Kind {
	case record.NodeExited:
		how := "ended"
		switch {
		case e.Signal != "":
			how = "was ended by " + e.Signal
		case e.ExitCode != nil:
			how = fmt.Sprintf("ended with status %d", *e.ExitCode)
		}
		if e.Announced {
			return e.Node + " " + how, watched(phase)
		}
		return e.Node + " " + how + ", which nothing had announced", true
	case record.NodeSignalled:
		return e.Node + " is sent " + e.Signal, watched(phase)
	case record.ProcessSignalled:
		return "processes of " + e.Node + " are sent " + e.Signal, watched(phase)
	case record.NodeStarted, record.NodePaused, record.NodeResumed, record.NodeRemoved, "node.ready", "node.healthy", "node.unhealthy":
		word := map[record.EventKind]string{
			record.NodeStarted: "is started", record.NodePaused: "is stopped by SIGSTOP", record.NodeResumed: "goes on",
			record.NodeRemoved: "is removed", "node.ready": "is ready", "node.healthy": "is healthy", "node.unhealthy": "is unhealthy",
		}[e.Kind]
		return e.Node + " " + word, watched(phase)
	case record.Bound:
		return fmt.Sprintf("%s was %s", e.ID, strings.Join(e.Targets, ", ")), true
	case record.Required:
		how := "holds"
		if e.OK == nil || !*e.OK {
			how = "does not hold"
		}
		return join("the precondition "+e.ID+" "+how, e.Evidence, e.Error), true
	case record.Aborted:
		return join("the run is aborted", e.Evidence, e.Error), true
	case record.Interrupted:
		return join("the run is interrupted", e.Evidence, e.Error), true
	case record.Failure:
		return join("the harness or its surroundings failed", e.Evidence, e.Error), true
	case record.Audited:
		if e.OK != nil && *e.OK {
			return join("nothing is left behind", e.Evidence), true
		}
		return join("something is left behind", e.Evidence, e.Error), true
	case record.Warning:
		return join("warning", e.Evidence, e.Error), true
	case record.ExecEnd:
		how := "ended"
		if e.ExitCode != nil {
			how = fmt.Sprintf("ended with status %d", *e.ExitCode)
		}
		if e.Signal != "" {
			how = "was ended by " + e.Signal
		}
		return join("the program of "+e.ID+" "+how, e.Evidence, e.Error), true
	case record.WorkloadEnd:
		return join("the workload "+e.ID+" died", e.Error), e.Error != ""
	case record.RunEnd:
		return join("the record is not complete", e.Error), e.Error != ""
	}
	return "", false
}

func join(head string, more ...string) string {
	for _, m := range more {
		if m = strings.TrimSpace(m); m != "" {
			head += ": " + m
		}
	}
	return head
}

// watched phases are those in which what happens to a node matters.
func watched(phase string) bool {
	return slices.Contains(underLoad, phase) || phase == plan.PhaseVerify
}

// loads is a table of what each load got in each phase.
func (p *page) loads(s *story) {
	for _, l := range s.loads {
		if l.err != nil {
			p.blank()
			p.line("  ", fmt.Sprintf("The load %s cannot be read: %v", l.load, l.err))
			continue
		}
		if !slices.ContainsFunc(l.phases, func(f phaseFigures) bool { return f.requests > 0 }) {
			p.blank()
			p.line("  ", fmt.Sprintf("The load %s sent nothing.", l.load))
			continue
		}
		p.blank()
		p.line("  ", fmt.Sprintf("The load %s, by the phase in which a request was due; times count from then", l.load))
		p.write(fmt.Sprintf("    %-10s %9s %11s %12s %10s %10s %10s\n", "phase", "requests", "good", "good/s", "p50", "p99", "slowest"))
		for _, f := range l.phases {
			good := "-"
			if f.requests > 0 {
				good = percent(float64(f.good) / float64(f.requests))
			}
			p.write(fmt.Sprintf("    %-10s %9d %11s %12.1f %10s %10s %10s\n", f.phase, f.requests, good, f.rate, opt(f.p50), opt(f.p99), opt(f.worst)))
		}
		if slices.ContainsFunc(l.phases, func(f phaseFigures) bool { return f.requests > 0 && f.p99 == nil }) {
			p.line("    ", fmt.Sprintf("A p99 stands where there were %d requests or more.", minP99))
		}
		if l.stats != nil && l.stats.Requests > 0 {
			p.line("    ", fmt.Sprintf("The generator itself was late by %s at p50, %s at p99; %d of its requests were never sent.", dur(l.stats.LagP50), dur(l.stats.LagP99), l.stats.Missed))
		}
	}
}

func (p *page) workloads(pl *plan.Plan, s *story) {
	first := true
	for _, w := range pl.Workloads {
		for _, e := range s.rest {
			if e.Kind != record.WorkloadEnd || e.ID != w.Name {
				continue
			}
			if first {
				p.blank()
				first = false
			}
			p.line("  ", workload(e))
		}
	}
}

func opt(d *time.Duration) string {
	if d == nil {
		return "-"
	}
	return dur(*d)
}

// percent rounds down, so that 100 % means all.
func percent(share float64) string {
	return strconv.FormatFloat(float64(int64(share*1e5+1e-6))/1e3, 'f', -1, 64) + " %"
}

// dur writes a duration with three or four digits.
func dur(d time.Duration) string {
	sign := ""
	if d < 0 {
		sign, d = "-", -d
	}
	switch {
	case d < time.Millisecond:
		d = d.Round(time.Microsecond)
	case d < 100*time.Millisecond:
		d = d.Round(100 * time.Microsecond)
	case d < 10*time.Second:
		d = d.Round(time.Millisecond)
	default:
		d = d.Round(100 * time.Millisecond)
	}
	return sign + strings.Replace(d.String(), "µs", "us", 1)
}
