package scenarios

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hasvc/gauntlet/faults"
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// Validate looks for what a reader of single values cannot see: names that do not exist in the scenario or the topology,
// and combinations without sense. Without a topology (nil) its names are not checked. Errors are of type Errors, with
// those of Parse among them.
func (f *File) Validate(spec *cluster.Spec) error {
	v := newValidator(f, spec)
	v.top()
	v.programs()
	v.workloads()
	v.loads()
	v.phases()
	v.requires()
	v.faults()
	v.aborts()
	v.asserts()
	v.controls()
	return v.doc.err()
}

// validator walks a File. It works on a copy of the file's errors, so that validating twice reports nothing twice.
type validator struct {
	*names
	f      *File
	doc    *document
	root   *node
	unread map[[2]int]bool // places of values that could not be read
}

func newValidator(f *File, spec *cluster.Spec) *validator {
	d := *f.doc
	d.errs = slices.Clone(d.errs)
	v := &validator{names: namesOf(f, spec), f: f, doc: &d, root: f.root, unread: map[[2]int]bool{}}
	for _, e := range d.errs {
		v.unread[[2]int{e.Line, e.Col}] = true
	}
	return v
}

// at reports an error at a path of the file, or at the nearest part of it that exists. A value that could not be read is
// reported already: that its zero value makes no sense either is no news.
func (v *validator) at(path []any, format string, a ...any) {
	n := v.root.find(path...)
	if n == nil || !v.unread[[2]int{n.line, n.col}] {
		v.doc.at(n, format, a...)
	}
}

// key reports an error at the key itself, where a path ends in one.
func (v *validator) key(path []any, format string, a ...any) {
	if k, ok := path[len(path)-1].(string); ok {
		if e := v.root.find(path[:len(path)-1]...).entry(k); e != nil {
			v.doc.at(e.at, format, a...)
			return
		}
	}
	v.at(path, format, a...)
}

func p(path ...any) []any { return path }

// sub is a path below another one. It never shares its memory.
func sub(path []any, more ...any) []any { return slices.Concat(path, more) }

// has reports whether a path was written, read or not: what could not be read is reported already, and is not missing.
func (v *validator) has(path ...any) bool { return v.root.has(path...) }

// mapping reports whether a value is a mapping: what is none was reported, and has no keys to look at.
func (v *validator) mapping(path ...any) bool {
	return v.has(path...) && v.root.find(path...).kind == mapNode
}

// name reports a name that is not among those that exist.
func (v *validator) name(path []any, what, got string, exist []string) bool {
	if slices.Contains(exist, got) {
		return true
	}
	v.at(path, "no %s is called %q%s", what, got, suggest(got, exist))
	return false
}

// ofTopology is name, for names of the topology.
func (v *validator) ofTopology(path []any, what, got string, exist []string) {
	if !v.known || slices.Contains(exist, got) {
		return
	}
	v.at(path, "the topology has no %s called %q%s", what, got, suggest(got, exist))
}

// wordy is the form of ids and names: they become names of files, and parts of ID.event.
var wordy = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)

func (v *validator) word(path []any, what, s string) {
	if !wordy.MatchString(s) {
		v.at(path, "%s %q: letters, digits, - and _, at most 63", what, s)
	}
}

// keyword is word for the key of a mapping.
func (v *validator) keyword(path []any, what, s string) {
	if !wordy.MatchString(s) {
		v.key(path, "%s %q: letters, digits, - and _, at most 63", what, s)
	}
}

// Limits of what one scenario may ask for.
const (
	maxRounds      = 10_000
	maxOccurrences = 100_000 // of all faults in all rounds
)

func (v *validator) top() {
	f := v.f
	switch {
	case !v.has("version"):
		v.at(nil, "version is missing; this is version 1")
	case f.Version != 1:
		v.at(p("version"), "version %s is not known; this program reads version 1", v.root.get("version").text)
	}
	if v.has("name") {
		v.word(p("name"), "name", f.Name)
	}
	if !v.has("topology") {
		v.at(nil, "topology is missing: a Compose file, relative to this file")
	} else if f.Topology == "" {
		v.at(p("topology"), "topology is empty")
	}
	for i, t := range f.Tags {
		v.word(p("tags", i), "tag", t)
	}
	if v.has("timeout") && f.Timeout <= 0 {
		v.at(p("timeout"), "a timeout of %v leaves no time", f.Timeout)
	}
	if f.Warmup != nil && *f.Warmup < 0 {
		v.at(p("warmup"), "a warm-up of %v: a time, or 0s for none", *f.Warmup)
	}
	if f.Warmup != nil && *f.Warmup > 0 && len(f.Load) == 0 {
		v.key(p("warmup"), "a warm-up without a load has nothing to warm the service with")
	}
	if f.Rounds == nil {
		return
	}
	if v.has("rounds", "count") && (f.Rounds.Count < 1 || f.Rounds.Count > maxRounds) {
		v.at(p("rounds", "count"), "1 to %d rounds, not %d", maxRounds, f.Rounds.Count)
	}
	for i, g := range f.Rounds.Fresh {
		v.ofTopology(p("rounds", "fresh", i), "group or service", g, slices.Concat(v.groups, v.services))
	}
}

