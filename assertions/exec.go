package assertions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// Exec is a check of the user's. It runs in the phase verify; what it found and how it ended are in the record, and
// judged here.
//
// Each line of its standard output is a finding, a JSON object (UserFinding). Without one, status 0 is PASS and
// any other is INVALID: the check itself failed.
type Exec struct {
	Exec []string `json:"exec" jsonschema:"required" desc:"The program and its arguments. It prints findings as JSON lines: {\"verdict\": \"pass|fail|invalid\", \"summary\": \"...\", \"values\": {\"NAME\": 1.5}, \"detail\": \"...\"}."`
	In   string   `json:"in,omitempty" desc:"The node it runs in. Default client."`
}

// UserFinding is a line that a check prints.
type UserFinding struct {
	Verdict string             `json:"verdict"` // pass | fail | invalid
	Summary string             `json:"summary"`
	Values  map[string]float64 `json:"values,omitempty"`
	Nodes   []string           `json:"nodes,omitempty"`
	Detail  string             `json:"detail,omitempty"`
}

// Validate returns every error.
func (a *Exec) Validate(Scope) error {
	if len(a.Exec) == 0 || a.Exec[0] == "" {
		return errors.New("exec is missing: the program and its arguments, such as [mydbload, check]")
	}
	return nil
}

// Judge is done by judgeFor: a program's events are found by the id of the assertion.
func (a *Exec) Judge(ctx context.Context, p *plan.Plan, r *record.Round) Finding {
	return invalid("an exec assertion is judged by its id")
}

// judgeFor merges what the program printed with how it ended.
func (a *Exec) judgeFor(id string, r *record.Round) Finding {
	f := Finding{}
	var verdicts []Verdict
	var said, broken []string
	var end *record.Event
	for i := range r.Events {
		e := &r.Events[i]
		switch {
		case e.ID != id:
		case e.Kind == record.ExecEnd && e.Fault == "":
			end = e
		case e.Kind == record.UserFinding:
			u, v, err := readUser(e)
			verdicts = append(verdicts, v)
			if err != nil {
				broken = append(broken, err.Error())
				continue
			}
			said = append(said, u.Summary)
			if len(f.Evidence) < maxDetails || v != Pass {
				f.Evidence = append(f.Evidence, Evidence{What: v.String() + ": " + u.Summary, File: record.EventsFile(), Nodes: u.Nodes, Values: u.Values, Detail: u.Detail})
			}
		}
	}
	ended := "did not run"
	switch {
	case end == nil:
		verdicts = append(verdicts, Invalid)
		broken = append(broken, "the program did not run")
	case end.Error != "":
		verdicts = append(verdicts, Invalid)
		ended = "could not be run"
		broken = append(broken, "the program could not be run: "+end.Error)
	case end.Signal != "" || end.ExitCode == nil:
		verdicts = append(verdicts, Invalid)
		ended = "was ended by " + end.Signal
		broken = append(broken, "the program "+ended+more(end.Evidence))
	default:
		ended = fmt.Sprintf("exited with %d", *end.ExitCode)
		// A check may well exit with 1 to say that it failed, once it has said so in a finding.
		if *end.ExitCode != 0 && Worst(verdicts...) != Fail {
			verdicts = append(verdicts, Invalid)
			broken = append(broken, "the program "+ended+" without a finding that fails"+more(end.Evidence))
		} else {
			verdicts = append(verdicts, Pass)
		}
	}
	f.Verdict = Worst(verdicts...)
	f.Summary = fmt.Sprintf("%s printed %s and %s", strings.Join(a.Exec, " "), plural(len(said), "finding"), ended)
	if len(said) > 0 {
		f.Summary = strings.Join(said, "; ") + " (" + f.Summary + ")"
	}
	if f.Verdict == Invalid {
		f.Reason = strings.Join(broken, "; ")
		if f.Reason == "" {
			f.Reason = "the program says so: " + strings.Join(said, "; ")
		}
	}
	return f
}

func more(evidence string) string {
	if evidence == "" {
		return ""
	}
	return ": " + evidence
}

func readUser(e *record.Event) (UserFinding, Verdict, error) {
	var u UserFinding
	if e.Error != "" {
		return u, Invalid, errors.New(e.Error)
	}
	if err := json.Unmarshal(e.Data, &u); err != nil {
		return u, Invalid, fmt.Errorf("a line is no finding: %w", err)
	}
	for _, v := range []Verdict{Invalid, Pass, Fail} {
		if strings.EqualFold(u.Verdict, v.String()) {
			if u.Summary == "" {
				u.Summary = "no summary"
			}
			return u, v, nil
		}
	}
	return u, Invalid, fmt.Errorf("a finding has the verdict %q, which is none of pass, fail, invalid", u.Verdict)
}
