package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hasvc/gauntlet/faults"
	"github.com/hasvc/gauntlet/harness/cluster"
)

// page is the page as Markdown.
func page(table []faults.Kind, columns []column) string {
	var b strings.Builder
	var notes footnotes
	b.WriteString(`# What each driver carries

Written by ` + "`go generate ./ci/drivers`" + ` from the table of faults and from the drivers, not by hand. What a driver carries it may
still lack on one machine: ` + "`gauntlet doctor`" + ` says what and why, and a run that needs it is refused before it starts.

`)
	for _, c := range columns {
		fmt.Fprintf(&b, "- **%s**: %s\n", c.name, c.doc)
	}
	b.WriteString("\n")
	header := func(first ...string) {
		for _, c := range columns {
			first = append(first, c.name)
		}
		fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(first, " | "), strings.Repeat("---|", len(first)))
	}
	header("fault", "layer", "needs")
	for _, k := range table {
		var needs []string
		for _, c := range k.Needs {
			needs = append(needs, string(c))
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |", k.Name, k.Layer, strings.Join(needs, ", "))
		for _, c := range columns {
			why := c.later
			if why == "" {
				why = c.missing(k)
			}
			fmt.Fprintf(&b, " %s |", notes.mark(why))
		}
		b.WriteString("\n")
	}
	b.WriteString("\nThe limits that a Compose file sets for a service (`deploy.resources.limits`):\n\n")
	header("limit")
	for _, limit := range []cluster.Capability{cluster.CPULimit, cluster.MemoryLimit} {
		fmt.Fprintf(&b, "| %s |", limit)
		for _, c := range columns {
			why := c.later
			if why == "" {
				why = c.lacks(limit)
			}
			fmt.Fprintf(&b, " %s |", notes.mark(why))
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	for i, n := range notes {
		fmt.Fprintf(&b, "[^%d]: %s\n", i+1, n)
	}
	return b.String()
}

// missing says why the driver cannot execute a fault; empty when it can.
func (c column) missing(k faults.Kind) string {
	if k.Unsupported != "" {
		return "the format knows this fault; no driver can execute it yet"
	}
	for _, need := range k.Needs {
		if why := c.lacks(need); why != "" {
			return why
		}
	}
	return ""
}

// lacks says why the driver has no such capability on any machine; empty when it has.
func (c column) lacks(need cluster.Capability) string {
	if _, has := c.carries[need]; has {
		return ""
	}
	return fmt.Sprintf("the %s driver has no %s", c.name, need)
}

// footnotes are the reasons, each once.
type footnotes []string

// mark is the cell of a driver that does not carry something for a reason, or that does when there is none.
func (f *footnotes) mark(why string) string {
	if why == "" {
		return "yes"
	}
	i := slices.Index(*f, why)
	if i < 0 {
		i = len(*f)
		*f = append(*f, why)
	}
	return fmt.Sprintf("no[^%d]", i+1)
}
