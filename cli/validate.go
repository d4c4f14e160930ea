package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hasvc/gauntlet/harness"
)

func validateCommand(*int) *cobra.Command {
	return &cobra.Command{
		Use:   "validate SCENARIO...",
		Short: "Check scenario files and their topologies, without running anything",
		Long: `Check scenario files and their topologies, without building or running anything. Every mistake of all of them is printed, with its
place. A scenario is valid when it makes sense; whether this version can execute it is said beside it.`,
		Args: atLeastOne("scenario", scenarioHint),
		RunE: func(c *cobra.Command, args []string) error {
			files, err := resolve(args)
			if err != nil {
				return err
			}
			var errs []error
			for _, file := range files {
				s, err := harness.Load(c.Context(), file)
				if err != nil {
					errs = append(errs, err)
					continue
				}
				p, err := s.Plan(s.Seed(nil), "")
				if err != nil {
					errs = append(errs, err)
					continue
				}
				out := c.OutOrStdout()
				why := harness.Unsupported(p)
				if len(why) == 0 {
					fmt.Fprintf(out, "%s: %s is valid\n", file, s.Name())
					continue
				}
				fmt.Fprintf(out, "%s: %s is valid, but this version cannot execute it:\n", file, s.Name())
				for _, w := range why {
					fmt.Fprintf(out, "  %s\n", w)
				}
			}
			return errors.Join(errs...)
		},
	}
}
