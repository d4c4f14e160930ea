package export

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// taken are the keys of a service that service and its deploy section carry over, in Swarm's words.
var taken = map[string]bool{
	"image": true, "entrypoint": true, "command": true, "hostname": true, "user": true, "working_dir": true,
	"environment": true, "env_file": true, "init": true, "cap_drop": true, "tmpfs": true, "volumes": true, "configs": true, "secrets": true,
	"ports": true, "networks": true, "links": true, "stop_signal": true, "stop_grace_period": true, "healthcheck": true, "logging": true, "labels": true,
	"deploy": true, "restart": true, "scale": true, "cpus": true, "mem_limit": true, "mem_reservation": true, "pids_limit": true, "depends_on": true,
	// These say nothing that a stack would have to know.
	"expose": true, "profiles": true, "extends": true, "label_file": true, "attach": true, "develop": true, "pull_policy": true, "pull_refresh_after": true, "name": true,
}

// left are the keys that a stack does without, and what follows.
var left = map[string]string{
	"build":          "Swarm does not build; build the image and push it before",
	"container_name": "container_name is left out, as tasks are named by Swarm",
	"security_opt":   "security_opt is left out; set no-new-privileges in the daemons' own settings",
	"network_mode":   "network_mode is left out, as services are on overlay networks",
	"annotations":    "annotations are left out",
	"platform":       "platform is left out; images decide it, or deploy.placement.constraints on node.platform",
}

// service translates a service. of is what the topology makes of it, c what is in the file.
func (s *swarm) service(of cluster.Service, c types.ServiceConfig) service {
	s.checkKeys(of, c)
	out := service{
		Image: c.Image, Entrypoint: c.Entrypoint, Command: c.Command, Hostname: literal(c.Hostname), User: c.User, WorkingDir: c.WorkingDir,
		Environment: map[string]string{}, Init: c.Init, CapDrop: c.CapDrop, StopSignal: c.StopSignal, Labels: c.Labels,
	}
	if c.Image == "" {
		s.fail(of, "build", "Swarm does not build; name the image it is to run (image:)")
	}
	if c.Entrypoint != nil && len(c.Entrypoint) == 0 {
		s.fail(of, "entrypoint", "an empty one cannot take away the image's")
	}
	if c.Command != nil && len(c.Command) == 0 {
		s.fail(of, "command", "an empty one cannot take away the image's")
	}
	for k, v := range c.Environment {
		if v != nil {
			out.Environment[literal(k)] = literal(*v)
		}
	}
	if c.StopGracePeriod != nil {
		out.StopGrace = c.StopGracePeriod.String()
	}
	if of.Drain > 0 && of.Drain >= of.StopGrace {
		s.note(of.Name, "stop_grace_period ends before x-gauntlet.drain does; a task is killed while it still serves")
	}
	if h := c.HealthCheck; h != nil {
		if of.Group != "" && !h.Disable {
			// moby issue 35451: the task is given its name and address in the service after its first success.
			s.note(of.Name, "Swarm answers for a name only when the healthcheck of its task has passed; members that are healthy only once they have met never meet, so let it ask the member about itself alone")
		}
		if of.Health != nil {
			s.note(of.Name, "Swarm ends a task that turns unhealthy and starts another in its place, where the run, as Compose, leaves it running")
		}
		out.Health = &health{Test: h.Test, Interval: duration(h.Interval), Timeout: duration(h.Timeout), StartPeriod: duration(h.StartPeriod), Retries: h.Retries, Disable: h.Disable}
	}
	if c.Logging != nil {
		out.Logging = &logging{Driver: c.Logging.Driver, Options: c.Logging.Options}
	}
	out.Volumes = s.mounts(of, c)
	out.Configs = references(c.Configs)
	out.Secrets = references(c.Secrets)
	out.Ports = s.ports(of, c)
	out.Networks = slices.Sorted(maps.Keys(c.Networks))
	out.Deploy = s.deploy(of, c)
	for _, d := range of.DependsOn {
		switch {
		case d.Condition == types.ServiceConditionCompletedSuccessfully:
			s.fail(of, "depends_on."+d.Service, "Swarm waits for no service to end; do its work in the image or before the stack is deployed")
		case out.Deploy.Restart != nil && out.Deploy.Restart.Condition == "none":
			s.note(of.Name, "depends_on is left out, as Swarm starts all services at once, and what ends because another is not there yet stays so; give it a restart")
		default:
			s.note(of.Name, "depends_on is left out, as Swarm starts all services at once; what ends because another is not there yet is started again")
		}
	}
	return out
}

