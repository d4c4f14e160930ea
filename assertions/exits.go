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
}

// Validate returns every error.
func (a *Exits) Validate(s Scope) error {
	var errs []error
	for _, n := range a.Allow {
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

// Judge looks for deaths that nobody announced.
func (a *Exits) Judge(_ context.Context, _ *plan.Plan, r *record.Round) Finding {
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
		how := "by " + e.Signal
		if e.Signal == "" {
			how = "with an unknown status"
			if e.ExitCode != nil {
				how = fmt.Sprintf("with status %d", *e.ExitCode)
			}
		}
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
	return f
}
