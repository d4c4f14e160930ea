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
		Args:  cobra.MinimumNArgs(1),
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
				fmt.Fprintf(c.OutOrStdout(), "%s: %s is valid\n", file, s.Name())
			}
			return errors.Join(errs...)
		},
	}
}
