package cli

import (
	"github.com/spf13/cobra"

	"github.com/hasvc/gauntlet/scenarios"
)

func schemaCommand(*int) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON schema of scenario files, for editors",
		Args:  none,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := c.OutOrStdout().Write(scenarios.SchemaJSON)
			return err
		},
	}
}
