package supervise

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// Check says everything that is wrong with a spec, before anything starts. own, when not nil, is asked what the driver
// has against a service.
func Check(spec *cluster.Spec, own func(*cluster.Service) []error) error {
	var errs []error
	seen := map[string]string{cluster.Client: "the node of load and workloads"}
	for i := range spec.Services {
		s := &spec.Services[i]
		fail := func(format string, a ...any) {
			errs = append(errs, fmt.Errorf("service %s: %w", s.Name, fmt.Errorf(format, a...)))
		}
		if s.Name == "" || strings.ContainsAny(s.Name, "/\x00") {
			fail("not a name")
		}
		for _, name := range names(s, 1, replicaCount(s)) {
			if by := seen[name]; by != "" {
				fail("node %s is also %s", name, by)
			}
			seen[name] = "a node of service " + s.Name
		}
		if err := checkCondition(s.Ready); err != nil {
			fail("%w", err)
		}
		if s.StopSignal != "" {
			if _, err := ParseSignal(s.StopSignal); err != nil {
				fail("stop_signal: %w", err)
			}
		}
		switch s.Restart.Policy {
		case "", "no", "on-failure", "always", "unless-stopped":
		default:
			fail("restart %q; one of no, on-failure, always, unless-stopped", s.Restart.Policy)
		}
		if own != nil {
			for _, err := range own(s) {
				fail("%w", err)
			}
		}
	}
	if _, err := levels(spec.Services); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// levels sorts services so that each comes after those it depends on, or says why that cannot be.
func levels(services []cluster.Service) ([]string, error) {
	waits := map[string][]string{}
	for _, s := range services {
		waits[s.Name] = nil
		for _, d := range s.DependsOn {
			waits[s.Name] = append(waits[s.Name], d.Service)
		}
	}
	var sorted []string
	state := map[string]int{} // 1: being visited, 2: done
	var visit func(name string, path []string) error
	visit = func(name string, path []string) error {
		deps, known := waits[name]
		path = append(path, name)
		switch {
		case !known:
			return fmt.Errorf("service %s depends on %s, which is no service", path[len(path)-2], name)
		case state[name] == 1:
			return fmt.Errorf("services depend on each other: %s", strings.Join(path[slices.Index(path, name):], " -> "))
		case state[name] == 2:
			return nil
		}
		state[name] = 1
		for _, d := range deps {
			if err := visit(d, path); err != nil {
				return err
			}
		}
		state[name] = 2
		sorted = append(sorted, name)
		return nil
	}
	for _, s := range services {
		if err := visit(s.Name, nil); err != nil {
			return nil, err
		}
	}
	return sorted, nil
}
