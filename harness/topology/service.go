package topology

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"golang.org/x/sys/unix"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// volumeName is Docker's rule for the names of volumes. Here they are those of directories, among which . and .. are others.
var volumeName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// convert makes the Spec of compose-go's project.
func (l *loading) convert(p *types.Project) {
	l.spec.Name = p.Name
	names := p.ServiceNames()
	// compose-go keeps services in a map; the file's order is what a reader expects.
	line := map[string]int{}
	for _, n := range names {
		line[n], _ = l.src.at([]string{"services", n})
	}
	slices.SortStableFunc(names, func(a, b string) int { return line[a] - line[b] })
	for _, name := range names {
		l.spec.Services = append(l.spec.Services, l.service(p, p.Services[name], line[name]))
	}
	l.spec.Volumes = slices.Sorted(maps.Keys(p.Volumes))
	for _, name := range l.spec.Volumes {
		if !volumeName.MatchString(name) {
			l.fail([]string{"volumes", name}, name+" is no name of a volume", "a letter or digit, then letters, digits, dots, dashes and underscores")
		}
	}
	l.checkNetworks(p)
	l.checkNames()
	l.checkDependencies()
	l.checkGroups()
}

func (l *loading) service(p *types.Project, c types.ServiceConfig, line int) cluster.Service {
	path := []string{"services", c.Name}
	at := func(keys ...string) []string { return append(slices.Clone(path), keys...) }
	s := cluster.Service{
		Name:       c.Name,
		Line:       line,
		Replicas:   1,
		Entrypoint: c.Entrypoint,
		Command:    c.Command,
		Env:        map[string]string{},
		Dir:        c.WorkingDir,
		User:       c.User,
		Hostname:   c.Hostname,
		CapDrop:    c.CapDrop,
		Init:       c.Init != nil && *c.Init,
		StopGrace:  10 * time.Second, // Compose's
		Restart:    l.restart(c),
	}
	if c.Scale != nil || c.Deploy != nil && c.Deploy.Replicas != nil {
		s.Scaled, s.Replicas = true, c.GetScale()
	}
	if c.Scale != nil && c.Deploy != nil && c.Deploy.Replicas != nil && *c.Scale != *c.Deploy.Replicas {
		l.fail(at("scale"), "scale and deploy.replicas say different things", "keep one")
	}
	if s.Replicas < 0 || s.Replicas > cluster.MaxReplicas {
		key := at("deploy", "replicas")
		if c.Scale != nil {
			key = at("scale")
		}
		l.fail(key, fmt.Sprintf("a service has 0 to %d replicas, not %d", cluster.MaxReplicas, s.Replicas), "")
		s.Replicas = 1 // what is to be said of its nodes can be said of one
	}
	for k, v := range c.Environment {
		if v != nil { // a bare name that is not set is not passed on, as with docker compose
			s.Env[k] = *v
		}
	}
	if c.StopSignal != "" {
		s.StopSignal = strings.ToUpper(c.StopSignal)
		if !strings.HasPrefix(s.StopSignal, "SIG") && strings.Trim(s.StopSignal, "0123456789") != "" {
			s.StopSignal = "SIG" + s.StopSignal
		}
		if strings.HasPrefix(s.StopSignal, "SIG") && unix.SignalNum(s.StopSignal) == 0 {
			l.fail(at("stop_signal"), fmt.Sprintf("there is no signal %s", c.StopSignal), "such as SIGTERM, SIGINT or SIGQUIT")
		}
	}
	if c.StopGracePeriod != nil {
		if s.StopGrace = time.Duration(*c.StopGracePeriod); s.StopGrace < 0 {
			l.fail(at("stop_grace_period"), "stop_grace_period must not be negative", "0s kills at once")
		}
	}
	for i, opt := range c.SecurityOpt {
		key, value := securityOpt(opt)
		if key != noNewPrivileges {
			continue // the table of keys refuses it
		}
		var err error
		if s.NoNewPrivileges, err = strconv.ParseBool(value); err != nil {
			l.fail(index(at("security_opt"), i), fmt.Sprintf("%s is true or false, not %q", key, value), "")
		}
	}
	if c.WorkingDir != "" && !strings.HasPrefix(c.WorkingDir, "/") {
		l.fail(at("working_dir"), "working_dir must be an absolute path in the node", "")
	}
	if c.ContainerName != "" && c.ContainerName != c.Name {
		l.fail(at("container_name"), where(at("container_name"))+" cannot be honoured", "a node is called like its service: name the service "+c.ContainerName)
	}
	for i, link := range c.Links {
		if name, alias, ok := strings.Cut(link, ":"); ok && name != alias {
			l.fail(index(at("links"), i), "a link with another name cannot be honoured", "a node is reached by the name of its service: "+name)
		}
	}
	s.Expose = l.ports(c, path)
	s.Health = l.health(c, path)
	s.Limits = l.limits(c, path)
	s.Volumes = l.mounts(p, c, path)
	s.Files = l.files(p, c, path)
	s.DependsOn = l.dependencies(p, c)
	l.gauntlet(&s, c, path)
	l.source(&s, c, path)
	return s
}