// checkKeys finds keys that nothing above or below carries over.
func (s *swarm) checkKeys(of cluster.Service, c types.ServiceConfig) {
	data, err := yaml.Marshal(c)
	keys := map[string]any{}
	if err == nil {
		err = yaml.Unmarshal(data, &keys)
	}
	if err != nil {
		s.errs = append(s.errs, fmt.Errorf("%s:%d: services.%s: %w", s.spec.File, of.Line, of.Name, err))
		return
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		switch text, drop := left[key]; {
		case taken[key], strings.HasPrefix(key, "x-"), strings.HasPrefix(key, "#"):
		case drop:
			s.note(of.Name, text)
		default:
			s.fail(of, key, "take it out, or set it in the daemons of the swarm")
		}
	}
}

// literal keeps a value what it is where Swarm expands templates: in environment, hostname and mounts (swarmkit, ExpandContainerSpec).
func literal(s string) string { return strings.ReplaceAll(s, "{{", `{{"{{"}}`) }

func duration(d *types.Duration) string {
	if d == nil {
		return ""
	}
	return d.String()
}

func (s *swarm) mounts(of cluster.Service, c types.ServiceConfig) []mount {
	var out []mount
	for _, v := range c.Volumes {
		m := mount{Type: v.Type, Source: v.Source, Target: v.Target, ReadOnly: v.ReadOnly}
		switch v.Type {
		case types.VolumeTypeVolume:
			if v.Volume != nil && v.Volume.NoCopy {
				m.Volume = &mountVolume{NoCopy: true}
			}
			if c.Deploy == nil || len(c.Deploy.Placement.Constraints) == 0 {
				s.note(of.Name, "a volume stays on its machine when a task moves; bind the task to one by deploy.placement.constraints")
			}
		case types.VolumeTypeBind:
			m.Source = s.relative(v.Source)
			s.note(of.Name, "a bind mount needs its path on each machine; ./ is the directory of the stack file")
		case types.VolumeTypeTmpfs:
			if v.Tmpfs != nil && v.Tmpfs.Size > 0 {
				m.Tmpfs = &mountTmpfs{Size: int64(v.Tmpfs.Size)}
			}
		default:
			s.fail(of, "volumes", "a mount of type "+v.Type)
		}
		m.Source, m.Target = literal(m.Source), literal(m.Target)
		out = append(out, m)
	}
	// docker stack reads a tmpfs among the volumes only. The topology has those of the list behind the volumes, and all of one mode.
	for _, t := range of.Volumes[len(c.Volumes):] {
		m := mount{Type: types.VolumeTypeTmpfs, Target: literal(t.Target), ReadOnly: t.ReadOnly}
		if t.Size > 0 {
			m.Tmpfs = &mountTmpfs{Size: t.Size}
		}
		if t.Exec {
			s.note(of.Name, "the option exec of a tmpfs is left out; programs in it cannot be run")
		}
		out = append(out, m)
	}
	return out
}

func references[T types.ServiceConfigObjConfig | types.ServiceSecretConfig](list []T) []reference {
	var out []reference
	for _, r := range list {
		f := types.FileReferenceConfig(r)
		out = append(out, reference{Source: f.Source, Target: f.Target, Mode: (*int64)(f.Mode)})
	}
	return out
}

func (s *swarm) ports(of cluster.Service, c types.ServiceConfig) []port {
	var out []port
	for _, p := range c.Ports {
		to := port{Target: p.Target, Protocol: p.Protocol, Mode: p.Mode}
		if p.HostIP != "" {
			s.fail(of, "ports", fmt.Sprintf("Swarm publishes on every address, not on %s alone", p.HostIP))
		}
		if p.Published != "" {
			n, err := strconv.ParseUint(p.Published, 10, 16)
			if err != nil {
				s.fail(of, "ports", fmt.Sprintf("a choice of ports (%s); name one", p.Published))
			}
			to.Published = n
		}
		out = append(out, to)
	}
	return out
}