func (v *validator) programs() {
	for _, name := range inOrder(v.f.Programs, v.root.get("programs")) {
		x := v.f.Programs[name]
		at := p("programs", name)
		v.keyword(at, "program", name)
		if !v.mapping(at...) {
			continue
		}
		if n := given(v.has("programs", name, "go"), v.has("programs", name, "exec")); n != 1 {
			v.key(at, "program %s: give one of go (a package to build) and exec (a local program)", name)
			continue
		}
		if x.Go == "" && x.Exec == "" {
			v.at(at, "program %s is empty", name)
		}
	}
}

func given(bs ...bool) (n int) {
	for _, b := range bs {
		if b {
			n++
		}
	}
	return n
}

// argv checks a program and its arguments.
func (v *validator) argv(path []any, argv []string) {
	if len(argv) == 0 || argv[0] == "" {
		v.at(path, "which program? write it as [program, argument, ...]")
		return
	}
	// A name that is none of the programs may be one of the machine's, unless it looks like a typing error.
	a := argv[0]
	if strings.Contains(a, "/") || slices.Contains(v.f.programNames(), a) || len(a) < 5 {
		return
	}
	if near := nearest(a, v.f.programNames()); near != "" && levenshtein(a, near) <= 2 {
		v.at(sub(path, 0), "no program is called %q; did you mean %q?", a, near)
	}
}

func (f *File) programNames() []string { return keysOf(f.Programs) }

// in checks the node in which something runs.
func (v *validator) in(path []any, in string) {
	switch {
	case in == "" && v.has(path...) && v.root.find(path...).scalar():
		v.at(path, "which node?")
		return
	case in == "":
		return
	case strings.HasPrefix(in, "$"):
		v.at(path, "%s can be several nodes, and a program runs in one; $ID.target is for the node of a log", in)
		return
	}
	v.ofTopology(path, "node", in, v.where())
}

// targetRef checks $ID.target, and reports whether s is meant as one.
func (v *validator) targetRef(path []any, s string, refs []string) bool {
	if !strings.HasPrefix(s, "$") {
		return false
	}
	id, ok := parseTargetRef(s)
	switch {
	case !ok:
		v.at(path, "%q: the nodes of a fault are written $ID.target", s)
	case !slices.Contains(v.names.faults, id):
		v.at(path, "no fault is called %q%s", id, suggest(id, v.names.faults))
	case !slices.Contains(refs, id):
		v.at(path, "%s is not known here: its fault has not begun", s)
	case !strikes(v.fault(id)):
		v.at(path, "%s stands for nothing: %s chooses no nodes; name the node or service", s, v.fault(id).Kind)
	}
	return true
}

// fault is the fault with an id, or nil.
func (v *validator) fault(id string) *Fault {
	for i := range v.f.Faults {
		if v.f.Faults[i].ID == id {
			return &v.f.Faults[i]
		}
	}
	return nil
}

