package topology

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// dependencies are the entries of depends_on that exist, sorted by name.
func (l *loading) dependencies(p *types.Project, c types.ServiceConfig) []cluster.Dependency {
	var out []cluster.Dependency
	for _, name := range slices.Sorted(maps.Keys(c.DependsOn)) {
		d := c.DependsOn[name]
		at := []string{"services", c.Name, "depends_on", name}
		if _, ok := p.Services[name]; !ok {
			_, off := p.DisabledServices[name]
			switch {
			case !d.Required:
			case off:
				l.fail(at, fmt.Sprintf("%s depends on %s, which is in a profile that is off", c.Name, name), "set COMPOSE_PROFILES, or required: false")
			default:
				l.fail(at, fmt.Sprintf("%s depends on %s, which is no service", c.Name, name), didYouMean(name, p.ServiceNames()))
			}
			continue
		}
		condition := d.Condition
		if condition == "" {
			condition = types.ServiceConditionStarted
		}
		out = append(out, cluster.Dependency{Service: name, Condition: condition})
	}
	return out
}

// checkDependencies finds what can never come true: circles, and conditions that the other service cannot fulfil.
func (l *loading) checkDependencies() {
	byName := map[string]*cluster.Service{}
	for i := range l.spec.Services {
		byName[l.spec.Services[i].Name] = &l.spec.Services[i]
	}
	for _, s := range l.spec.Services {
		for _, d := range s.DependsOn {
			at := []string{"services", s.Name, "depends_on", d.Service}
			on := byName[d.Service]
			switch d.Condition {
			case types.ServiceConditionStarted:
			case types.ServiceConditionHealthy:
				if on.Health == nil && on.Ready == nil {
					l.fail(at, fmt.Sprintf("%s waits for %s to be healthy, but that has no healthcheck", s.Name, d.Service), "give "+d.Service+" a healthcheck or x-gauntlet: {ready: ...}")
				}
			case types.ServiceConditionCompletedSuccessfully:
				if on.Restart.Policy == "always" || on.Restart.Policy == "unless-stopped" {
					l.fail(at, fmt.Sprintf("%s waits for %s to complete, but that is restarted for ever", s.Name, d.Service), "restart: on-failure, or no")
				}
			default:
				l.fail(at, fmt.Sprintf("condition: %q", d.Condition), didYouMean(d.Condition, []string{types.ServiceConditionStarted, types.ServiceConditionHealthy, types.ServiceConditionCompletedSuccessfully}))
			}
		}
	}
	const visiting, done = 1, 2
	state := map[string]int{}
	var visit func(name string, way []string)
	visit = func(name string, way []string) {
		way = append(way, name)
		state[name] = visiting
		for _, d := range byName[name].DependsOn {
			switch state[d.Service] {
			case visiting:
				circle := append(slices.Clone(way[slices.Index(way, d.Service):]), d.Service)
				l.fail([]string{"services", name, "depends_on", d.Service}, "the services depend on each other in a circle: "+strings.Join(circle, " -> "), "none of them could start first")
			case 0:
				visit(d.Service, way)
			}
		}
		state[name] = done
	}
	for _, s := range l.spec.Services {
		if state[s.Name] == 0 {
			visit(s.Name, nil)
		}
	}
}

// reserved words stand for nodes in scenario files.
var reserved = map[string]string{
	cluster.Client: "load and workloads start there",
	"all":          "it stands for all nodes",
	"group":        "it stands for the other members of a group",
}

