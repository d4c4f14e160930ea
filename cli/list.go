package cli

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/hasvc/gauntlet/assertions"
	"github.com/hasvc/gauntlet/faults"
	"github.com/hasvc/gauntlet/harness"
	"github.com/hasvc/gauntlet/reports"
	"github.com/hasvc/gauntlet/scenarios"
)

func listCommand(*int) *cobra.Command {
	what := []string{"scenarios", "faults", "assertions", "drivers", "formats"}
	return &cobra.Command{
		Use:       "list [" + strings.Join(what, "|") + "]",
		Short:     "List the scenarios that ship with it, or the faults, assertions, drivers or formats there are",
		ValidArgs: what,
		Args:      oneOf(what),
		RunE: func(c *cobra.Command, args []string) error {
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)
			row := func(name, doc, unsupported string) {
				if unsupported != "" {
					doc += " (not in this version)"
				}
				fmt.Fprintf(w, "%s\t%s\n", name, doc)
			}
			kind := "scenarios"
			if len(args) > 0 {
				kind = args[0]
			}
			switch kind {
			case "scenarios":
				for _, s := range scenarios.Shipped() {
					row(s.Name, s.Summary, "")
				}
			case "faults":
				for _, k := range faults.Table {
					row(k.Name, k.Doc, k.Unsupported)
				}
			case "assertions":
				for _, k := range assertions.Table {
					row(k.Name, k.Doc, k.Unsupported)
				}
			case "drivers":
				for _, d := range harness.Drivers {
					row(d.Name, d.Doc, "")
				}
			case "formats":
				for _, f := range reports.Table {
					row(f.Name, f.Doc, "")
				}
			}
			return w.Flush()
		},
	}
}
