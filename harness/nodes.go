package harness

import (
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/record"
	"github.com/hasvc/gauntlet/harness/topology"
)

// nodes lists who belongs to what, for the record: an assertion about a group must know its members, also those
// that never answered.
func nodes(spec *cluster.Spec) []record.Node {
	var out []record.Node
	for _, s := range spec.Services {
		for _, name := range topology.NodeNames(s) {
			out = append(out, record.Node{Name: name, Service: s.Name, Group: s.Group, Zone: s.Zone})
		}
	}
	return out
}
