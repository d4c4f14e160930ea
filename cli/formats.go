package cli

import (
	"fmt"
	"strings"

	"github.com/hasvc/gauntlet/harness"
	"github.com/hasvc/gauntlet/reports"
)

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

func driverNames() string {
	var names []string
	for _, d := range harness.Drivers {
		names = append(names, d.Name)
	}
	return strings.Join(names, "|")
}
