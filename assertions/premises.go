package assertions

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// The bounds of the premises.
const (
	// maxLag is how late the generator may be at p99. Latency counts from the due time, so that lag never makes a service look
	// better than it is; beyond this it makes one look worse. A stall that this does not show is found where it broke a bound (lateness).
	maxLag = 50 * time.Millisecond
	// steadySuccess is the least success of each half of a steady baseline. One failure is allowed in any case: of ten to nineteen answers
	// it is more than 5 % already.
	steadySuccess = 0.95
	// steadyRatio is the most that the medians of the two halves of a steady baseline may differ by, unless they differ by no
	// more than steadySlack, which a busy machine may do by itself. It is asked only where a bound is relative to the
	// baseline.
	steadyRatio = 3
	steadySlack = 50 * time.Millisecond
	// steadySamples is what each half needs.
	steadySamples = 10
)

// premises are what the findings of a round rest on: findings of their own, and the reasons why others are INVALID.
// They are PASS or INVALID, except that an abort is FAIL.
type premises struct {
	findings  []Finding
	phases    []string
	baseline  []string
	faults    []string
	required  []string
	generator map[string][]string // by load
	steady    map[Source][]string // success
	drift     map[Source][]string // latency
	workload  map[string][]string
}

// premise is a finding that is PASS when there is no reason against it.
func premise(id, kind string, round int, pass string, why []string, ev ...Evidence) Finding {
	f := Finding{ID: id, Kind: kind, Class: Premise, Round: round, Verdict: Pass, Summary: pass, Evidence: ev}
	if len(why) > 0 {
		f.Verdict = Invalid
		f.Reason = strings.Join(why, "; ")
		f.Summary = f.Reason
	}
	return f
}

// whole judges what belongs to no round: that the run came to its end and that its record is complete.
func (j *judge) whole() []Finding {
	run := j.run
	var cut []string
	for _, e := range run.Events {
		in := ""
		if e.Round > 0 {
			in = fmt.Sprintf(" in round %d", e.Round)
		}
		switch e.Kind {
		case record.Interrupted:
			cut = append(cut, "the run was interrupted"+in+because(e.Error))
		case record.Failure:
			cut = append(cut, "the harness or its surroundings failed"+in+because(e.Error))
		}
	}
	var missing []string
	for _, pr := range run.Plan.Rounds {
		if !slices.ContainsFunc(run.Rounds, func(r *record.Round) bool { return r.N == pr.N }) {
			missing = append(missing, fmt.Sprint(pr.N))
		}
	}
	if len(missing) > 0 {
		cut = append(cut, fmt.Sprintf("%d of %s were not executed: %s", len(missing), plural(len(run.Plan.Rounds), "round"), list(missing[:min(len(missing), maxDetails)])))
	}
	if len(run.Plan.Rounds) == 0 {
		cut = append(cut, "the plan has no round")
	}
	events := Evidence{What: "events", File: record.EventsFile(), Count: len(run.Events)}
	var holes []string
	if !run.Complete {
		holes = append(holes, "the record has no end: the harness was ended, or could not write")
		for _, e := range run.Events {
			if e.Kind == record.RunEnd && e.Error != "" {
				holes = []string{"the record is not complete" + because(e.Error)}
			}
		}
	}
	holes = append(holes, run.Lost()...)
	j.holes = holes
	j.cut = append(append(j.cut, cut...), holes...)
	return []Finding{
		premise("run", "run", 0, fmt.Sprintf("%s executed to the end", plural(len(run.Plan.Rounds), "round")), cut, events),
		premise("record", "record", 0, "the record is complete and every row of it can be read", holes, events),
	}
}

func because(err string) string {
	if err == "" {
		return ""
	}
	return ": " + strings.TrimSpace(err)
}

