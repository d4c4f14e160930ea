package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hasvc/gauntlet/harness"
)

func cleanCommand(*int) *cobra.Command {
	return &cobra.Command{
		Use:   "clean",
		Short: "Remove what runs that were killed have left; runs that are going on are not touched",
		Args:  none,
		RunE: func(c *cobra.Command, _ []string) error {
			removed, err := harness.Clean(c.Context())
			for _, r := range removed {
				fmt.Fprintln(c.OutOrStdout(), "removed", r)
			}
			if err == nil && len(removed) == 0 {
				fmt.Fprintln(c.OutOrStdout(), "nothing was left")
			}
			return err
		},
	}
}
