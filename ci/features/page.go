package main

import (
	"fmt"
	"strings"
)

// page is the page as Markdown.
func page(rows []row, controls []control) string {
	var b strings.Builder
	b.WriteString(`# Mechanisms, scenarios, controls

What the reference service can do, the scenario that shows it, and the control that shows that the scenario can tell: the same
run with the mechanism switched off, in which the assertion named must fail. Written by ` + "`go generate ./ci/features`" + ` from the
scenarios that ship, not by hand; how often each came out right is in [verdicts.md](verdicts.md).

| # | mechanism | defect | scenario | in | must fail |
|--:|---|---|---|---|---|
`)
	missing := 0
	for _, r := range rows {
		n, mechanism := fmt.Sprint(r.n), r.mechanism
		for _, d := range r.defects {
			found := false
			for _, c := range controls {
				if c.defect != d {
					continue
				}
				found = true
				in := c.service
				if in == "" {
					in = "all"
				}
				fmt.Fprintf(&b, "| %s | %s | `%s` | %s | %s | %s |\n", n, mechanism, d, c.scenario, in, strings.Join(c.mustFail, ", "))
				n, mechanism = "", ""
			}
			if !found {
				missing++
				fmt.Fprintf(&b, "| %s | %s | `%s` | none: tests of hasvc only | | |\n", n, mechanism, d)
				n, mechanism = "", ""
			}
		}
	}
	switch missing {
	case 0:
		b.WriteString("\nEvery defect has a control.\n")
	case 1:
		b.WriteString("\nOne defect has no control.\n")
	default:
		fmt.Fprintf(&b, "\n%d defects have no control.\n", missing)
	}
	return b.String()
}
