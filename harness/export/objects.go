package export

import (
	"fmt"
	"maps"
	"slices"

	"github.com/compose-spec/compose-go/v2/types"
)

// defaultNetwork is Compose's name of the network of services that name none.
const defaultNetwork = "default"

func (s *swarm) networks() ordered {
	all := maps.Clone(s.project.Networks)
	if all == nil {
		all = types.Networks{}
	}
	for _, c := range s.project.Services {
		if _, ok := all[defaultNetwork]; len(c.Networks) == 0 && !ok {
			all[defaultNetwork] = types.NetworkConfig{}
		}
	}
	var out ordered
	for _, name := range slices.Sorted(maps.Keys(all)) {
		n := all[name]
		// Whatever the driver was: only an overlay joins machines.
		out = append(out, entry{name, networkObject{Driver: "overlay", Name: n.Name, Attachable: n.Attachable, Internal: n.Internal, Labels: n.Labels}})
	}
	return out
}

func (s *swarm) volumes() ordered {
	var out ordered
	for _, name := range slices.Sorted(maps.Keys(s.project.Volumes)) {
		v := s.project.Volumes[name]
		labels := maps.Clone(v.Labels) // a stack's are labels of the mounts of the volume
		for k := range labels {
			labels[k] = literal(labels[k])
		}
		out = append(out, entry{name, volumeObject{Name: v.Name, Labels: labels}})
	}
	return out
}

// files translates configs or secrets.
func files[T types.ConfigObjConfig | types.SecretConfig](s *swarm, section string, all map[string]T) ordered {
	var out ordered
	for _, name := range slices.Sorted(maps.Keys(all)) {
		f := types.FileObjectConfig(all[name])
		if f.File == "" {
			s.errs = append(s.errs, fmt.Errorf("%s: %s.%s has no word in a stack: its content must come from a file (file:)", s.spec.File, section, name))
		}
		out = append(out, entry{name, fileObject{Name: f.Name, File: s.relative(f.File), Labels: f.Labels}})
	}
	return out
}
