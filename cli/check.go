package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/hasvc/gauntlet/harness"
	"github.com/hasvc/gauntlet/reports"
)

func checkCommand(code *int) *cobra.Command {
	c, format := overRuns(code, harness.Check)
	c.Use = "check RUN..."
	c.Short = "Judge run directories again, from their files alone"
	c.Long = `Judge run directories again, from their files alone: nothing is started and nothing is dialled. The findings in the directory are
replaced (findings.json, run.json, junit.xml) and printed. The exit code is that of the worst verdict.`
	c.Example = "  gauntlet check runs/store-leader-kill-1"
	outputFlag(c, format)
	return c
}

// overRuns is a command that prints a result for each run directory.
func overRuns(code *int, result func(context.Context, string) (*reports.Result, error)) (*cobra.Command, *string) {
	format := new(string)
	return &cobra.Command{
		Args: atLeastOne("run directory", runHint),
		RunE: func(c *cobra.Command, args []string) error {
			f, err := formatByName(*format)
			if err != nil {
				return err
			}
			var results []reports.Result
			var errs []error
			for _, dir := range args {
				if c.Context().Err() != nil {
					break
				}
				r, err := result(c.Context(), dir)
				errs = append(errs, err)
				if r != nil { // it was judged, and cannot be written down
					results = append(results, *r)
				}
			}
			if len(results) > 0 {
				*code = verdictCode(reports.Overall(results))
				errs = append(errs, render(f, c.OutOrStdout(), results))
			}
			return errors.Join(errs...)
		},
	}, format
}