// premises judges what belongs to a round.
func (j *judge) premises(pr plan.Round, r *record.Round, all []asked) premises {
	pre := premises{generator: map[string][]string{}, steady: map[Source][]string{}, drift: map[Source][]string{}, workload: map[string][]string{}}
	add := func(f Finding) { pre.findings = append(pre.findings, f) }

	for _, e := range r.Events {
		if e.Kind == record.Aborted {
			add(Finding{ID: "abort " + e.ID, Kind: "abort", Class: Service, Round: r.N, Verdict: Fail, Summary: "the run was aborted: " + e.Evidence,
				Evidence: []Evidence{{What: "an abort rule fired", File: record.EventsFile(), Window: &Window{e.T, e.T}, Detail: e.Evidence}}})
			pre.phases = append(pre.phases, "the run was aborted")
		}
	}
	for _, name := range phases {
		if !r.Ended(name) {
			pre.phases = append(pre.phases, "the phase "+name+" did not come to its end")
			if name == plan.PhaseBaseline {
				pre.baseline = pre.phases
			}
		}
	}
	add(premise("phases", "phases", r.N, "baseline, fault and recovery came to their ends", pre.phases,
		Evidence{What: "phases", File: record.EventsFile(), Values: phaseSeconds(r)}))

	if len(pr.Faults) > 0 {
		proved, gone, n := faultsProved(pr, r)
		pre.faults = append(append(pre.faults, proved...), gone...)
		ev := Evidence{What: "lives of faults", File: record.EventsFile(), Count: n}
		add(premise("faults", FaultsProved, r.N, fmt.Sprintf("%s of %s proved", plural(n, "injection"), plural(len(pr.Faults), "fault")), proved, ev))
		add(premise("undone", "undone", r.N, "every fault that was undone is proved gone", gone, ev))
	}
	add(audit(r))

	for _, q := range j.run.Plan.Require {
		f := requirement(q, r)
		if f.Verdict == Invalid {
			pre.required = append(pre.required, f.Reason)
		}
		add(f)
	}
	for _, w := range j.run.Plan.Workloads {
		f := alive(w.Name, r)
		if f.Verdict == Invalid {
			pre.workload[w.Name] = []string{f.Reason}
		}
		add(f)
	}
	for _, a := range all {
		m, ok := a.params.(measurer)
		if !ok || a.err != nil {
			continue
		}
		rest := m.measures()
		for _, src := range rest.sources(j.run.Plan) {
			once(pre.generator, src.Load, src.Load != "", add, func() Finding { return punctual(src.Load, r) })
			// Where nothing is broken, the baseline is part of what is judged.
			once(pre.steady, src, !rest.baselineOnly && len(pr.Faults) > 0, add, func() Finding { return steady(src, r) })
			once(pre.drift, src, rest.relative, add, func() Finding { return drift(src, r) })
		}
	}
	return pre
}

// once judges a premise the first time that something rests on it.
func once[K comparable](reasons map[K][]string, key K, needed bool, add func(Finding), judge func() Finding) {
	if _, known := reasons[key]; known || !needed {
		return
	}
	f := judge()
	reasons[key] = nil
	if f.Verdict == Invalid {
		reasons[key] = []string{f.Reason}
	}
	add(f)
}

func phaseSeconds(r *record.Round) map[string]float64 {
	m := map[string]float64{}
	for _, name := range phases {
		if from, to, ok := r.Phase(name); ok {
			m[name] = (to - from).Seconds()
		}
	}
	return m
}

// faultsProved returns what speaks against the faults of a round: those that did not come into effect by proof, and those
// that were undone and are not gone by proof. n counts the injections.
func faultsProved(pr plan.Round, r *record.Round) (unproved, left []string, n int) {
	type life struct{ started, inEffect, undone, gone bool }
	for _, f := range pr.Faults {
		lives := map[int]*life{}
		of := func(occurrence int) *life {
			if lives[occurrence] == nil {
				lives[occurrence] = &life{}
			}
			return lives[occurrence]
		}
		for _, e := range r.Events {
			if e.Fault != f.ID {
				continue
			}
			nth := ""
			if e.Occurrence > 1 {
				nth = fmt.Sprintf(" (occurrence %d)", e.Occurrence)
			}
			switch e.Kind {
			case record.FaultStarted:
				of(e.Occurrence).started = true
				n++
			case record.FaultInEffect:
				of(e.Occurrence).inEffect = true
			case record.FaultUndone:
				of(e.Occurrence).undone = true
			case record.FaultGone:
				of(e.Occurrence).gone = true
			case record.FaultFailed:
				unproved = append(unproved, "fault "+f.ID+nth+" failed"+because(e.Error))
			case record.FaultUnproved:
				unproved = append(unproved, "fault "+f.ID+nth+" was not proved"+because(e.Error))
			case record.UndoFailed:
				left = append(left, "fault "+f.ID+nth+" could not be undone"+because(e.Error))
			}
		}
		for i := range f.Occurrences {
			l := lives[i+1]
			nth := ""
			if i > 0 {
				nth = fmt.Sprintf(" (occurrence %d)", i+1)
			}
			switch {
			case l == nil || !l.started:
				// The window of a repeated fault may close before all of the drawn occurrences began.
				if f.Window == 0 || i == 0 {
					unproved = append(unproved, "fault "+f.ID+nth+" never began")
				}
				continue
			case !l.inEffect:
				unproved = append(unproved, "fault "+f.ID+nth+" was not proved to be in effect")
			}
			if l.undone && !l.gone {
				left = append(left, "fault "+f.ID+nth+" was not proved to be gone")
			}
		}
	}
	return unproved, left, n
}

