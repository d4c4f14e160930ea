package export

import (
	"strconv"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/hasvc/gauntlet/harness/cluster"
)

func (s *swarm) deploy(of cluster.Service, c types.ServiceConfig) deploy {
	given := c.Deploy
	if given == nil {
		given = &types.DeployConfig{}
	}
	out := deploy{EndpointMode: given.EndpointMode, Labels: given.Labels, Resources: s.resources(of, c, given)}
	if of.Scaled {
		out.Replicas = &of.Replicas
	}
	if p := given.Placement; len(p.Constraints)+len(p.Preferences) > 0 || p.MaxReplicas > 0 {
		out.Placement = &placement{Constraints: p.Constraints, MaxReplicas: p.MaxReplicas}
		for _, q := range p.Preferences {
			out.Placement.Preferences = append(out.Placement.Preferences, map[string]string{"spread": q.Spread})
		}
	}
	out.Restart = s.restart(of, c, given)
	if out.Update = updateOf(given.UpdateConfig); out.Update == nil {
		out.Update = s.update(of, c)
	}
	out.Rollback = updateOf(given.RollbackConfig)
	return out
}

// firstDelay is Docker's before a restart, and the run's. Swarm would wait 5 s.
const firstDelay = "100ms"

func (s *swarm) restart(of cluster.Service, c types.ServiceConfig, given *types.DeployConfig) *restartPolicy {
	if c.Restart == "" && given.RestartPolicy == nil {
		s.note(of.Name, "no restart is said; Swarm starts a task again when it ends, where Compose would not")
		return nil
	}
	p := &restartPolicy{MaxAttempts: of.Restart.MaxRetries, Delay: firstDelay}
	switch of.Restart.Policy {
	case "always", "unless-stopped":
		p.Condition = "any"
	case "on-failure":
		p.Condition = "on-failure"
	default:
		return &restartPolicy{Condition: "none"}
	}
	s.note(of.Name, "Swarm starts a task again after "+firstDelay+" each time, where the run, as Compose, waits twice as long after each quick end, up to a minute")
	return p
}

// update says how a new version replaces the old: one task at a time, the new one first, so that the old one drains while
// it has taken over. Not where a task holds something that two cannot: a volume, or a port of the machine.
func (s *swarm) update(of cluster.Service, c types.ServiceConfig) *updateConfig {
	one := uint64(1)
	out := &updateConfig{Parallelism: &one, Order: "start-first"}
	for _, v := range c.Volumes {
		if v.Type == types.VolumeTypeVolume || v.Type == types.VolumeTypeBind && !v.ReadOnly {
			out.Order = "stop-first"
		}
	}
	for _, p := range c.Ports {
		if p.Mode == "host" {
			out.Order = "stop-first"
		}
	}
	if of.Drain > 0 {
		out.Delay = of.Drain.String() // the next task's turn comes when this one's predecessor is drained
	}
	if out.Order == "start-first" && of.Health == nil {
		s.note(of.Name, "without a healthcheck Swarm stops the old task as soon as the new one runs, ready or not")
	}
	return out
}

func updateOf(u *types.UpdateConfig) *updateConfig {
	if u == nil {
		return nil
	}
	out := &updateConfig{Parallelism: u.Parallelism, FailureAction: u.FailureAction, MaxFailureRatio: u.MaxFailureRatio, Order: u.Order}
	if u.Delay != 0 {
		out.Delay = u.Delay.String()
	}
	if u.Monitor != 0 {
		out.Monitor = u.Monitor.String()
	}
	return out
}

func (s *swarm) resources(of cluster.Service, c types.ServiceConfig, given *types.DeployConfig) *resources {
	limits := amounts(of.Limits.CPUs, of.Limits.Memory, of.Limits.Pids)
	memory := int64(c.MemReservation)
	cpus := 0.0
	if r := given.Resources.Reservations; r != nil {
		cpus = float64(r.NanoCPUs)
		if r.MemoryBytes != 0 {
			memory = int64(r.MemoryBytes)
		}
		if len(r.Devices)+len(r.GenericResources) > 0 {
			s.fail(of, "deploy.resources.reservations", "of what can be reserved only cpus and memory are the same everywhere; add the others to the stack by hand")
		}
	}
	reservations := amounts(cpus, memory, 0)
	if limits == nil && reservations == nil {
		return nil
	}
	return &resources{Limits: limits, Reservations: reservations}
}

func amounts(cpus float64, memory, pids int64) *resource {
	if cpus == 0 && memory == 0 && pids == 0 {
		return nil
	}
	r := &resource{Pids: pids}
	if cpus != 0 {
		r.CPUs = strconv.FormatFloat(cpus, 'g', 6, 64) // compose-go reads 0.1 as a float32
	}
	if memory != 0 {
		r.Memory = strconv.FormatInt(memory, 10)
	}
	return r
}
