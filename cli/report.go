package cli

import (
	"github.com/spf13/cobra"

	"github.com/hasvc/gauntlet/harness"
	"github.com/hasvc/gauntlet/reports"
)

func reportCommand(*int) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "report RUN...",
		Short: "Render the findings of run directories that were judged",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			f, err := formatByName(format)
			if err != nil {
				return err
			}
			var results []reports.Result
			for _, dir := range args {
				r, err := harness.Findings(dir)
				if err != nil {
					return err
				}
				results = append(results, *r)
			}
			return f.Render(c.OutOrStdout(), results)
		},
	}
	c.Flags().StringVarP(&format, "output", "o", "text", "what to print: "+formatNames())
	return c
}
