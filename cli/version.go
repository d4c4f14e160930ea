package cli

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/hasvc/gauntlet/harness"
)

func versionCommand(*int) *cobra.Command {
	var modules bool
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version; with --modules, those of all modules in it",
		Args:  none,
		RunE: func(c *cobra.Command, _ []string) error {
			out := c.OutOrStdout()
			fmt.Fprintln(out, "gauntlet", harness.Version())
			if i, ok := debug.ReadBuildInfo(); ok && modules {
				fmt.Fprintln(out, "go", i.GoVersion)
				for _, d := range i.Deps {
					fmt.Fprintln(out, d.Path, d.Version)
				}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&modules, "modules", false, "the versions of all modules in it")
	return c
}
