package cli

import (
	"github.com/spf13/cobra"

	"github.com/hasvc/gauntlet/harness"
	"github.com/hasvc/gauntlet/scenarios"
)

func explainCommand(*int) *cobra.Command {
	var seed uint64
	c := &cobra.Command{
		Use:   "explain SCENARIO...",
		Short: "Say what a scenario will do, with every drawn value, without doing it",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			files, err := resolve(args)
			if err != nil {
				return err
			}
			var asked *uint64
			if c.Flags().Changed("seed") {
				asked = &seed
			}
			for _, file := range files {
				s, err := harness.Load(c.Context(), file)
				if err != nil {
					return err
				}
				p, err := s.Plan(s.Seed(asked), "")
				if err != nil {
					return err
				}
				if err := scenarios.Explain(c.OutOrStdout(), p); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().Uint64Var(&seed, "seed", 0, "draw everything random from this seed (default: the scenario's own, or a new one)")
	return c
}
