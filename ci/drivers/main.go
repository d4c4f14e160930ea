// Drivers writes the page of what each driver carries, from the table of faults and from what the drivers say that they
// can do.
//
//	go run ./ci/drivers > docs/drivers.md
package main

//go:generate sh -c "go run . > ../../docs/drivers.md"

import (
	"fmt"
	"os"

	"github.com/hasvc/gauntlet/faults"
	"github.com/hasvc/gauntlet/harness"
	"github.com/hasvc/gauntlet/harness/cluster"
)

func main() {
	if _, err := os.Stdout.WriteString(page(faults.Table, columns())); err != nil {
		fmt.Fprintln(os.Stderr, "drivers:", err)
		os.Exit(1)
	}
}

// column is a driver of the page.
type column struct {
	name, doc string
	carries   cluster.Capabilities // of this machine: only the keys are used, which are the same on all
	later     string               // why it carries nothing yet; empty: it does
}

// columns are the drivers that there are, and the one that the design still has in store.
func columns() []column {
	var all []column
	for _, d := range harness.Drivers {
		all = append(all, column{name: d.Name, doc: d.Doc, carries: d.New().Capabilities()})
	}
	return append(all, column{name: "kubernetes", doc: "pods with a sidecar", later: "there is no driver for Kubernetes yet"})
}
