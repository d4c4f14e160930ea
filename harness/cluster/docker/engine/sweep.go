package engine

import (
	"context"
	"errors"
	"slices"
)

// Sweep removes what runs left whose harness is dead: containers, networks, volumes. It returns their names. What another
// machine's harness made, or one that lives, is not touched.
func (e *Engine) Sweep(ctx context.Context) (removed []string, err error) {
	f := label(LabelOurs, "1")
	containers, networks, err := e.list(ctx, f)
	if err != nil {
		return nil, err
	}
	volumes, err := e.listVolumes(ctx, f)
	if err != nil {
		return nil, err
	}
	containers, networks = abandoned(containers), abandoned(networks)
	errs := []error{e.remove(ctx, containers, networks)}
	for _, t := range abandoned(volumes) {
		err := e.removeVolume(ctx, t.name)
		errs = append(errs, err)
		if err == nil {
			removed = append(removed, t.String())
		}
	}
	left, more, err := e.list(ctx, f)
	errs = append(errs, err)
	still := map[string]bool{}
	for _, t := range append(left, more...) {
		still[t.id] = true
	}
	for _, t := range append(containers, networks...) {
		if !still[t.id] {
			removed = append(removed, t.String())
		}
	}
	return removed, errors.Join(errs...)
}

// Lives reports whether a container or a network stands of a run whose harness is not known to be dead.
func (e *Engine) Lives(ctx context.Context) (bool, error) {
	containers, networks, err := e.list(ctx, label(LabelOurs, "1"))
	if err != nil {
		return false, err
	}
	return living(containers) || living(networks), nil
}

// living reports whether one of the things has an owner who is not known to be dead.
func living(all []thing) bool {
	return slices.ContainsFunc(all, func(t thing) bool {
		o, err := parseOwner(t.labels[LabelOwner])
		return err == nil && !o.abandoned()
	})
}

// abandoned returns the things whose owner is known to be dead.
func abandoned(all []thing) []thing {
	var dead []thing
	for _, t := range all {
		if o, err := parseOwner(t.labels[LabelOwner]); err == nil && o.abandoned() { // what it cannot read is not ours
			dead = append(dead, t)
		}
	}
	return dead
}
