package cli

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/hasvc/gauntlet/harness"
	"github.com/hasvc/gauntlet/reports"
)

// outputFlag is -o of the verbs that print results.
func outputFlag(c *cobra.Command, format *string) {
	c.Flags().StringVarP(format, "output", "o", "text", "print the results as "+formatNames())
}

func formatNames() string {
	var names []string
	for _, f := range reports.Table {
		names = append(names, f.Name)
	}
	return strings.Join(names, "|")
}

func formatByName(name string) (reports.Format, error) {
	for _, f := range reports.Table {
		if f.Name == name {
			return f, nil
		}
	}
	return reports.Format{}, &harness.InputError{Err: fmt.Errorf("no output format is called %q; there are: %s", name, formatNames())}
}

// render prints results, and what was not run. Text for people is coloured when they look at it: on a terminal, unless NO_COLOR is set
// (no-color.org: to anything but nothing).
func render(f reports.Format, w io.Writer, results []reports.Result, unrun ...reports.Unrun) error {
	if f.Name == "text" {
		return reports.TextOptions{Color: isTerminal(w) && os.Getenv("NO_COLOR") == ""}.Render(w, results, unrun...)
	}
	return f.Render(w, results, unrun...)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

func driverNames() string {
	var names []string
	for _, d := range harness.Drivers {
		names = append(names, d.Name)
	}
	return strings.Join(names, "|")
}
