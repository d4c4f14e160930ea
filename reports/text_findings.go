package reports

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/hasvc/gauntlet/assertions"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// workload tells the figures of a workload.
func workload(e record.Event) string {
	var st record.WorkloadStats
	if json.Unmarshal(e.Data, &st) != nil {
		return "The workload " + e.ID + " left no figures."
	}
	return fmt.Sprintf("The workload %s: %d operations were acknowledged, %d refused, %d of unknown outcome; %d answers when it read back.", e.ID, st.OK, st.Failed, st.Unknown, st.Read)
}

// Bounds of what is shown of findings; run.json has all.
const (
	maxEvidencePass = 2 // lines of evidence of a finding that passed
	maxEvidence     = 6 // and of one that did not
	maxRounds       = 3 // rounds of one assertion that are not PASS
)

// findings are told worst first. An assertion that passed in every round is one line.
func (p *page) findings(r Result) {
	p.blank()
	var asserted []assertions.Finding
	var premises []string
	for _, f := range r.Findings {
		switch {
		case f.Class != assertions.Premise || f.Verdict != assertions.Pass:
			asserted = append(asserted, f)
		case !slices.Contains(premises, f.ID):
			premises = append(premises, f.ID)
		}
	}
	groups := map[string][]assertions.Finding{}
	var order []string
	for _, f := range asserted {
		key := string(f.Class) + "/" + f.ID
		if groups[key] == nil {
			order = append(order, key)
		}
		groups[key] = append(groups[key], f)
	}
	passed := 0
	// What a run that broke off could not show is said in one line each: the reason stands at the finding `run`.
	broken := slices.ContainsFunc(r.Findings, func(f assertions.Finding) bool {
		return f.ID == "run" && f.Class == assertions.Premise && f.Verdict == assertions.Invalid
	})
	worst := map[string]assertions.Verdict{}
	for k, fs := range groups {
		vs := make([]assertions.Verdict, len(fs))
		for i, f := range fs {
			vs[i] = f.Verdict
		}
		if worst[k] = assertions.Worst(vs...); worst[k] == assertions.Pass {
			passed++
		}
	}
	p.write(p.paint("1", "Findings") + fmt.Sprintf(" (%d of %d passed)\n", passed, len(order)))
	if len(order) == 0 {
		p.line("  ", "None: nothing was asserted or the run was not judged.")
	}
	for _, v := range []assertions.Verdict{assertions.Fail, assertions.Invalid, assertions.Pass} {
		for _, key := range order {
			if worst[key] == v {
				p.group(groups[key], v, len(r.Run.Plan.Rounds), broken)
			}
		}
	}
	for _, id := range premises {
		// A premise that failed in another round is above.
		if worst[string(assertions.Premise)+"/"+id] != assertions.Pass && groups[string(assertions.Premise)+"/"+id] != nil {
			premises = slices.DeleteFunc(slices.Clone(premises), func(x string) bool { return x == id })
		}
	}
	if len(premises) > 0 {
		p.line("  What they rest on holds: ", strings.Join(premises, ", ")+".")
	}
}

func (p *page) group(fs []assertions.Finding, v assertions.Verdict, rounds int, broken bool) {
	if v == assertions.Pass && len(fs) > 1 {
		f := fs[len(fs)-1]
		p.finding(f, fmt.Sprintf("in %d of %d rounds; in round %d: ", len(fs), rounds, f.Round), maxEvidencePass)
		return
	}
	bad, shown := 0, 0
	for _, f := range fs {
		if f.Verdict != assertions.Pass {
			bad++
		}
	}
	for _, want := range []assertions.Verdict{assertions.Fail, assertions.Invalid} {
		for _, f := range fs {
			if f.Verdict != want || shown >= maxRounds {
				continue
			}
			shown++
			in := ""
			if rounds > 1 && f.Round > 0 {
				in = fmt.Sprintf("in round %d: ", f.Round)
			}
			most := maxEvidence
			if f.Verdict == assertions.Invalid && broken {
				most = 0
			}
			p.finding(f, in, most)
		}
	}
	if v == assertions.Pass {
		p.finding(fs[0], "", maxEvidencePass)
	}
	if bad > shown {
		p.line("           ", fmt.Sprintf("and in %d more rounds", bad-shown))
	}
}

func (p *page) finding(f assertions.Finding, in string, most int) {
	plain := fmt.Sprintf("  %-7s  ", f.Verdict)
	head := "  " + p.verdict(f.Verdict) + strings.Repeat(" ", len(plain)-2-len(f.Verdict.String()))
	name := f.ID
	if f.Kind != f.ID && f.Kind != "" {
		name += " (" + f.Kind + ")"
	}
	text := name + ": " + in + lines(f.Summary)
	p.styled(head, plain, text)
	if f.Reason != "" && f.Reason != f.Summary {
		p.line("           because ", lines(f.Reason))
	}
	for i, e := range f.Evidence {
		if most == 0 {
			break
		}
		if i == most {
			p.line("           - ", fmt.Sprintf("and %d more, in run.json", len(f.Evidence)-most))
			break
		}
		p.line("           - ", evidence(e))
	}
}

// maxLines of a summary: it may quote a log, which the time line shows whole.
const maxLines = 3

func lines(s string) string {
	ls := strings.Split(strings.TrimSpace(s), "\n")
	if len(ls) <= maxLines+1 {
		return s
	}
	return strings.Join(ls[:maxLines], "\n") + fmt.Sprintf("\n(and %d more lines, above and in run.json)", len(ls)-maxLines)
}

