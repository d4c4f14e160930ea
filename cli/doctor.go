package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/hasvc/gauntlet/harness"
)

func doctorCommand(code *int) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor [DRIVER...]",
		Short: "Try, stage by stage, what this machine allows, and say what to do about the rest",
		Long: `Try the start of a small topology, stage by stage: what works is ok, the first stage that does not says what to do about it, and
what comes after it was not tried. Every driver is tried. The exit code is 0 when those that are named work (without names: the default),
and 3 when not.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			out := c.OutOrStdout()
			if len(args) == 0 {
				args = []string{harness.Drivers[0].Name}
			}
			for _, name := range args {
				if _, err := harness.DriverByName(name); err != nil {
					return err
				}
			}
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
						if s.Note != "" {
							fmt.Fprintf(out, "          %s\n", s.Note)
						}
						continue
					}
					fmt.Fprintf(out, "  FAILED  %-8s %s: %v\n", s.Name, s.Doc, s.Err)
					if s.Remedy != "" {
						fmt.Fprintf(out, "          %s\n", s.Remedy)
					}
					failed = true // what needs this stage was not tried
					if slices.Contains(args, d.Driver) {
						*code = exitInvalid
					}
				}
			}
			return nil
		},
	}
}