// checkNames: each node, service, group and zone is meant by its name alone, so no name may stand for two things.
func (l *loading) checkNames() {
	node := map[string]string{} // node -> service
	for _, s := range l.spec.Services {
		path := []string{"services", s.Name}
		if why, ok := reserved[s.Name]; ok {
			l.fail(path, fmt.Sprintf("the name %s is reserved: %s", s.Name, why), "call the service something else")
		}
		for _, n := range NodeNames(s) {
			if other, ok := node[n]; ok {
				l.fail(path, fmt.Sprintf("the services %s and %s both have a node called %s", other, s.Name, n), "rename one")
			}
			node[n] = s.Name
		}
	}
	for _, s := range l.spec.Services {
		if other, ok := node[s.Name]; ok && other != s.Name {
			l.fail([]string{"services", s.Name}, fmt.Sprintf("%s is the name of a service and of a node of %s", s.Name, other), "rename one")
		}
	}
	for _, s := range l.spec.Services {
		for key, name := range map[string]string{"group": s.Group, "zone": s.Zone} {
			at := []string{"services", s.Name, "x-gauntlet", key}
			if why, ok := reserved[name]; ok {
				l.fail(at, fmt.Sprintf("the name %s is reserved: %s", name, why), "")
			}
			if of, ok := node[name]; ok {
				l.fail(at, fmt.Sprintf("%s is the name of a node of %s: it cannot be that of a %s too", name, of, key), "rename one")
			} else if slices.ContainsFunc(l.spec.Services, func(o cluster.Service) bool { return o.Name == name }) {
				l.fail(at, fmt.Sprintf("%s is the name of a service: it cannot be that of a %s too", name, key), "rename one")
			}
		}
		if s.Group != "" && slices.ContainsFunc(l.spec.Services, func(o cluster.Service) bool { return o.Zone == s.Group }) {
			l.fail([]string{"services", s.Name, "x-gauntlet", "group"}, fmt.Sprintf("%s is the name of a group and of a zone", s.Group), "rename one")
		}
	}
}

// NodeNames are the names of a service's nodes.
func NodeNames(s cluster.Service) []string {
	if !s.Scaled {
		return []string{s.Name}
	}
	out := make([]string, 0, max(0, s.Replicas))
	for i := 1; i <= s.Replicas; i++ {
		out = append(out, fmt.Sprintf("%s-%d", s.Name, i))
	}
	return out
}

// checkGroups: who leads is asked of all members of a group, in one way.
func (l *loading) checkGroups() {
	first := map[string]cluster.Service{}
	for _, s := range l.spec.Services {
		if s.Group == "" {
			if s.Leader != nil {
				l.fail([]string{"services", s.Name, "x-gauntlet", "leader"}, "who leads is asked of a group", "give the service a group")
			}
			continue
		}
		f, ok := first[s.Group]
		if !ok {
			first[s.Group] = s
			continue
		}
		if (f.Leader == nil) != (s.Leader == nil) || f.Leader != nil && *f.Leader != *s.Leader {
			l.fail([]string{"services", s.Name, "x-gauntlet"}, fmt.Sprintf("%s and %s are of the group %s, but say different things about its leader", f.Name, s.Name, s.Group), "give all members the same `leader`")
		}
	}
}

// checkNetworks: every node reaches every other. A file whose networks keep services apart cannot be honoured.
func (l *loading) checkNetworks(p *types.Project) {
	names := p.ServiceNames()
	for _, name := range names {
		for _, n := range slices.Sorted(maps.Keys(p.Services[name].Networks)) {
			at := []string{"services", name, "networks", n}
			if _, ok := p.Networks[n]; !ok {
				l.fail(at, fmt.Sprintf("the network %s is not declared", n), "add it to `networks:` at the top level, or leave networks out")
			}
			c := p.Services[name].Networks[n]
			if c == nil {
				continue
			}
			if slices.ContainsFunc(c.Aliases, func(a string) bool { return a != name }) {
				l.fail(at, "aliases cannot be honoured", "a node is reached by the name of its service")
			}
			if c.Ipv4Address != "" || c.Ipv6Address != "" || c.MacAddress != "" || len(c.LinkLocalIPs) > 0 || c.InterfaceName != "" {
				l.fail(at, "addresses and interfaces cannot be chosen", "nodes get their addresses from the harness; use names")
			}
		}
	}
	for i, a := range names {
		for _, b := range names[i+1:] {
			na, nb := p.Services[a].Networks, p.Services[b].Networks
			if len(na) == 0 || len(nb) == 0 {
				continue // network_mode: bridge
			}
			if !slices.ContainsFunc(slices.Collect(maps.Keys(na)), func(n string) bool { _, ok := nb[n]; return ok }) {
				l.fail([]string{"services", b, "networks"}, fmt.Sprintf("the networks of the file keep %s and %s apart, which cannot be honoured", a, b), "every node of a topology reaches every other; put all services on one network, or cut links by a fault")
				return // one pair shows it
			}
		}
	}
}