// source fills in the image and build of a service that x-gauntlet says nothing about.
func (l *loading) source(s *cluster.Service, c types.ServiceConfig, path []string) {
	if s.Source.Go != "" || s.Source.Exec != "" {
		s.Entrypoint = nil // the executable takes its place
		return
	}
	switch {
	case c.Build != nil:
		b := &cluster.Build{Context: c.Build.Context, Dockerfile: c.Build.Dockerfile, Target: c.Build.Target, Args: map[string]string{}}
		for k, v := range c.Build.Args {
			if v != nil {
				b.Args[k] = *v
			}
		}
		s.Source.Build = b
	case c.Image != "":
		s.Source.Image = c.Image
	default:
		l.fail(path, fmt.Sprintf("the service %s has no program", s.Name), "give it x-gauntlet: {go: PACKAGE[@VERSION]}, x-gauntlet: {exec: PROGRAM}, image or build")
	}
}

// restart reads `restart` and deploy.restart_policy, which say the same where both are given.
func (l *loading) restart(c types.ServiceConfig) cluster.Restart {
	deployed, given := l.restartPolicy(c)
	path := []string{"services", c.Name, "restart"}
	policy, count, counted := strings.Cut(c.Restart, ":")
	r := cluster.Restart{Policy: policy}
	before := len(l.errs)
	if counted {
		var err error
		if r.MaxRetries, err = strconv.Atoi(count); err != nil || policy != "on-failure" || r.MaxRetries < 1 {
			l.fail(path, fmt.Sprintf("restart: %q", c.Restart), "a number of attempts goes with on-failure only: on-failure:3")
		}
	}
	switch r.Policy {
	case "":
		if given {
			return deployed
		}
		r.Policy = types.RestartPolicyNo
		return r
	case types.RestartPolicyNo, types.RestartPolicyAlways, types.RestartPolicyOnFailure, types.RestartPolicyUnlessStopped:
	default:
		l.fail(path, fmt.Sprintf("restart: %q", c.Restart), didYouMean(r.Policy, []string{"no", "always", "on-failure", "unless-stopped"}))
	}
	same := r
	if same.Policy == types.RestartPolicyUnlessStopped {
		same.Policy = types.RestartPolicyAlways // deploy has one word for both
	}
	if given && len(l.errs) == before && same != deployed {
		l.fail(path, "restart and deploy.restart_policy say different things", "keep one")
	}
	return r
}

// restartPolicy reads deploy.restart_policy, and reports whether there is one that can be compared.
func (l *loading) restartPolicy(c types.ServiceConfig) (r cluster.Restart, ok bool) {
	if c.Deploy == nil || c.Deploy.RestartPolicy == nil {
		return r, false
	}
	rp := c.Deploy.RestartPolicy
	at := []string{"services", c.Name, "deploy", "restart_policy"}
	switch rp.Condition {
	case "none":
		r.Policy = types.RestartPolicyNo
	case "on-failure":
		r.Policy = types.RestartPolicyOnFailure
		if rp.MaxAttempts != nil {
			r.MaxRetries = int(min(*rp.MaxAttempts, 1<<20))
		}
	case "any", "":
		r.Policy = types.RestartPolicyAlways
		if rp.MaxAttempts != nil {
			l.fail(append(at, "max_attempts"), "max_attempts with any end of the program cannot be honoured", "condition: on-failure, or no max_attempts")
		}
	default:
		l.fail(append(at, "condition"), fmt.Sprintf("condition: %q", rp.Condition), "none, on-failure or any")
		return r, false
	}
	return r, true
}

