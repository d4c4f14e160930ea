package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/hasvc/gauntlet/harness"
	"github.com/hasvc/gauntlet/reports"
)

func reportCommand(code *int) *cobra.Command {
	c, format := overRuns(code, func(_ context.Context, dir string) (*reports.Result, error) { return harness.Findings(dir) })
	c.Use = "report RUN..."
	c.Short = "Print the findings of run directories, in any format"
	c.Long = `Print the findings of run directories, in any format, as they were judged at the end of the run or by "gauntlet check". The exit
code is that of the worst verdict.`
	c.Example = "  gauntlet report -o junit runs/store-leader-kill-1 > results.xml"
	outputFlag(c, format)
	return c
}
