package scenarios

import (
	"slices"
	"strings"

	"github.com/hasvc/gauntlet/faults"
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

func (v *validator) faults() {
	seen := map[string]bool{}
	for i := range v.f.Faults {
		f := &v.f.Faults[i]
		at := p("faults", i)
		if !v.mapping(at...) {
			continue
		}
		v.id(at, "fault", f.ID, seen)
		// When it begins, its own targets are not known yet; those of others may be.
		others := slices.DeleteFunc(slices.Clone(v.names.faults), func(id string) bool { return id == f.ID })
		v.trigger(sub(at, "at"), f.At, others, true)
		v.trigger(sub(at, "until"), f.Until, v.names.faults, false)
		v.lasting(at, f)
		v.repeat(at, f)
		if f.partly == nil {
			continue
		}
		do, acts := f.partly.(*faults.Do)
		if acts && do.Signal == "" {
			v.in(sub(at, f.Kind, "in"), do.In)
		} else {
			for _, t := range f.partly.Targets() {
				v.target(f.at, t)
			}
		}
		v.hasProgram(f)
		if c, ok := f.partly.(faults.ChangesLoad); ok && c.ChangesLoad() != "" {
			v.name(sub(at, f.Kind, "load"), "load", c.ChangesLoad(), v.names.loads)
		}
		if f.Params == nil {
			continue
		}
		v.paramErrors(f.at, f.Params.Validate(), nil)
		if argv := f.at.get("exec"); argv != nil && argv.kind == listNode {
			var words []string
			for _, it := range argv.items {
				words = append(words, it.text)
			}
			v.argv(sub(at, f.Kind, "exec"), words)
		}
	}
	v.ending()
	v.cycles()
	v.tooMany()
}

// lasting checks for and until.
func (v *validator) lasting(at []any, f *Fault) {
	hasFor, hasUntil := v.has(sub(at, "for")...), v.has(sub(at, "until")...)
	if hasFor && hasUntil {
		v.key(sub(at, "until"), "for and until: give one of them")
	}
	if f.Kind != "" && !f.row.Undo {
		for _, k := range []string{"for", "until"} {
			if v.has(sub(at, k)...) {
				v.key(sub(at, k), "%s ends by itself; it takes no %s", f.Kind, k)
			}
		}
	}
	if f.For != nil && !f.For.End && f.For.Span.Hi <= 0 {
		v.at(sub(at, "for"), "a fault of 0s is none; leave for out to let it hold to the end of the fault phase")
	}
}

func (v *validator) repeat(at []any, f *Fault) {
	r := f.Repeat
	if r == nil {
		return
	}
	has := func(key string) bool { return v.has(sub(at, "repeat", key)...) }
	at2 := sub(at, "repeat")
	switch {
	case !has("every"):
		v.at(at2, "every is missing: the time from one start to the next")
	case r.Every.Hi > 0 && r.Every.Lo <= 0 || r.Every == (plan.Span{}) && v.root.find(sub(at2, "every")...).scalar() && zeroTime(v.root.find(sub(at2, "every")...).text):
		v.at(sub(at2, "every"), "every %v would start them all at once; it is more than 0", r.Every)
	}
	if !has("for") && !has("times") {
		v.at(at2, "how often? give it for (a time that bounds the starts) or times")
	}
	if has("for") && r.For <= 0 && zeroTime(v.root.find(sub(at2, "for")...).text) {
		v.at(sub(at2, "for"), "for %v leaves no time to repeat anything", r.For)
	}
	v.within(sub(at2, "times"), r.Times, 1, maxOccurrences)
	if f.For != nil && f.For.End {
		v.at(sub(at, "for"), "a repeated fault must be gone before it can begin again: it cannot be held to the end")
	}
	if background(f) {
		v.at(at2, "a program in the background goes on until the fault phase ends: it cannot be repeated (loop starts it again and again)")
	}
	if f.Kind != "" && f.row.Undo && !v.has(sub(at, "for")...) && !v.has(sub(at, "until")...) {
		v.at(at2, "how long does each last? give the fault for or until, or the first would hold to the end of the fault phase")
	}
}

func zeroTime(s string) bool {
	d, err := plan.ParseSpan(s)
	return err == nil && d.Lo == 0
}

// tooMany bounds what is drawn before the start.
func (v *validator) tooMany() {
	rounds := 1
	if v.f.Rounds != nil {
		rounds = min(max(v.f.Rounds.Count, 1), maxRounds)
	}
	total := 0
	for i := range v.f.Faults {
		if total += most(v.f.Faults[i].Repeat) * rounds; total > maxOccurrences {
			v.at(p("faults", i, "repeat"), "together the faults may begin more than %d times; repeat them less often", maxOccurrences)
			return
		}
	}
}

// most is how often a fault can begin in a round.
func most(r *Repeat) int {
	if r == nil {
		return 1
	}
	n := maxOccurrences + 1
	if r.Times > 0 {
		n = min(n, r.Times)
	}
	if r.For > 0 && r.Every.Lo > 0 {
		n = min(n, int(r.For/r.Every.Lo)+1)
	}
	return n
}

// hasProgram reports a fault on the program of the client, which has none: load and workloads start there.
func (v *validator) hasProgram(f *Fault) {
	switch f.partly.(type) {
	case *faults.Kill, *faults.Terminate, *faults.Pause, *faults.Restart:
	default:
		return
	}
	for _, t := range f.partly.Targets() {
		if t.Node == cluster.Client {
			v.doc.at(f.at.locate(t.Node), "the node %s has no program of its own: there is nothing to %s", cluster.Client, f.Kind)
		}
	}
}

// target checks a selection of nodes.
func (v *validator) target(at *node, t plan.Target) {
	if !v.known {
		return
	}
	report := func(what, got string, exist []string) bool {
		if got == "" || slices.Contains(exist, got) {
			return got != ""
		}
		n := at.locate(got)
		if n == nil {
			n = at
		}
		v.doc.at(n, "the topology has no %s called %q%s%s", what, got, suggest(got, exist), v.otherwise(what, got))
		return false
	}
	report("node", t.Node, v.where())
	report("service", t.Service, v.services)
	report("group", t.Group, v.groups)
	report("zone", t.Zone, v.zones)
	report("node, service or group", t.Any, v.ends())
	v.pick(at, t)
}

// otherwise says where a name does exist.
func (v *validator) otherwise(what, got string) string {
	for _, other := range []struct {
		what string
		list []string
	}{{"service", v.services}, {"node", v.nodes}, {"group", v.groups}, {"zone", v.zones}} {
		if other.what != what && slices.Contains(other.list, got) {
			return " (" + got + " is a " + other.what + ")"
		}
	}
	return ""
}

// pick checks that there are enough nodes, and somebody who leads.
func (v *validator) pick(at *node, t plan.Target) {
	what, name := "", ""
	for _, x := range [][2]string{{"service", t.Service}, {"group", t.Group}, {"zone", t.Zone}} {
		if x[1] != "" {
			what, name = x[0], x[1]
		}
	}
	size := v.size[what+" "+name]
	if name == "" || size == 0 {
		return
	}
	n := at.locate(string(t.Pick))
	if n == nil {
		n = at
	}
	if _, hi, ok := t.Pick.Range(); ok && hi > size {
		v.doc.at(n, "%s %s has %d nodes; %s cannot be picked", what, name, size, t.Pick)
	}
	// A minority is less than half, and where a follower is, another one leads.
	if least := map[plan.Pick]int{plan.PickMinority: 3, plan.PickFollower: 2}[t.Pick]; size < least {
		v.doc.at(n, "%s %s has too few nodes for a %s: %d of at least %d", what, name, t.Pick, size, least)
	}
	if t.Pick != plan.PickLeader && t.Pick != plan.PickFollower {
		return
	}
	switch {
	case what != "group":
		v.doc.at(n, "pick %s needs a group, not a %s: groups say how to ask who leads (x-gauntlet.leader)%s", t.Pick, what, does(v.leaders))
	case !slices.Contains(v.leaders, name):
		v.doc.at(n, "group %s does not say who leads; give its services x-gauntlet.leader in the topology%s", name, does(v.leaders))
	}
}

func does(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "; these do: " + strings.Join(names, ", ")
}

// paramErrors reports what a kind says about its parameters, each error where it seems to be: at the text that it quotes,
// or at the key that it begins with. quoted are names that were reported already.
func (v *validator) paramErrors(at *node, err error, reported []string) {
	for _, e := range split(err) {
		msg := e.Error()
		if slices.ContainsFunc(reported, func(s string) bool { return strings.Contains(msg, s) }) {
			continue
		}
		v.doc.at(placeOf(at, msg), "%s", msg)
	}
}

// placeOf finds the part of the parameters that a message is about.
func placeOf(at *node, msg string) *node {
	word, _, _ := strings.Cut(msg, " ")
	word = strings.TrimRight(word, ":,")
	n := at
	for _, key := range strings.Split(word, ".") {
		next := n.get(key)
		if next == nil {
			break
		}
		n = next
	}
	if n != at {
		return n
	}
	for rest := msg; ; {
		_, after, ok := strings.Cut(rest, `"`)
		quoted, tail, closed := strings.Cut(after, `"`)
		if !ok || !closed {
			return at
		}
		if m := at.locate(quoted); m != nil {
			return m
		}
		rest = tail
	}
}

// ends reports whether a fault is over, or held beyond it, some time before the fault phase is.
func ends(f *Fault) bool {
	if f.Kind == "" || f.For != nil || f.Until != nil {
		return true
	}
	return !f.row.Undo && !background(f)
}

// background reports whether a fault is a program that goes on until the fault phase ends.
func background(f *Fault) bool {
	d, ok := f.Params.(*faults.Do)
	return ok && d.Background
}

// ending finds a fault phase that nothing ends: it would be over at once, and the faults with it.
func (v *validator) ending() {
	for i := range v.f.Faults {
		if ends(&v.f.Faults[i]) {
			return
		}
	}
	if len(v.f.Faults) > 0 && len(v.doc.errs) == 0 {
		v.at(p("faults", 0), "nothing ends the fault phase, so this fault would be undone at once; give it for or until, or another fault beside it")
	}
}

// step is a moment in a fault's life, for the search for cycles.
type step = plan.EventRef

// cycles finds faults that wait for one another, and events that come too late or never.
func (v *validator) cycles() {
	after := map[step][]step{}
	where := map[string]int{}
	byID := map[string]*Fault{}
	for i := range v.f.Faults {
		f := &v.f.Faults[i]
		if _, ok := where[f.ID]; ok {
			return // ids are not unique, which was reported
		}
		where[f.ID], byID[f.ID] = i, f
	}
	for i := range v.f.Faults {
		f := &v.f.Faults[i]
		id := f.ID
		order := []plan.FaultEvent{plan.Started, plan.InEffect, plan.Undone, plan.Gone}
		for k := 1; k < len(order); k++ {
			after[step{Fault: id, Event: order[k]}] = []step{{Fault: id, Event: order[k-1]}}
		}
		for _, w := range waits(f.At) {
			if w.Fault == id && w.Event == plan.InEffect && f.At.After == "" && f.At.When.Event == "" {
				continue // its own targets, which was reported
			}
			after[step{Fault: id, Event: plan.Started}] = append(after[step{Fault: id, Event: plan.Started}], w)
			v.comes(p("faults", where[id], "at"), byID[w.Fault], w)
		}
		for _, w := range waits(f.Until) {
			after[step{Fault: id, Event: plan.Undone}] = append(after[step{Fault: id, Event: plan.Undone}], w)
			v.comes(p("faults", where[id], "until"), byID[w.Fault], w)
		}
	}
	visited := map[step]int{}
	for i := range v.f.Faults {
		id := v.f.Faults[i].ID
		if c := cycle(after, visited, step{Fault: id, Event: plan.Gone}); c != nil {
			at := p("faults", where[c[0].Fault])
			key := "until"
			if v.has(sub(at, "at")...) {
				key = "at"
			}
			v.at(sub(at, key), "these wait for one another and would never come: %s", chain(c))
			return
		}
	}
}

// comes checks that an event that is waited for happens within the fault phase.
func (v *validator) comes(path []any, f *Fault, w step) {
	if v.happens(path, f, w) && !ends(f) {
		v.at(path, "%s.%s comes too late: the fault holds to the end of the fault phase", f.ID, w.Event)
	}
}

// happens checks that an event that is waited for happens at all while the topology is up. It reports whether it is the end of
// a fault that does.
func (v *validator) happens(path []any, f *Fault, w step) bool {
	if f == nil || f.Kind == "" || w.Event != plan.Undone && w.Event != plan.Gone {
		return false
	}
	switch {
	case w.Event == plan.Undone && !f.row.Undo:
		v.at(path, "%s.undone never comes: %s has no undo; use %s.gone", f.ID, f.Kind, f.ID)
	case f.For != nil && f.For.End:
		v.at(path, "%s.%s comes too late: the fault is held until the topology comes down", f.ID, w.Event)
	default:
		return true
	}
	return false
}

// strikes reports whether a fault chooses nodes, which $ID.target then stands for. The ends of a link, the node of a program and the
// service that is scaled are named, not chosen; what could not be read, or is not executed, may choose.
func strikes(f *Fault) bool {
	if f.partly == nil || f.row.Unsupported != "" {
		return true
	}
	if _, scales := f.partly.(*faults.Scale); scales {
		return false
	}
	return slices.ContainsFunc(f.partly.Targets(), func(t plan.Target) bool { return t.Any == "" })
}

// waits are the events that a trigger waits for.
func waits(t *Trigger) []step {
	if t == nil {
		return nil
	}
	var ws []step
	if ref, ok := parseEvent(t.After); ok {
		ws = append(ws, ref)
	}
	if t.When == nil {
		return ws
	}
	if ref, ok := parseEvent(t.When.Event); ok {
		ws = append(ws, ref)
	}
	// The nodes of a fault are known once it began.
	if t.When.Log != nil {
		if id, ok := parseTargetRef(t.When.Log.Node); ok {
			ws = append(ws, step{Fault: id, Event: plan.InEffect})
		}
	}
	return ws
}

// cycle returns a way from a step back to itself among what start waits for, or nil. state is what earlier calls visited.
func cycle(after map[step][]step, state map[step]int, start step) []step {
	const open, done = 1, 2
	var way []step
	var visit func(s step) []step
	visit = func(s step) []step {
		switch state[s] {
		case done:
			return nil
		case open:
			return append(slices.Clone(way[slices.Index(way, s):]), s)
		}
		state[s] = open
		way = append(way, s)
		for _, w := range after[s] {
			if c := visit(w); c != nil {
				return c
			}
		}
		way = way[:len(way)-1]
		state[s] = done
		return nil
	}
	return visit(start)
}

// chain puts a cycle into words, the first and last step of each fault on the way.
func chain(c []step) string {
	var words []string
	for i, s := range c {
		if i > 0 && i < len(c)-1 && c[i-1].Fault == s.Fault && c[i+1].Fault == s.Fault {
			continue
		}
		words = append(words, s.Fault+"."+string(s.Event))
	}
	return strings.Join(words, " waits for ")
}