// ports are the TCP ports of expose and ports, in the order of the file.
func (l *loading) ports(c types.ServiceConfig, path []string) []int {
	var exposed, published []int
	for i, e := range c.Expose {
		spec, proto, _ := strings.Cut(e, "/")
		if proto != "" && proto != "tcp" {
			continue
		}
		lo, hi, err := portRange(spec)
		if err != nil {
			l.fail(index(append(slices.Clone(path), "expose"), i), err.Error(), "")
			continue
		}
		for n := lo; n <= hi; n++ {
			exposed = append(exposed, n)
		}
	}
	for _, e := range c.Ports {
		if e.Protocol == "" || e.Protocol == "tcp" {
			published = append(published, int(e.Target))
		}
	}
	first, second := exposed, published
	le, _ := l.src.at(append(slices.Clone(path), "expose"))
	lp, _ := l.src.at(append(slices.Clone(path), "ports"))
	if lp < le {
		first, second = published, exposed
	}
	var out []int
	for _, n := range append(slices.Clone(first), second...) {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

func portRange(s string) (lo, hi int, err error) {
	a, b, ranged := strings.Cut(s, "-")
	if lo, err = strconv.Atoi(a); err == nil {
		hi = lo
		if ranged {
			hi, err = strconv.Atoi(b)
		}
	}
	if err != nil || lo < 1 || hi > 65535 || hi < lo {
		return 0, 0, fmt.Errorf("%q is no port: a number from 1 to 65535, or a range of two", s)
	}
	return lo, hi, nil
}

// limits reads deploy.resources.limits and the older keys that say the same.
func (l *loading) limits(c types.ServiceConfig, path []string) cluster.Limits {
	out := cluster.Limits{CPUs: cpus(c.CPUS), Memory: int64(c.MemLimit), Pids: c.PidsLimit}
	if c.Deploy != nil && c.Deploy.Resources.Limits != nil {
		r := c.Deploy.Resources.Limits
		for _, x := range []struct {
			old, key string
			differ   bool
		}{
			{"cpus", "cpus", c.CPUS != 0 && r.NanoCPUs != 0 && c.CPUS != r.NanoCPUs.Value()},
			{"mem_limit", "memory", c.MemLimit != 0 && r.MemoryBytes != 0 && c.MemLimit != r.MemoryBytes},
			{"pids_limit", "pids", c.PidsLimit != 0 && r.Pids != 0 && c.PidsLimit != r.Pids},
		} {
			if x.differ {
				l.fail(append(slices.Clone(path), x.old), fmt.Sprintf("%s and deploy.resources.limits.%s say different things", x.old, x.key), "keep one")
			}
		}
		if r.NanoCPUs != 0 {
			out.CPUs = cpus(r.NanoCPUs.Value())
		}
		if r.MemoryBytes != 0 {
			out.Memory = int64(r.MemoryBytes)
		}
		if r.Pids != 0 {
			out.Pids = r.Pids
		}
	}
	if out.CPUs < 0 || out.Memory < 0 || out.Pids < -1 {
		l.fail(path, "a limit is negative", "")
	}
	out.Pids = max(0, out.Pids) // -1 is Docker's "unlimited"
	return out
}

// cpus undoes compose-go's float32, in which 0.1 is 0.10000000149.
func cpus(v float32) float64 {
	var f float64
	if _, err := fmt.Sscan(fmt.Sprint(v), &f); err != nil {
		return float64(v)
	}
	return f
}

// health reads the healthcheck; nil when there is none.
func (l *loading) health(c types.ServiceConfig, path []string) *cluster.Healthcheck {
	h := c.HealthCheck
	if h == nil || h.Disable {
		return nil
	}
	test := append(slices.Clone(path), "healthcheck", "test")
	out := &cluster.Healthcheck{Interval: 30 * time.Second, Timeout: 30 * time.Second, Retries: 3} // Docker's
	if len(h.Test) == 0 {
		l.fail(test[:3], "the healthcheck has no test", "test: [CMD, PROGRAM, ARGUMENT...], or disable: true; an image's own healthcheck is not known here")
		return nil
	}
	switch h.Test[0] {
	case "NONE":
		return nil
	case "CMD":
		out.Argv = h.Test[1:]
	case "CMD-SHELL":
		if len(h.Test) != 2 {
			l.fail(test, "CMD-SHELL takes one string", "")
		}
		out.Argv = append([]string{"/bin/sh", "-c"}, h.Test[1:]...)
	default:
		l.fail(test, fmt.Sprintf("a test begins with CMD, CMD-SHELL or NONE, not %s", h.Test[0]), "test: [CMD, "+strings.Join(h.Test, ", ")+"]")
		return nil
	}
	if len(out.Argv) == 0 {
		l.fail(test, "the test names no program", "")
	}
	for _, x := range []struct {
		from *types.Duration
		to   *time.Duration
		key  string
	}{{h.Interval, &out.Interval, "interval"}, {h.Timeout, &out.Timeout, "timeout"}, {h.StartPeriod, &out.StartPeriod, "start_period"}} {
		if x.from == nil {
			continue
		}
		if d := time.Duration(*x.from); d < 0 {
			l.fail(append(test[:3:3], x.key), x.key+" must not be negative", "")
		} else if d > 0 { // zero is Docker's word for the default
			*x.to = d
		}
	}
	if h.Retries != nil && *h.Retries > 0 {
		out.Retries = int(min(*h.Retries, 1<<20))
	}
	return out
}
