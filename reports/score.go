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
	// Noise is what the A/A control showed, the same run without a fault: quiet, or noisy, when a bound was broken or nothing
	// was shown. Empty: it was not run.
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
			s.Noise = map[bool]string{true: "quiet", false: "noisy"}[c.Killed]
			continue
		}
		s.Run++
		if !c.Killed {
			continue // what fails in a run that proves nothing does not count
		}
		s.Killed++
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
