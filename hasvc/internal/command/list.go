package command

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
)

func listConfig(_ context.Context, c call) int {
	if !c.noArguments("config") {
		return exitUsage
	}
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "VARIABLE\tDEFAULT\tMEANING")
	for _, v := range config.Table {
		fmt.Fprintf(t, "%s\t%s\t%s\n", v.Name, v.Default, v.Doc)
	}
	return flushed(t, c)
}

func listDefects(_ context.Context, c call) int {
	if !c.noArguments("defects") {
		return exitUsage
	}
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "DEFECT\tMECHANISM\tROLES\tWITH IT A REPLICA")
	for _, d := range defect.Table {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", d.Name, d.Mechanism, d.Roles, d.Does)
	}
	return flushed(t, c)
}

func flushed(t *tabwriter.Writer, c call) int {
	if err := t.Flush(); err != nil {
		fmt.Fprintf(c.stderr, "hasvc: writing: %v\n", err)
		return exitFailed
	}
	return exitOK
}
