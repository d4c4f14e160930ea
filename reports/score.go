package reports

import (
	"slices"

	"github.com/hasvc/gauntlet/assertions"
)

// Score is the resilience mutation score of a scenario: how many of its controls were killed. A control is the same run
// with one thing made wrong, and is killed when the assertions that it names fail.
type Score struct {
	Killed int `json:"killed"`
	Run    int `json:"run"` // without the A/A control
	// Unshown is how many of these showed nothing either way: neither killed nor alive.
	Unshown int `json:"unshown,omitempty"`
	// Noise is what the A/A control showed, the same run without a fault: quiet, noisy, when a bound was broken, or unshown,
	// when nothing was shown. Empty: it was not run.
	Noise string `json:"noise,omitempty"`
	// Worthless are the assertions that no control made fail: that they pass says nothing about whether they could fail.
	Worthless []string `json:"worthless,omitempty"`
}

// ScoreOf counts the controls of a result; the zero Score means that none were run.
func ScoreOf(r Result) Score {
	s := Score{}
	failed := map[string]bool{}
	for _, c := range r.Controls {
		if c.NoFault {
			s.Noise = map[assertions.Verdict]string{assertions.Pass: "quiet", assertions.Fail: "noisy", assertions.Invalid: "unshown"}[r.outcome(c)]
			continue
		}
		s.Run++
		switch r.outcome(c) {
		case assertions.Pass:
			s.Killed++
		case assertions.Fail:
			continue // what fails in a run that proves nothing does not count
		default:
			s.Unshown++
			continue
		}
		for _, f := range c.Findings {
			if f.Verdict == assertions.Fail {
				failed[f.ID] = true
			}
		}
	}
	if s.Run == 0 || r.Verdict != assertions.Pass {
		return s // beside a run that did not pass no control shows anything about an assertion
	}
	for _, a := range r.Run.Plan.Assert {
		if !failed[a.ID] && !slices.Contains(s.Worthless, a.ID) {
			s.Worthless = append(s.Worthless, a.ID)
		}
	}
	return s
}
