package assertions

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// Exits allows only the deaths that the harness or a fault brought about. A program that ends with status 0 before
// the baseline is a job that has done its work.
type Exits struct {
	Allow []string `json:"allow,omitempty" desc:"Nodes or services whose programs may end by themselves."`
	Clean []string `json:"clean,omitempty" desc:"Nodes or services whose programs end with status 0 when they are told to stop (SIGTERM) under load: within their grace, and with nothing cut off."`
}

// Validate returns every error.
func (a *Exits) Validate(s Scope) error {
	var errs []error
	for _, n := range slices.Concat(a.Allow, a.Clean) {
		if !slices.ContainsFunc(s.Services, func(svc string) bool { return belongs(n, svc) }) {
			errs = append(errs, oneOf("node or service", n, s.Services))
		}
	}
	return errors.Join(errs...)
}

// belongs reports whether a node is one of a service's, by their names.
func belongs(node, service string) bool {
	rest, ok := strings.CutPrefix(node, service)
	if !ok || rest == "" {
		return ok
	}
	ordinal, ok := strings.CutPrefix(rest, "-")
	return ok && ordinal != "" && strings.Trim(ordinal, "0123456789") == ""
}

// ended is how a program ended.
func ended(e record.Event) string {
	switch {
	case e.Signal != "":
		return "by " + e.Signal
	case e.ExitCode != nil:
		return fmt.Sprintf("with status %d", *e.ExitCode)
	}
	return "with an unknown status"
}

// unclean looks at the programs that were told to stop under load and must end with status 0: those that did not, and why nothing was
// shown.
func (a *Exits) unclean(r *record.Round) (bad []string, ev []Evidence, why string) {
	w, err := loaded(r)
	if err != nil {
		return nil, nil, err.Error()
	}
	told := map[string]bool{} // since the start of its program
	n := map[string]int{}     // by whom clean names
	for _, e := range r.Events {
		switch {
		case e.Kind == record.NodeStarted:
			told[e.Node] = false
		case e.Kind == record.NodeSignalled && e.Signal == "SIGTERM" && e.T >= w.From && e.T < w.To:
			told[e.Node] = true
		case e.Kind == record.NodeExited && told[e.Node]:
			i := slices.IndexFunc(a.Clean, func(n string) bool { return belongs(e.Node, n) })
			if i < 0 {
				continue
			}
			n[a.Clean[i]]++
			if e.Signal != "" || e.ExitCode == nil || *e.ExitCode != 0 {
				bad = append(bad, fmt.Sprintf("%s was told to stop and ended %s", e.Node, ended(e)))
				ev = append(ev, Evidence{What: "a program that did not end with status 0", File: record.EventsFile(), Nodes: []string{e.Node}, Detail: fmt.Sprintf("%s ended %s at %s", e.Node, ended(e), seconds(e.T))})
			}
		}
	}
	ev = ev[:min(len(ev), maxDetails)]
	for _, c := range a.Clean {
		if n[c] == 0 {
			return bad, ev, fmt.Sprintf("%s was not told to stop under load, or did not end", c)
		}
	}
	return bad, ev, ""
}

// hasFaults reports whether a round has faults, by its plan.
func hasFaults(p *plan.Plan, n int) bool {
	return slices.ContainsFunc(p.Rounds, func(pr plan.Round) bool { return pr.N == n && len(pr.Faults) > 0 })
}

// Judge looks for deaths that nobody announced, and for ends that were not clean.
func (a *Exits) Judge(_ context.Context, p *plan.Plan, r *record.Round) Finding {
	began, _, loaded := r.Phase(plan.PhaseBaseline)
	var announced, allowed, jobs, started int
	var nodes []string
	f := Finding{Verdict: Pass}
	for _, e := range r.Events {
		switch e.Kind {
		case record.NodeStarted:
			started++
			continue
		case record.NodeExited:
		default:
			continue
		}
		how := ended(e)
		switch {
		case e.Announced:
			announced++
		case slices.ContainsFunc(a.Allow, func(n string) bool { return belongs(e.Node, n) }):
			allowed++
		case e.Signal == "" && e.ExitCode != nil && *e.ExitCode == 0 && (!loaded || e.T < began):
			jobs++
		default:
			f.Verdict = Fail
			nodes = append(nodes, e.Node)
			if len(nodes) <= maxDetails {
				f.Evidence = append(f.Evidence, Evidence{What: "a death that no fault announced", File: record.EventsFile(), Nodes: []string{e.Node},
					Detail: fmt.Sprintf("%s ended %s at %s", e.Node, how, seconds(e.T))})
			}
		}
	}
	if f.Verdict == Fail && !loaded {
		// Nothing was measured: that a topology does not come up says nothing about what it withstands.
		f.Verdict = Invalid
		f.Reason = "the topology did not come up: " + list(slices.Compact(slices.Sorted(slices.Values(nodes)))) + " ended before anything was measured"
	}
	f.Evidence = append([]Evidence{{What: "programs that ended", File: record.EventsFile(), Count: announced + allowed + jobs + len(nodes), Values: map[string]float64{
		"announced": float64(announced), "allowed": float64(allowed), "finished jobs": float64(jobs), "not announced": float64(len(nodes)), "started": float64(started),
	}}}, f.Evidence...)
	switch {
	case len(nodes) > 0:
		f.Summary = fmt.Sprintf("%s that neither a fault nor the harness ended: %s", plural(len(nodes), "program"), list(slices.Compact(slices.Sorted(slices.Values(nodes)))))
	case started == 0:
		return invalid("the record has no start of a program")
	default:
		f.Summary = fmt.Sprintf("%s started, %s, all of them announced", plural(started, "program"), plural(announced, "death"))
		if allowed+jobs > 0 {
			f.Summary = fmt.Sprintf("%s started, %s announced, %d allowed, %s", plural(started, "program"), plural(announced, "death"), allowed, plural(jobs, "finished job"))
		}
	}
	if len(a.Clean) == 0 || f.Verdict == Invalid {
		return f
	}
	bad, ev, why := a.unclean(r)
	f.Evidence = append(f.Evidence, ev...)
	switch {
	case len(bad) > 0:
		f.Verdict = Fail
		f.Summary = strings.Join(bad, "; ") + "; " + f.Summary
	case why != "" && f.Verdict == Pass && hasFaults(p, r.N):
		f.Verdict, f.Reason = Invalid, why
	case why == "":
		f.Summary += "; who was told to stop under load ended with status 0"
	}
	return f
}
