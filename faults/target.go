package faults

import (
	"errors"
	"fmt"

	"github.com/hasvc/gauntlet/harness/plan"
)

// ValidateTarget returns what is wrong with a selection, whatever names exist.
func ValidateTarget(t plan.Target) error {
	named := 0
	for _, s := range []string{t.Node, t.Service, t.Group, t.Zone} {
		if s != "" {
			named++
		}
	}
	var errs []error
	switch {
	case named == 0:
		errs = append(errs, errors.New("which nodes? name one of node, service, group, zone"))
	case named > 1:
		errs = append(errs, errors.New("name only one of node, service, group, zone"))
	}
	errs = append(errs, t.Pick.Validate())
	if t.Node != "" && t.Pick != "" {
		errs = append(errs, fmt.Errorf("node %s is one node: pick has nothing to pick", t.Node))
	}
	return errors.Join(errs...)
}