// audit is what was left after the topology came down.
func audit(r *record.Round) Finding {
	why := []string{"the round was not audited"}
	said := ""
	for _, e := range r.Events {
		if e.Kind == record.Audited {
			why, said = nil, e.Evidence
			if e.OK == nil || !*e.OK {
				why = []string{"something was left behind" + because(e.Error)}
			}
		}
	}
	if said == "" {
		said = "nothing was left behind"
	}
	return premise("audit", "audit", r.N, said, why, Evidence{What: "audit", File: record.EventsFile()})
}

// requirement is a precondition of the scenario: the last test counts.
func requirement(q plan.Require, r *record.Round) Finding {
	why := []string{"requirement " + q.ID + " was not tested"}
	said := ""
	for _, e := range r.Events {
		if e.Kind == record.Required && e.ID == q.ID {
			why, said = nil, e.Evidence
			if e.OK == nil || !*e.OK {
				why = []string{"requirement " + q.ID + " was not met" + because(strings.Join(nonEmpty(e.Error, e.Evidence), "; "))}
			}
		}
	}
	return premise("require "+q.ID, "require", r.N, strings.Join(nonEmpty("met", said), ": "), why, Evidence{What: "preconditions", File: record.EventsFile()})
}

func nonEmpty(ss ...string) []string {
	return slices.DeleteFunc(ss, func(s string) bool { return s == "" })
}

// alive is that a workload worked and ended as it should.
func alive(name string, r *record.Round) Finding {
	var why []string
	ended := false
	for _, e := range r.Events {
		if e.Kind == record.WorkloadEnd && e.ID == name {
			ended = true
			if e.Error != "" {
				why = append(why, "workload "+name+because(e.Error))
			}
		}
	}
	if !ended {
		why = append(why, "workload "+name+" did not come to its end")
	}
	ops, err := r.History(name)
	if err != nil {
		why = append(why, err.Error())
	}
	count := map[record.Outcome]int{}
	for i := range ops {
		if !isVerify(&ops[i]) {
			count[ops[i].Outcome]++
		}
	}
	if count[record.OK] == 0 {
		why = append(why, "workload "+name+" has no operation that was acknowledged")
	}
	pass := fmt.Sprintf("%d operations acknowledged, %d failed, %d unknown", count[record.OK], count[record.Failed], count[record.Unknown])
	return premise("workload "+name, "workload", r.N, pass, why, Evidence{What: "operations", File: record.HistoryFile(name), Count: len(ops), Values: map[string]float64{
		"ok": float64(count[record.OK]), "failed": float64(count[record.Failed]), "unknown": float64(count[record.Unknown]),
	}})
}

// punctual is that a load's requests were made, and sent when they were due. The lag is computed from the log, which also has what could
// not be made; what was never begun only the generator knows.
func punctual(load string, r *record.Round) Finding {
	reqs, err := r.Requests(load)
	var why []string
	if err != nil {
		why = append(why, err.Error())
	}
	stats := record.GeneratorStats{}
	said := false
	for _, e := range r.Events {
		if e.Kind == record.LoadSummary && e.ID == load {
			said = json.Unmarshal(e.Data, &stats) == nil
		}
	}
	lags := make([]time.Duration, len(reqs))
	unmade, whyUnmade := 0, ""
	for i := range reqs {
		lags[i] = reqs[i].Sent - reqs[i].Due
		if reqs[i].Outcome == record.Missed {
			if unmade++; whyUnmade == "" {
				whyUnmade = reqs[i].Error
			}
		}
	}
	slices.Sort(lags)
	ev := Evidence{What: "lag of the generator (sent minus due)", File: record.RequestFile(load), Count: len(lags), Values: map[string]float64{"missed": float64(stats.Missed), "bound": maxLag.Seconds()}}
	pass := ""
	switch {
	case len(lags) == 0:
		why = append(why, "load "+load+" sent nothing")
	default:
		p50, p99 := lags[rank(500, len(lags))-1], lags[rank(990, len(lags))-1]
		ev.Values["p50"], ev.Values["p99"], ev.Values["max"] = p50.Seconds(), p99.Seconds(), lags[len(lags)-1].Seconds()
		pass = fmt.Sprintf("%s were sent %s late at p99, %s at most", plural(len(lags), "request"), seconds(p99), seconds(lags[len(lags)-1]))
		if p99 > maxLag {
			why = append(why, fmt.Sprintf("the generator of %s was late: %s at p99 of %s, allowed are %s", load, seconds(p99), plural(len(lags), "request"), seconds(maxLag)))
		}
	}
	if unmade > 0 {
		why = append(why, fmt.Sprintf("the load %s could not make %s", load, plural(unmade, "request"))+because(whyUnmade))
	}
	if stats.Missed > 0 {
		why = append(why, fmt.Sprintf("the generator of %s missed %s", load, plural(stats.Missed, "request")))
	}
	if !said {
		why = append(why, "the generator of "+load+" left no figures of its own")
	}
	return premise("generator "+load, "generator", r.N, pass, why, ev)
}

