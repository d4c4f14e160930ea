package topology

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// DefectVariable switches the reference service's defects on.
const DefectVariable = "HASVC_DEFECT"

// RunsHasvc reports whether a service's program is the reference service, which knows defects.
func RunsHasvc(s cluster.Service) bool {
	pkg, _, _ := strings.Cut(s.Source.Go, "@")
	return path.Base(pkg) == "hasvc" || path.Base(s.Source.Exec) == "hasvc"
}

// change applies the flags and defects of a control.
func (l *loading) change() {
	var services, groups []string
	for _, s := range l.spec.Services {
		services = append(services, s.Name)
		if s.Group != "" && !slices.Contains(groups, s.Group) {
			groups = append(groups, s.Group)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.opt.Flags)) {
		n := l.each(func(s *cluster.Service) bool { return s.Name == name || s.Group == name }, func(s *cluster.Service) {
			if s.OwnCommand() {
				l.fail([]string{"services", s.Name}, fmt.Sprintf("flags were to be added to the command of %s, which is its image's and not known here", s.Name), "write the command out (command:)")
			}
			s.Command = append(slices.Clone(s.Command), l.opt.Flags[name]...)
		})
		if n == 0 {
			l.fail(nil, fmt.Sprintf("flags were to be added to %s, which is no service or group", name), didYouMean(name, append(services, groups...)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.opt.Defects)) {
		add := strings.Join(l.opt.Defects[name], ",")
		n := l.each(func(s *cluster.Service) bool { return s.Name == name || name == "" && RunsHasvc(*s) }, func(s *cluster.Service) {
			s.Env[DefectVariable] = strings.TrimPrefix(s.Env[DefectVariable]+","+add, ",")
		})
		if n == 0 && name == "" {
			l.fail(nil, fmt.Sprintf("no service runs hasvc: nothing can have the defect %s", add), "")
		} else if n == 0 {
			l.fail(nil, fmt.Sprintf("the defect %s was to be switched on in %s, which is no service", add, name), didYouMean(name, services))
		}
	}
}

func (l *loading) each(which func(*cluster.Service) bool, do func(*cluster.Service)) (n int) {
	for i := range l.spec.Services {
		if s := &l.spec.Services[i]; which(s) {
			do(s)
			n++
		}
	}
	return n
}
