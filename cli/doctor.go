package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hasvc/gauntlet/harness"
)

func doctorCommand(code *int) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Try, stage by stage, what this machine allows, and say what to do about the rest",
		Args:  none,
		RunE: func(c *cobra.Command, _ []string) error {
			out := c.OutOrStdout()
			for _, d := range harness.Doctor(c.Context()) {
				fmt.Fprintf(out, "%s\n", d.Driver)
				for _, s := range d.Stages {
					if s.Err == nil {
						fmt.Fprintf(out, "  ok      %-8s %s\n", s.Name, s.Doc)
						continue
					}
					fmt.Fprintf(out, "  FAILED  %-8s %s: %v\n", s.Name, s.Doc, s.Err)
					if s.Remedy != "" {
						fmt.Fprintf(out, "          %s\n", s.Remedy)
					}
					*code = exitInvalid
				}
			}
			return nil
		},
	}
}
