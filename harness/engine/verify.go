package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/record"
)

// verifyTimeout bounds what one workload reads back, and one check of the user's.
const verifyTimeout = 30 * time.Second

// verify lets workloads read back what they wrote, and runs the user's own checks. What fails is in the record, and
// the findings that need it are INVALID.
func (rd *round) verify(ctx context.Context) error {
	rd.Progress("verifying")
	for _, w := range rd.Plan.Workloads {
		limited, cancel := context.WithTimeoutCause(ctx, verifyTimeout, fmt.Errorf("verify took longer than %v", verifyTimeout))
		err := rd.workloads[w.Name].Verify(limited)
		cancel()
		if err == nil {
			continue
		}
		err = attribute("workload "+w.Name, err)
		if dead, ok := rd.deaths.Load(w.Name); ok && dead.(error).Error() == err.Error() {
			continue // it died before and says so again
		}
		rd.w.Event(record.Event{Kind: record.Failure, ID: w.Name, Error: fmt.Sprintf("verify: %v", err)})
	}
	var errs []error
	for _, a := range rd.Plan.Assert {
		if a.Kind != "exec" {
			continue
		}
		var p struct {
			Exec []string `json:"exec"`
			In   string   `json:"in"`
		}
		if err := json.Unmarshal(a.Params, &p); err != nil {
			return fmt.Errorf("assertion %s: %w", a.ID, err)
		}
		errs = append(errs, rd.check(ctx, a.ID, p.Exec, p.In))
	}
	return errors.Join(errs...)
}

// check runs a program of the user's that prints findings as JSON lines.
func (rd *round) check(ctx context.Context, id string, argv []string, in string) error {
	if in == "" {
		in = cluster.Client
	}
	ctx, cancel := context.WithTimeoutCause(ctx, verifyTimeout, fmt.Errorf("check %s took longer than %v", id, verifyTimeout))
	defer cancel()
	var out, errOut bytes.Buffer
	end := record.Event{Kind: record.ExecEnd, ID: id}
	x, err := rd.cluster.Exec(ctx, in, cluster.Process{Argv: argv, Stdout: &out, Stderr: &errOut})
	if err == nil {
		var exit cluster.Exit
		if exit, err = x.Wait(); err == nil {
			end.ExitCode, end.Signal = &exit.Code, exit.Signal
			end.Evidence = lastLine(errOut.Bytes())
		}
	}
	for i, line := range bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n")) {
		switch {
		case len(line) == 0:
		case json.Valid(line):
			rd.w.Event(record.Event{Kind: record.UserFinding, ID: id, Data: json.RawMessage(line)})
		default:
			rd.w.Event(record.Event{Kind: record.UserFinding, ID: id, Error: fmt.Sprintf("line %d of its output is no JSON: %q", i+1, line)})
		}
	}
	if err != nil {
		end.Error = err.Error()
	}
	rd.w.Event(end)
	return context.Cause(ctx)
}