// evidence is one line: what, how many, when, on which nodes, the figures, and the file to compute them from.
func evidence(e assertions.Evidence) string {
	s := e.What
	if e.Count > 0 {
		s = fmt.Sprintf("%d %s", e.Count, s)
	}
	if w := e.Window; w != nil {
		if w.From == w.To {
			s += fmt.Sprintf(", at %.3f", w.From.Seconds())
		} else {
			s += fmt.Sprintf(", from %.3f to %.3f", w.From.Seconds(), w.To.Seconds())
		}
	}
	if len(e.Nodes) > 0 {
		s += ", on " + strings.Join(e.Nodes, ", ")
	}
	var vals []string
	for _, k := range slices.Sorted(maps.Keys(e.Values)) {
		vals = append(vals, k+" "+strconv.FormatFloat(e.Values[k], 'g', 5, 64))
	}
	if len(vals) > 0 {
		s += ": " + strings.Join(vals, ", ")
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.File != "" {
		s += " [" + e.File + "]"
	}
	return s
}

// change says what a control changes.
func change(c plan.Control) string {
	switch {
	case c.NoFault:
		return "no fault"
	case c.Defect != "" && c.Service != "":
		return "the defect " + c.Defect + " in " + c.Service
	case c.Defect != "":
		return "the defect " + c.Defect
	case len(c.Env) > 0:
		var vs []string
		for _, k := range slices.Sorted(maps.Keys(c.Env)) {
			vs = append(vs, k+"="+c.Env[k])
		}
		return strings.Join(vs, " ")
	case len(c.Flags) > 0:
		var vs []string
		for _, k := range slices.Sorted(maps.Keys(c.Flags)) {
			vs = append(vs, strings.Join(c.Flags[k], " ")+" added to "+k)
		}
		return strings.Join(vs, ", ")
	}
	return c.Name
}

// notAgain begins the sentence on a control whose record is not there.
const notAgain = "This was judged before, and could not be again: "

func (p *page) controls(r Result) {
	s := ScoreOf(r)
	p.blank()
	if s.Run > 0 {
		p.write(p.paint("1", "Controls") + fmt.Sprintf(" (%d of %d killed: a resilience mutation score of %d %%)\n", s.Killed, s.Run, 100*s.Killed/s.Run))
		p.line("  ", "Each is the same run with one thing made wrong. It is killed when the assertions that must notice it FAIL.")
	} else {
		p.write(p.paint("1", "Controls") + "\n")
	}
	if s.Noise != "" {
		p.line("  ", "Noise: "+plan.NoFaultControl+" is the same run without a fault. It is quiet when everything holds: a bound that it breaks is wrong.")
	}
	unshown := 0
	for _, c := range r.Controls {
		word, color := "killed", "32"
		switch v := r.outcome(c); {
		case v == assertions.Invalid:
			word, color = v.String(), "33"
			unshown++
		case v == assertions.Pass && c.NoFault:
			word = "quiet"
		case v == assertions.Fail && c.NoFault:
			word, color = "NOISY", "31"
		case v == assertions.Fail:
			word, color = "ALIVE", "31"
		}
		plain := fmt.Sprintf("  %-7s  ", word)
		p.styled("  "+p.paint(color, word)+strings.Repeat(" ", len(plain)-2-len(word)), plain, join(c.Name, c.Reason))
		if c.Dir != "" {
			p.line("           record: ", c.Dir)
		}
		if c.Unread != "" {
			p.line("           ", notAgain+c.Unread)
		}
	}
	if alive := s.Run - s.Killed - s.Unshown; alive > 0 {
		p.line("  ", fmt.Sprintf("%d of them lived: what the scenario asserts does not notice that, and the exit code is that of FAIL.", alive))
	}
	if s.Noise == "noisy" {
		p.line("  ", "The run without a fault is not quiet, and the exit code is that of FAIL.")
	}
	if unshown > 0 && r.Verdict == assertions.Pass {
		p.line("  ", fmt.Sprintf("%d of them showed nothing either way, which is INVALID.", unshown))
	}
	if len(s.Worthless) > 0 {
		p.line("  Worthless so far: ", strings.Join(s.Worthless, ", ")+". No control made them fail, so that they pass proves little.")
	}
}

// repeat writes commands to copy: they are not broken into lines.
func (p *page) repeat(r Result) {
	p.blank()
	p.write(p.paint("1", "Again") + "\n")
	p.write("  the same run\n      " + command(r) + "\n")
	p.write("  the judgement of this record\n      gauntlet check " + quote(r.Run.Dir) + "\n")
}

// command is again as one types it.
func command(r Result) string {
	words := again(r)
	for i, w := range words {
		words[i] = quote(w)
	}
	return strings.Join(words, " ")
}

// again is the command that repeats a run, word by word.
func again(r Result) []string {
	pl := r.Run.Plan
	name := pl.File
	if name == "" {
		name = pl.Name
	}
	out := []string{"gauntlet", "run", name, "--seed", strconv.FormatUint(pl.Seed, 10)}
	if r.Run.Meta.Driver != "" {
		out = append(out, "--driver", r.Run.Meta.Driver)
	}
	if pl.Control != nil || len(r.Controls) > 0 {
		out = append(out, "--controls")
	}
	return out
}

// quote makes a word that a shell takes as one.
func quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/=:@%+,") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
