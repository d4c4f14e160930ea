package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hasvc/gauntlet/harness"
	"github.com/hasvc/gauntlet/scenarios"
)

func explainCommand(*int) *cobra.Command {
	var seed uint64
	c := &cobra.Command{
		Use:   "explain SCENARIO...",
		Short: "Say what a scenario will do, with every drawn value, without doing it",
		Example: `  gauntlet explain store-leader-kill
  gauntlet explain --seed 7 my/scenario.yaml    what a run with this seed will draw`,
		Args: atLeastOne("scenario", scenarioHint),
		RunE: func(c *cobra.Command, args []string) error {
			loaded, err := load(c.Context(), args)
			if err != nil {
				return err
			}
			var asked *uint64
			if c.Flags().Changed("seed") {
				asked = &seed
			}
			for i, s := range loaded {
				p, err := s.Plan(s.Seed(asked), "")
				if err != nil {
					return err
				}
				out := c.OutOrStdout()
				if i > 0 {
					fmt.Fprintln(out)
				}
				if err := scenarios.Explain(out, p); err != nil {
					return err
				}
				if why := harness.Unsupported(p); len(why) > 0 {
					fmt.Fprintf(out, "\nNOT IN THIS VERSION  \"gauntlet run\" refuses this scenario\n")
					for _, w := range why {
						fmt.Fprintf(out, "  - %s\n", w)
					}
				}
			}
			return nil
		},
	}
	c.Flags().Uint64Var(&seed, "seed", 0, "draw everything random from this seed (default: the scenario's own, or a new one)")
	return c
}
