package cluster

import "fmt"

// Planned lists the nodes that a Spec starts with, without addresses and logs.
func Planned(spec *Spec) []NodeInfo {
	var nodes []NodeInfo
	for _, s := range spec.Services {
		for i := 1; i <= s.Replicas; i++ {
			nodes = append(nodes, NodeInfo{Name: NodeName(&s, i), Service: s.Name, Group: s.Group, Zone: s.Zone, Ordinal: i, Scaled: s.Scaled})
		}
	}
	return nodes
}

// NodeName is the name of a service's node with an ordinal, counted from 1.
func NodeName(s *Service, ordinal int) string {
	if !s.Scaled {
		return s.Name
	}
	return fmt.Sprintf("%s-%d", s.Name, ordinal)
}
