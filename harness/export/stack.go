package export

import "go.yaml.in/yaml/v4"

// ordered is a mapping whose order is kept.
type ordered []entry

type entry struct {
	key   string
	value any
}

// MarshalYAML makes the mapping.
func (o ordered) MarshalYAML() (any, error) {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, e := range o {
		var key, value yaml.Node
		if err := key.Encode(e.key); err != nil {
			return nil, err
		}
		if err := value.Encode(e.value); err != nil {
			return nil, err
		}
		n.Content = append(n.Content, &key, &value)
	}
	return n, nil
}

// The stack file, version 3.9 of the Compose format: what `docker stack deploy` reads. Keys are written in this order.
type stack struct {
	Version  string  `yaml:"version"`
	Services ordered `yaml:"services"` // in the order of the topology
	Networks ordered `yaml:"networks"`
	Volumes  ordered `yaml:"volumes,omitempty"`
	Configs  ordered `yaml:"configs,omitempty"`
	Secrets  ordered `yaml:"secrets,omitempty"`
}

type service struct {
	Image       string            `yaml:"image"`
	Entrypoint  []string          `yaml:"entrypoint,omitempty"`
	Command     []string          `yaml:"command,omitempty"`
	Hostname    string            `yaml:"hostname,omitempty"`
	User        string            `yaml:"user,omitempty"`
	WorkingDir  string            `yaml:"working_dir,omitempty"`
	Environment map[string]string `yaml:"environment,omitempty"`
	Init        *bool             `yaml:"init,omitempty"`
	CapDrop     []string          `yaml:"cap_drop,omitempty"`
	Volumes     []mount           `yaml:"volumes,omitempty"`
	Configs     []reference       `yaml:"configs,omitempty"`
	Secrets     []reference       `yaml:"secrets,omitempty"`
	Ports       []port            `yaml:"ports,omitempty"`
	Networks    []string          `yaml:"networks,omitempty"`
	StopSignal  string            `yaml:"stop_signal,omitempty"`
	StopGrace   string            `yaml:"stop_grace_period,omitempty"`
	Health      *health           `yaml:"healthcheck,omitempty"`
	Logging     *logging          `yaml:"logging,omitempty"`
	Labels      map[string]string `yaml:"labels,omitempty"`
	Deploy      deploy            `yaml:"deploy"`
}

type mount struct {
	Type     string       `yaml:"type"`
	Source   string       `yaml:"source,omitempty"`
	Target   string       `yaml:"target"`
	ReadOnly bool         `yaml:"read_only,omitempty"`
	Volume   *mountVolume `yaml:"volume,omitempty"`
	Tmpfs    *mountTmpfs  `yaml:"tmpfs,omitempty"`
}

type mountVolume struct {
	NoCopy bool `yaml:"nocopy"`
}

type mountTmpfs struct {
	Size int64 `yaml:"size"`
}

// reference is a config or secret in a service.
type reference struct {
	Source string `yaml:"source"`
	Target string `yaml:"target,omitempty"`
	Mode   *int64 `yaml:"mode,omitempty"`
}

type port struct {
	Target    uint32 `yaml:"target"`
	Published uint64 `yaml:"published,omitempty"`
	Protocol  string `yaml:"protocol,omitempty"`
	Mode      string `yaml:"mode,omitempty"`
}

type health struct {
	Test        []string `yaml:"test,omitempty"`
	Interval    string   `yaml:"interval,omitempty"`
	Timeout     string   `yaml:"timeout,omitempty"`
	StartPeriod string   `yaml:"start_period,omitempty"`
	Retries     *uint64  `yaml:"retries,omitempty"`
	Disable     bool     `yaml:"disable,omitempty"`
}

type logging struct {
	Driver  string            `yaml:"driver,omitempty"`
	Options map[string]string `yaml:"options,omitempty"`
}

type deploy struct {
	Replicas     *int              `yaml:"replicas,omitempty"`
	EndpointMode string            `yaml:"endpoint_mode,omitempty"`
	Labels       map[string]string `yaml:"labels,omitempty"`
	Placement    *placement        `yaml:"placement,omitempty"`
	Resources    *resources        `yaml:"resources,omitempty"`
	Restart      *restartPolicy    `yaml:"restart_policy,omitempty"`
	Update       *updateConfig     `yaml:"update_config,omitempty"`
	Rollback     *updateConfig     `yaml:"rollback_config,omitempty"`
}

type placement struct {
	Constraints []string            `yaml:"constraints,omitempty"`
	Preferences []map[string]string `yaml:"preferences,omitempty"`
	MaxReplicas uint64              `yaml:"max_replicas_per_node,omitempty"`
}

type resources struct {
	Limits       *resource `yaml:"limits,omitempty"`
	Reservations *resource `yaml:"reservations,omitempty"`
}

type resource struct {
	CPUs   string `yaml:"cpus,omitempty"`
	Memory string `yaml:"memory,omitempty"`
	Pids   int64  `yaml:"pids,omitempty"`
}

type restartPolicy struct {
	Condition   string `yaml:"condition"`
	Delay       string `yaml:"delay,omitempty"`
	MaxAttempts int    `yaml:"max_attempts,omitempty"`
}

type updateConfig struct {
	Parallelism     *uint64 `yaml:"parallelism,omitempty"`
	Delay           string  `yaml:"delay,omitempty"`
	FailureAction   string  `yaml:"failure_action,omitempty"`
	Monitor         string  `yaml:"monitor,omitempty"`
	MaxFailureRatio float32 `yaml:"max_failure_ratio,omitempty"`
	Order           string  `yaml:"order,omitempty"`
}

type networkObject struct {
	Driver     string            `yaml:"driver"`
	Name       string            `yaml:"name,omitempty"`
	Attachable bool              `yaml:"attachable,omitempty"`
	Internal   bool              `yaml:"internal,omitempty"`
	Labels     map[string]string `yaml:"labels,omitempty"`
}

type volumeObject struct {
	Name   string            `yaml:"name,omitempty"`
	Labels map[string]string `yaml:"labels,omitempty"`
}

type fileObject struct {
	Name   string            `yaml:"name,omitempty"`
	File   string            `yaml:"file"`
	Labels map[string]string `yaml:"labels,omitempty"`
}