// halves are the answers due in the two halves of the baseline.
func halves(src Source, r *record.Round) (w Window, hs [2]summary, err error) {
	if w, err = phase(r, plan.PhaseBaseline); err != nil {
		return w, hs, err
	}
	mid := w.From + (w.To-w.From)/2
	for i, half := range []Window{{w.From, mid}, {mid, w.To}} {
		ss, err := src.samples(r, half)
		if err != nil {
			return w, hs, err
		}
		hs[i] = summarise(ss, half.To-half.From)
		if hs[i].n() < steadySamples {
			return w, hs, fmt.Errorf("the %s half of the baseline has %s of %s, and it takes %d to call it steady", nth[i], plural(hs[i].n(), "answer"), src.Load+src.Workload, steadySamples)
		}
	}
	return w, hs, nil
}

var nth = [2]string{"first", "second"}

// steady is that the service answered well in both halves of the baseline: it was whole before it was broken.
func steady(src Source, r *record.Round) Finding {
	name := src.Load + src.Workload
	w, hs, err := halves(src, r)
	if err != nil {
		return premise("steady "+name, "steady", r.N, "", []string{err.Error()})
	}
	ev := Evidence{What: src.String() + " due in the two halves of the baseline", File: src.file(), Window: &w, Count: hs[0].n() + hs[1].n(), Values: map[string]float64{}}
	var why []string
	var shares [2]float64
	for i, h := range hs {
		shares[i] = float64(h.good) / float64(h.n())
		ev.Values["success, "+nth[i]+" half"] = shares[i]
		if shares[i] < steadySuccess && h.n()-h.good > 1 {
			why = append(why, fmt.Sprintf("the baseline of %s was not steady: success was %s in its %s half, and it takes %s", name, percent(shares[i]), nth[i], percent(steadySuccess)))
		}
	}
	return premise("steady "+name, "steady", r.N, fmt.Sprintf("success was %s and %s in the two halves of the baseline", percent(shares[0]), percent(shares[1])), why, ev)
}

// drift is that the latency of the baseline did not change while it was measured: what is relative to it has a meaning.
func drift(src Source, r *record.Round) Finding {
	name := src.Load + src.Workload
	w, hs, err := halves(src, r)
	if err != nil {
		return premise("drift "+name, "steady", r.N, "", []string{err.Error()})
	}
	ev := Evidence{What: src.String() + " due in the two halves of the baseline", File: src.file(), Window: &w, Count: hs[0].n() + hs[1].n(), Values: map[string]float64{}}
	var medians [2]time.Duration
	for i, h := range hs {
		medians[i] = h.latencies[rank(500, h.n())-1]
		ev.Values["p50, "+nth[i]+" half"] = medians[i].Seconds()
	}
	var why []string
	if lo, hi := min(medians[0], medians[1]), max(medians[0], medians[1]); hi > steadyRatio*lo && hi-lo > steadySlack {
		why = append(why, fmt.Sprintf("the baseline of %s drifted: the median latency was %s in its first half and %s in its second", name, seconds(medians[0]), seconds(medians[1])))
	}
	return premise("drift "+name, "steady", r.N, fmt.Sprintf("the median latency was %s and %s in the two halves of the baseline", seconds(medians[0]), seconds(medians[1])), why, ev)
}
