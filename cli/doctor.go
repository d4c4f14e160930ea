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
		Long: `Try the start of a small topology, stage by stage: what works is ok, the first stage that does not says what to do about it, and
what comes after it was not tried. The exit code is 0 when everything works, and 3 when not.`,
		Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			out := c.OutOrStdout()
			for _, d := range harness.Doctor(c.Context()) {
				fmt.Fprintf(out, "%s\n", d.Driver)
				failed := false
				for _, s := range d.Stages {
					if failed {
						fmt.Fprintf(out, "  -       %-8s %s\n", s.Name, s.Doc)
						continue
					}
					if s.Err == nil {
						fmt.Fprintf(out, "  ok      %-8s %s\n", s.Name, s.Doc)
						continue
					}
					fmt.Fprintf(out, "  FAILED  %-8s %s: %v\n", s.Name, s.Doc, s.Err)
					if s.Remedy != "" {
						fmt.Fprintf(out, "          %s\n", s.Remedy)
					}
					failed = true // what needs this stage was not tried
					*code = exitInvalid
				}
			}
			return nil
		},
	}
}