func (v *validator) regexp(path []any, s string) {
	if _, err := regexp.Compile(s); err != nil {
		v.at(path, "not a regular expression (RE2): %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
}

// event checks ID.event.
func (v *validator) event(path []any, s string) (plan.EventRef, bool) {
	ref, ok := parseEvent(s)
	if !ok {
		v.at(path, "%q: a step in a fault's life is written ID.in-effect (or started, undone, gone)", s)
		return ref, false
	}
	if !v.name(path, "fault", ref.Fault, v.names.faults) {
		return ref, false
	}
	if !slices.Contains(faultEvents, ref.Event) {
		v.at(path, "a fault has no step %q%s", string(ref.Event), suggest(string(ref.Event), []string{"started", "in-effect", "undone", "gone"}))
		return ref, false
	}
	return ref, true
}

// condition checks a condition; refs are the faults whose targets are known when it is asked.
func (v *validator) condition(path []any, c *Condition, refs []string) {
	has := func(key string) bool { return v.has(sub(path, key)...) }
	forms := []string{"http", "tcp", "log", "exec", "workload", "metric", "event"}
	var got []string
	for _, f := range forms {
		if has(f) {
			got = append(got, f)
		}
	}
	if len(got) != 1 {
		v.at(path, "a condition is one of %s%s", strings.Join(forms, ", "), but(got))
		return
	}
	if has("in") && got[0] != "exec" && got[0] != "http" && got[0] != "tcp" {
		v.key(sub(path, "in"), "in has no meaning for a condition on %s", got[0])
	}
	if has("acked") && got[0] != "workload" {
		v.key(sub(path, "acked"), "acked belongs to a condition on a workload")
	}
	if has("is") && got[0] != "metric" {
		v.key(sub(path, "is"), "is belongs to a condition on a metric")
	}
	v.in(sub(path, "in"), c.In)
	switch got[0] {
	case "http":
		v.address(sub(path, "http"), c.HTTP, "http://", c.In)
	case "tcp":
		v.address(sub(path, "tcp"), c.TCP, "", c.In)
	case "log":
		v.logCondition(sub(path, "log"), c.Log, refs)
	case "exec":
		v.argv(sub(path, "exec"), c.Exec)
	case "workload":
		v.name(sub(path, "workload"), "workload", c.Workload, v.names.workloads)
		v.bound(sub(path, "acked"), c.Acked, "a number of operations such as \">= 500\"", plan.Count)
	case "metric":
		if strings.TrimSpace(c.Metric) == "" {
			v.at(sub(path, "metric"), "which metric? a PromQL expression")
		} else if m := v.metrics(); v.known {
			if err := m.Check(c.Metric); err != nil {
				v.at(sub(path, "metric"), "metric: %v", err)
			}
		}
		v.bound(sub(path, "is"), c.Is, "a bound such as \">= 3\"", plan.Count, plan.Seconds, plan.Ratio, plan.PerSec)
	case "event":
		v.event(sub(path, "event"), c.Event)
	}
}

func but(got []string) string {
	if len(got) == 0 {
		return ""
	}
	return ", not " + strings.Join(got, " and ")
}

func (v *validator) logCondition(path []any, l *plan.LogCondition, refs []string) {
	if l == nil {
		return
	}
	if l.Node == "" {
		v.at(path, "whose log? give it a node")
	} else if !v.targetRef(sub(path, "node"), l.Node, refs) {
		v.ofTopology(sub(path, "node"), "node or service", l.Node, slices.Concat(v.nodes, v.services))
	}
	if l.Matches == "" {
		v.at(path, "what is to match? give it matches, a regular expression")
	}
	v.regexp(sub(path, "matches"), l.Matches)
}

var hostPort = regexp.MustCompile(`^([A-Za-z0-9._-]*):([0-9]{1,5})(/.*)?$`)

// address checks NODE:PORT, or :PORT with in.
func (v *validator) address(path []any, addr, scheme, in string) {
	rest, ok := strings.CutPrefix(addr, scheme)
	m := hostPort.FindStringSubmatch(rest)
	if !ok || m == nil || scheme == "" && m[3] != "" {
		form := "NODE:PORT"
		if scheme != "" {
			form = scheme + form + "/path"
		}
		v.at(path, "%q: write it as %s", addr, form)
		return
	}
	switch {
	case m[1] == "" && in == "":
		v.at(path, "%q names no node; write %sNODE:%s, or add in", addr, scheme, m[2])
	case m[1] != "":
		v.ofTopology(path, "node or service", m[1], slices.Concat(v.nodes, v.services))
	}
}

// bound checks that a bound is there and has a unit that makes sense.
func (v *validator) bound(path []any, b plan.Bound, wants string, units ...plan.Unit) {
	switch {
	case b.IsZero() && v.has(path...): // could not be read, and was reported, unless it is the empty text
		if v.root.find(path...).text == "" {
			v.at(path, "the bound is empty; write %s", wants)
		}
	case b.IsZero():
		v.at(path, "%v is missing: %s", path[len(path)-1], wants)
	case !slices.Contains(units, b.Unit):
		v.at(path, "%v %q has no sense; it is %s", path[len(path)-1], b, wants)
	}
}

// trigger checks at, until and the like; refs as in condition.
func (v *validator) trigger(path []any, t *Trigger, refs []string, timed bool) {
	if t == nil {
		return
	}
	has := func(key string) bool { return v.has(sub(path, key)...) }
	if has("after") && has("when") {
		v.at(path, "after and when: give one of them")
		return
	}
	late := has("after") || has("when")
	if !late && !timed {
		v.at(path, "what ends it? give it after (a fault's event) or when (a condition)")
	}
	if has("timeout") && !late {
		v.key(sub(path, "timeout"), "a timeout without after or when has nothing to wait for")
	}
	if has("timeout") && late && t.Timeout <= 0 {
		v.at(sub(path, "timeout"), "a timeout of %v leaves no time", t.Timeout)
	}
	if has("after") {
		v.event(sub(path, "after"), t.After)
	}
	if t.When != nil {
		v.condition(sub(path, "when"), t.When, refs)
	}
}

func (v *validator) phases() {
	for _, phase := range []struct {
		key string
		s   *Steady
	}{{plan.PhaseBaseline, v.f.Baseline}, {plan.PhaseRecovery, v.f.Recovery}} {
		key, s := phase.key, phase.s
		if s == nil || s.Until == nil {
			continue
		}
		refs := v.names.faults
		if key == "baseline" {
			refs = nil
			if s.Until.After != "" || s.Until.When != nil && s.Until.When.Event != "" {
				v.at(p(key, "until"), "no fault has begun in the baseline")
				continue
			}
		}
		if s.Until.Plus != (plan.Span{}) {
			v.key(p(key, "until", "plus"), "plus has no meaning here; use at-least")
		}
		v.trigger(p(key, "until"), s.Until, refs, false)
		for _, w := range waits(s.Until) {
			v.happens(p(key, "until"), v.fault(w.Fault), w)
		}
	}
}

func (v *validator) requires() {
	seen := map[string]bool{}
	for i := range v.f.Require {
		r := &v.f.Require[i]
		at := p("require", i)
		if !v.mapping(at...) {
			continue
		}
		v.id(at, "precondition", r.ID, seen)
		switch given(v.has("require", i, "at"), v.has("require", i, "by")) {
		case 0:
			v.at(at, "when? give it at (a phase: tested at its end) or by (a phase, or end: polled until then)")
		case 2:
			v.key(sub(at, "by"), "at and by: give one of them")
		}
		if v.has("require", i, "at") {
			v.name(sub(at, "at"), "phase", r.At, []string{plan.PhaseReady, plan.PhaseBaseline, plan.PhaseFault, plan.PhaseRecovery, plan.PhaseVerify})
		}
		if v.has("require", i, "by") { // polling begins with the baseline
			v.name(sub(at, "by"), "phase", r.By, []string{plan.PhaseBaseline, plan.PhaseFault, plan.PhaseRecovery, plan.PhaseVerify, "end"})
		}
		refs := v.names.faults
		if slices.Contains([]string{plan.PhaseReady, plan.PhaseBaseline}, r.At+r.By) {
			refs = nil
			if r.Event != "" {
				v.at(sub(at, "event"), "no fault has begun by the end of %s", r.At+r.By)
				continue
			}
		}
		v.condition(at, &r.Condition, refs)
		if w, ok := parseEvent(r.Event); ok {
			v.happens(sub(at, "event"), v.fault(w.Fault), w)
		}
	}
}

// id checks an id: there, well formed, unique, no word with a meaning of its own.
func (v *validator) id(path []any, what, id string, seen map[string]bool) {
	at := sub(path, "id")
	switch {
	case !v.has(at...):
		v.at(path, "this %s has no id", what)
		return
	case slices.Contains(reserved, id):
		v.at(at, "%q is a word with a meaning of its own; choose another id", id)
	case seen[id]:
		v.at(at, "the id %q is taken by another %s", id, what)
	default:
		v.word(at, "id", id)
	}
	seen[id] = true
}

func (v *validator) aborts() {
	for i, a := range v.f.Abort {
		at := p("abort", i)
		if !v.mapping(at...) {
			continue
		}
		if a.SLO == nil {
			if !v.has("abort", i, "slo") {
				v.at(at, "what aborts the run? give it slo: {load, success, for}")
			}
			continue
		}
		at = sub(at, "slo")
		if !v.has(sub(at, "load")...) {
			v.at(at, "load is missing")
		} else {
			v.name(sub(at, "load"), "load", a.SLO.Load, v.names.loads)
		}
		v.bound(sub(at, "success"), a.SLO.Success, "a share such as \"< 10%\"", plan.Ratio)
		if n := v.root.find(sub(at, "for")...); a.SLO.For <= 0 && (!v.has(sub(at, "for")...) || zeroTime(n.text)) {
			v.at(sub(at, "for"), "for is the length of the window, such as 5s")
		} else if a.SLO.For > 0 && a.SLO.For.D() < abortGrain {
			v.at(sub(at, "for"), "a window of %s is shorter than what requests are counted by, %s", short(a.SLO.For), abortGrain)
		} else if most, known := v.endIn(a.SLO.Load, a.SLO.For.D()); known && most < plan.AbortSamples {
			v.at(sub(at, "for"), "in a window of %s at most %.3g requests of %s end, and it takes %d to say anything", short(a.SLO.For), most, a.SLO.Load, plan.AbortSamples)
		}
	}
}

// abortGrain is the shortest window in which an abort rule sees anything: two of the buckets that requests are counted in.
const abortGrain = 100 * time.Millisecond

// endIn is how many requests of a load may end within a time: those that are due in it, and those that are waiting for their timeout. It
// is not known where there is no such load, or a fault changes its rate.
func (v *validator) endIn(load string, within time.Duration) (most float64, known bool) {
	l, ok := v.f.Load[load]
	rate := l.Rate
	for _, s := range l.Stages {
		rate = max(rate, s.Rate, s.From, s.To)
	}
	for _, f := range v.f.Faults {
		if c, changes := f.partly.(faults.ChangesLoad); changes && c.ChangesLoad() == load {
			return 0, false
		}
	}
	timeout := cmp.Or(l.Timeout.D(), DefaultLoadTimeout)
	return float64(rate) * (within + timeout).Seconds(), ok && rate > 0
}

func (v *validator) controls() {
	for i, c := range v.f.Controls {
		at := p("controls", i)
		if !v.mapping(at...) {
			continue
		}
		has := func(key string) bool { return v.has("controls", i, key) }
		if given(has("defect"), has("env"), has("flags")) != 1 {
			v.at(at, "a control is one change: defect, env or flags")
		}
		if has("defect") {
			v.defect(at, c)
		} else if has("service") {
			v.key(sub(at, "service"), "service belongs to a defect; flags name their service themselves")
		}
		if has("env") && len(c.Env) == 0 || has("flags") && len(c.Flags) == 0 {
			v.at(at, "this control changes nothing")
		}
		for _, name := range inOrder(c.Flags, v.root.find("controls", i, "flags")) {
			if v.known && !slices.Contains(v.services, name) && !slices.Contains(v.groups, name) {
				v.key(sub(at, "flags", name), "the topology has no service or group called %q%s", name, suggest(name, slices.Concat(v.services, v.groups)))
			}
			if slices.Contains(v.images, name) {
				v.key(sub(at, "flags", name), "what %s runs is the command of its image, which flags cannot be added to; write the command out in the topology", name)
			}
			if len(c.Flags[name]) == 0 {
				v.at(sub(at, "flags", name), "no flags are given")
			}
		}
		if !has("must-fail") || has("must-fail") && len(c.MustFail) == 0 && v.root.find("controls", i, "must-fail").kind == listNode {
			v.at(sub(at, "must-fail"), "which assertions must fail? give it must-fail")
		}
		for j, id := range c.MustFail {
			v.name(sub(at, "must-fail", j), "assertion", id, v.judged())
		}
	}
}

// judged are the ids of findings of assertions: those of the scenario, and exits, which is judged in every run that does not
// list it under an id of its own.
func (v *validator) judged() []string {
	if slices.ContainsFunc(v.f.Assert, func(a Assert) bool { return a.Kind == exits }) {
		return v.names.asserts
	}
	return append(slices.Clone(v.names.asserts), exits)
}

func (v *validator) defect(at []any, c Control) {
	if v.f.tables.Defects != nil {
		v.name(sub(at, "defect"), "defect", c.Defect, v.f.tables.Defects)
	}
	if !v.known {
		return
	}
	if c.Service == "" {
		if len(v.hasvc) == 0 {
			v.at(sub(at, "defect"), "no service of the topology runs the reference service, and only that has defects; change env or flags instead")
		}
		return
	}
	if !slices.Contains(v.services, c.Service) {
		v.ofTopology(sub(at, "service"), "service", c.Service, v.services)
	} else if !slices.Contains(v.hasvc, c.Service) {
		v.at(sub(at, "service"), "%s does not run the reference service, and only that has defects; change env or flags instead", c.Service)
	}
}

// inOrder are the keys of a mapping in the order of the file, and those that it does not have by name.
func inOrder[V any](m map[string]V, at *node) []string {
	var ks []string
	if at != nil {
		for _, e := range at.entries {
			if _, ok := m[e.key]; ok {
				ks = append(ks, e.key)
			}
		}
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if !slices.Contains(ks, k) {
			ks = append(ks, k)
		}
	}
	return ks
}
