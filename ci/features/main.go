// Features writes the page of what the reference service can do, which scenario shows it, and which control shows that the
// scenario can tell: from the controls of the scenarios that ship.
//
//	go run ./ci/features > docs/features.md
package main

//go:generate sh -c "go run . > ../../docs/features.md"

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hasvc/gauntlet/harness"
)

func main() {
	controls, err := catalogue(context.Background(), "../../scenarios")
	if err == nil {
		_, err = os.Stdout.WriteString(page(rows, controls))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "features:", err)
		os.Exit(1)
	}
}

// control is one by defect, of a scenario.
type control struct {
	scenario, defect, service string
	mustFail                  []string // as "id (kind)"
}

// catalogue reads the controls by defect of every scenario of a directory.
func catalogue(ctx context.Context, dir string) ([]control, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	var all []control
	for _, file := range files {
		s, err := harness.Load(ctx, file)
		if err != nil {
			return nil, err
		}
		p, err := s.Plan(1, "")
		if err != nil {
			return nil, err
		}
		kinds := map[string]string{}
		for _, a := range p.Assert {
			kinds[a.ID] = a.Kind
		}
		for _, c := range p.Controls {
			if c.Defect == "" {
				continue
			}
			x := control{scenario: p.Name, defect: c.Defect, service: c.Service}
			for _, id := range c.MustFail {
				x.mustFail = append(x.mustFail, id+" ("+kinds[id]+")")
			}
			all = append(all, x)
		}
	}
	return all, nil
}
