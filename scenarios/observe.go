package scenarios

import (
	"slices"

	"github.com/hasvc/gauntlet/faults"
	"github.com/hasvc/gauntlet/harness/plan"
)

// observer is an assertion that counts calls on links.
type observer interface{ Observes() []plan.LinkEnds }

// observed are the links whose calls are to be read.
func (f *File) observed() (links []plan.LinkEnds) {
	add := func(l plan.LinkEnds) {
		if l.From != "" && l.To != "" && !slices.Contains(links, l) {
			links = append(links, l)
		}
	}
	for i := range f.Faults {
		if r, ok := f.Faults[i].Params.(faults.ReplyLinks); ok {
			add(plan.LinkEnds(r.ReplyLinks()))
		}
	}
	for _, a := range f.Assert {
		if o, ok := a.Params.(observer); ok {
			for _, l := range o.Observes() {
				add(l)
			}
		}
	}
	return links
}
