package topology

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Treatment is what becomes of a key of a Compose file.
type Treatment string

// The treatments.
const (
	Honoured Treatment = "honoured"
	Harmless Treatment = "ignored" // because it means nothing here, or is always so
	Warned   Treatment = "warning" // a resource limit that no driver applies
	Refused  Treatment = "error"
	section  Treatment = "section" // its keys have treatments of their own
)

// Key is a row of the table of Compose keys.
type Key struct {
	Path      string // such as services.*.deploy.replicas; * is any name or element
	Treatment Treatment
	Why       string   // of Harmless, Warned and Refused
	But       []string // values that a refused key may have all the same; false, 0 and empty ones always may
}

// Keys returns the table of Compose keys, sorted by path, for the reference.
func Keys() []Key {
	var out []Key
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if v := keys[k]; v.Treatment != section {
			v.Path = k
			out = append(out, v)
		}
	}
	return out
}

func yes() Key                              { return Key{Treatment: Honoured} }
func sub() Key                              { return Key{Treatment: section} }
func ignored(why string) Key                { return Key{Treatment: Harmless, Why: why} }
func warned(why string) Key                 { return Key{Treatment: Warned, Why: why} }
func refused(why string, but ...string) Key { return Key{Treatment: Refused, Why: why, But: but} }

const (
	noLimit   = "no driver applies it; deploy.resources.limits has cpus, memory and pids"
	ownNet    = "the harness owns the network of its nodes"
	noCaps    = "no node is given more than its driver gives to all"
	noDevices = "nodes have no devices of the host"
	forSwarm  = "it is about deployments that docker compose does not make either"
	metadata  = "it describes, and changes nothing that runs"
	dockerLog = "what nodes print is recorded by the harness"
	layers    = "it changes how long a build takes and not what is built"
	fewBuilds = "of build only context, dockerfile, target and args can be: give the program by x-gauntlet: {go: PACKAGE} or {exec: PROGRAM}"
)

// keys is the table of all keys of a Compose file. A key that is not in it is an error, so that a newer compose-go does
// not let one pass in silence.
var keys = map[string]Key{
	"name":     yes(),
	"version":  ignored("Compose itself calls it obsolete"),
	"services": sub(), "services.*": sub(),
	"networks": sub(), "networks.*": sub(),
	"volumes": sub(), "volumes.*": sub(),
	"configs": sub(), "configs.*": sub(),
	"secrets": sub(), "secrets.*": sub(),
	"include": refused("a topology is one file; put the services into it"),
	"models":  refused("there is no model runner"),
	"jobs":    refused("there are no jobs; a program of the scenario's `do` can do it"),

	"services.*.image":             yes(),
	"services.*.command":           yes(),
	"services.*.entrypoint":        yes(),
	"services.*.environment":       yes(),
	"services.*.env_file":          yes(),
	"services.*.working_dir":       yes(),
	"services.*.user":              yes(),
	"services.*.hostname":          yes(),
	"services.*.expose":            yes(),
	"services.*.ports":             yes(),
	"services.*.tmpfs":             yes(),
	"services.*.restart":           yes(),
	"services.*.init":              yes(),
	"services.*.stop_signal":       yes(),
	"services.*.stop_grace_period": yes(),
	"services.*.profiles":          yes(),
	"services.*.extends":           yes(),
	"services.*.scale":             yes(),
	"services.*.cpus":              yes(),
	"services.*.mem_limit":         yes(),
	"services.*.pids_limit":        yes(),
	"services.*.links":             yes(),
	"services.*.cap_drop":          yes(),
	"services.*.networks":          yes(), // see networks.go
	"services.*.name":              ignored("set by compose-go"),

	"services.*.build":                     sub(), // only where an image is built: see checkKeys
	"services.*.build.context":             yes(),
	"services.*.build.dockerfile":          yes(),
	"services.*.build.target":              yes(),
	"services.*.build.args":                yes(),
	"services.*.build.labels":              ignored(metadata),
	"services.*.build.tags":                ignored("an image has the name that its content gives it"),
	"services.*.build.cache_from":          ignored(layers),
	"services.*.build.cache_to":            ignored(layers),
	"services.*.build.no_cache":            ignored(layers),
	"services.*.build.no_cache_filter":     ignored(layers),
	"services.*.build.pull":                ignored("it is about images"),
	"services.*.build.provenance":          ignored(metadata),
	"services.*.build.sbom":                ignored(metadata),
	"services.*.build.dockerfile_inline":   refused(fewBuilds),
	"services.*.build.additional_contexts": refused(fewBuilds),
	"services.*.build.secrets":             refused(fewBuilds),
	"services.*.build.ssh":                 refused(fewBuilds),
	"services.*.build.network":             refused(fewBuilds, "default"),
	"services.*.build.extra_hosts":         refused(fewBuilds),
	"services.*.build.privileged":          refused(fewBuilds),
	"services.*.build.entitlements":        refused(fewBuilds),
	"services.*.build.platforms":           refused(fewBuilds),
	"services.*.build.shm_size":            refused(fewBuilds),
	"services.*.build.ulimits":             refused(fewBuilds),
	"services.*.build.isolation":           refused(fewBuilds, "default"),

	"services.*.healthcheck":                sub(),
	"services.*.healthcheck.test":           yes(),
	"services.*.healthcheck.interval":       yes(),
	"services.*.healthcheck.timeout":        yes(),
	"services.*.healthcheck.start_period":   yes(),
	"services.*.healthcheck.retries":        yes(),
	"services.*.healthcheck.disable":        yes(),
	"services.*.healthcheck.start_interval": refused("a healthcheck has one interval here; shorten `interval`"),

	"services.*.depends_on":             sub(),
	"services.*.depends_on.*":           sub(),
	"services.*.depends_on.*.condition": yes(),
	"services.*.depends_on.*.required":  yes(),
	"services.*.depends_on.*.restart":   ignored("it is about an explicit `docker compose restart`"),

	"services.*.volumes":                         sub(),
	"services.*.volumes.*":                       sub(),
	"services.*.volumes.*.type":                  yes(),
	"services.*.volumes.*.source":                yes(),
	"services.*.volumes.*.target":                yes(),
	"services.*.volumes.*.read_only":             yes(),
	"services.*.volumes.*.consistency":           ignored("Linux has one consistency"),
	"services.*.volumes.*.bind":                  sub(),
	"services.*.volumes.*.bind.create_host_path": ignored("the path must exist: a run does not create paths of the host"),
	"services.*.volumes.*.bind.selinux":          ignored("it labels files of the host"),
	"services.*.volumes.*.bind.propagation":      refused("mounts do not propagate between the host and a node", "private", "rprivate"),
	"services.*.volumes.*.bind.recursive":        refused("a bind takes along the mounts below it", "enabled"),
	"services.*.volumes.*.volume":                sub(),
	"services.*.volumes.*.volume.nocopy":         ignored("nothing is copied from an image into a volume"),
	"services.*.volumes.*.volume.labels":         ignored(metadata),
	"services.*.volumes.*.volume.subpath":        refused("a volume is mounted whole"),
	"services.*.volumes.*.tmpfs":                 sub(),
	"services.*.volumes.*.tmpfs.size":            yes(),
	"services.*.volumes.*.tmpfs.mode":            refused("a tmpfs has mode 1777"),
	"services.*.volumes.*.image":                 refused("an image cannot be mounted"),

	"services.*.configs":          sub(),
	"services.*.configs.*":        sub(),
	"services.*.configs.*.source": yes(),
	"services.*.configs.*.target": yes(),
	"services.*.configs.*.mode":   yes(),
	"services.*.configs.*.uid":    refused("files belong to the node's user", "0"),
	"services.*.configs.*.gid":    refused("files belong to the node's user", "0"),
	"services.*.secrets":          sub(),
	"services.*.secrets.*":        sub(),
	"services.*.secrets.*.source": yes(),
	"services.*.secrets.*.target": yes(),
	"services.*.secrets.*.mode":   yes(),
	"services.*.secrets.*.uid":    refused("files belong to the node's user", "0"),
	"services.*.secrets.*.gid":    refused("files belong to the node's user", "0"),

	"services.*.deploy":                             sub(),
	"services.*.deploy.mode":                        refused("there are no machines to spread over: use replicas", "replicated"),
	"services.*.deploy.replicas":                    yes(),
	"services.*.deploy.labels":                      ignored(metadata),
	"services.*.deploy.update_config":               ignored(forSwarm),
	"services.*.deploy.rollback_config":             ignored(forSwarm),
	"services.*.deploy.placement":                   ignored(forSwarm),
	"services.*.deploy.endpoint_mode":               ignored(forSwarm),
	"services.*.deploy.resources":                   sub(),
	"services.*.deploy.resources.limits":            sub(),
	"services.*.deploy.resources.limits.cpus":       yes(),
	"services.*.deploy.resources.limits.memory":     yes(),
	"services.*.deploy.resources.limits.pids":       yes(),
	"services.*.deploy.resources.reservations":      warned("nothing is reserved"),
	"services.*.deploy.restart_policy":              sub(),
	"services.*.deploy.restart_policy.condition":    yes(),
	"services.*.deploy.restart_policy.max_attempts": yes(),
	"services.*.deploy.restart_policy.delay":        refused("nodes restart at once, with Docker's growing pauses"),
	"services.*.deploy.restart_policy.window":       refused("a node counts as started when its program runs"),

	"services.*.blkio_config":    warned(noLimit),
	"services.*.cpu_count":       warned(noLimit),
	"services.*.cpu_percent":     warned(noLimit),
	"services.*.cpu_period":      warned(noLimit),
	"services.*.cpu_quota":       warned(noLimit),
	"services.*.cpu_rt_period":   warned(noLimit),
	"services.*.cpu_rt_runtime":  warned(noLimit),
	"services.*.cpu_shares":      warned(noLimit),
	"services.*.cpuset":          warned(noLimit),
	"services.*.mem_reservation": warned("nothing is reserved"),
	"services.*.mem_swappiness":  warned(noLimit),
	"services.*.memswap_limit":   warned(noLimit),
	"services.*.oom_score_adj":   warned(noLimit),

	"services.*.annotations":        ignored(metadata),
	"services.*.labels":             ignored(metadata),
	"services.*.label_file":         ignored(metadata),
	"services.*.attach":             ignored(dockerLog),
	"services.*.logging":            ignored(dockerLog),
	"services.*.log_driver":         ignored(dockerLog),
	"services.*.log_opt":            ignored(dockerLog),
	"services.*.platform":           ignored("programs are built for, or found on, this machine"),
	"services.*.pull_policy":        ignored("it is about images"),
	"services.*.pull_refresh_after": ignored("it is about images"),
	"services.*.develop":            ignored("it is about docker compose watch"),

	"services.*.network_mode":        refused(ownNet, "bridge", "default"),
	"services.*.net":                 refused(ownNet),
	"services.*.mac_address":         refused(ownNet),
	"services.*.dns":                 refused(ownNet + " and answers its DNS"),
	"services.*.dns_opt":             refused(ownNet + " and answers its DNS"),
	"services.*.dns_search":          refused(ownNet + " and answers its DNS"),
	"services.*.domainname":          refused("a node's name is that of its service"),
	"services.*.extra_hosts":         refused("names of nodes are known to all, and nothing else can be reached"),
	"services.*.external_links":      refused("nothing outside the topology can be reached"),
	"services.*.sysctls":             refused("kernel settings of a node cannot be changed"),
	"services.*.privileged":          refused(noCaps),
	"services.*.cap_add":             refused(noCaps),
	"services.*.security_opt":        refused("how a node is confined is its driver's; only no-new-privileges can be asked for"),
	"services.*.credential_spec":     refused("it is for Windows"),
	"services.*.isolation":           refused("nodes are isolated by namespaces", "default"),
	"services.*.runtime":             refused("there is no container runtime to choose"),
	"services.*.use_api_socket":      refused("a node has no access to a container engine"),
	"services.*.userns_mode":         refused("each node has a user namespace of its own"),
	"services.*.ipc":                 refused("each node has an IPC namespace of its own", "private"),
	"services.*.pid":                 refused("each node has a PID namespace of its own"),
	"services.*.uts":                 refused("each node has a UTS namespace of its own"),
	"services.*.cgroup":              refused("each node has a cgroup of its own", "private"),
	"services.*.cgroup_parent":       refused("each node has a cgroup of its own"),
	"services.*.devices":             refused(noDevices),
	"services.*.device_cgroup_rules": refused(noDevices),
	"services.*.gpus":                refused(noDevices),
	"services.*.group_add":           refused("a node's user has the groups of user:GROUP"),
	"services.*.umask":               refused("a node has the usual umask"),
	"services.*.oom_kill_disable":    refused("the kernel's memory killer cannot be told to spare a node"),
	"services.*.read_only":           refused("/tmp, /run and /var of a node can be written"),
	"services.*.shm_size":            refused("the size of /dev/shm cannot be chosen; mount a tmpfs with a size there"),
	"services.*.storage_opt":         refused("there is no image storage"),
	"services.*.ulimits":             refused("a node has the limits of the harness"),
	"services.*.volume_driver":       refused("volumes are local"),
	"services.*.volumes_from":        refused("name the volumes in both services"),
	"services.*.stdin_open":          refused("a node's standard input is empty"),
	"services.*.tty":                 refused("a node has no terminal"),
	"services.*.container_name":      yes(), // only the service's own name: see service.go
	"services.*.provider":            refused("a service is a program that the harness starts"),
	"services.*.models":              refused("there is no model runner"),
	"services.*.pre_start":           refused("start a service of its own and depend on its service_completed_successfully"),
	"services.*.post_start":          refused("start a service of its own that depends on this one"),
	"services.*.pre_stop":            refused("let the program do it on its stop signal"),

	"networks.*.name":        ignored("a topology's network has no name on the host"),
	"networks.*.driver":      refused(ownNet, "bridge", "overlay", "default"),
	"networks.*.driver_opts": refused(ownNet),
	"networks.*.ipam":        refused("nodes get their addresses from the harness"),
	"networks.*.external":    refused("nothing outside the topology can be reached"),
	"networks.*.internal":    ignored("the network of a topology never has a way out"),
	"networks.*.attachable":  ignored("nothing can be attached"),
	"networks.*.labels":      ignored(metadata),
	"networks.*.enable_ipv4": ignored("nodes have IPv4 addresses"),
	"networks.*.enable_ipv6": refused("nodes have IPv4 addresses only"),

	"volumes.*.name":        ignored("a volume is a directory of the run, named by its key"),
	"volumes.*.driver":      refused("volumes are local", "local"),
	"volumes.*.driver_opts": refused("volumes are directories of the run"),
	"volumes.*.external":    refused("volumes begin empty and belong to the run"),
	"volumes.*.labels":      ignored(metadata),

	"configs.*.name":            ignored("it is the name in a Swarm"),
	"configs.*.file":            yes(),
	"configs.*.content":         yes(),
	"configs.*.environment":     yes(),
	"configs.*.labels":          ignored(metadata),
	"configs.*.external":        refused("there is no Swarm to ask; use file, content or environment"),
	"configs.*.template_driver": refused("content is taken as it is"),
	"secrets.*.name":            ignored("it is the name in a Swarm"),
	"secrets.*.file":            yes(),
	"secrets.*.environment":     yes(),
	"secrets.*.labels":          ignored(metadata),
	"secrets.*.external":        refused("there is no Swarm to ask; use file or environment"),
	"secrets.*.driver":          refused("there is no secret driver"),
	"secrets.*.driver_opts":     refused("there is no secret driver"),
	"secrets.*.template_driver": refused("content is taken as it is"),
}

// checkKeys applies the table to the merged model below path, whose row is pattern.
func (l *loading) checkKeys(v any, path []string, pattern string) {
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			named := pattern == "services" || pattern == "networks" || pattern == "volumes" || pattern == "configs" || pattern == "secrets" ||
				pattern == "services.*.depends_on"
			if strings.HasPrefix(name, "x-") && !named {
				continue // x-gauntlet is read in gauntlet.go; the others are other people's
			}
			if pattern == "services.*" && name == "build" && ownProgram(v) {
				continue // nothing is built by it
			}
			p := name
			if named {
				p = "*"
			}
			if pattern != "" {
				p = pattern + "." + p
			}
			l.checkKey(v[name], append(slices.Clone(path), name), p)
		}
	case []any:
		for i, e := range v {
			l.checkKey(e, append(slices.Clone(path), fmt.Sprint(i)), pattern+".*")
		}
	}
}

// ownProgram reports whether x-gauntlet says what a service's program is, in place of an image.
func ownProgram(service map[string]any) bool {
	ext, _ := service[Extension].(map[string]any)
	return ext["go"] != nil || ext["exec"] != nil
}

func (l *loading) checkKey(v any, path []string, pattern string) {
	k, known := keys[pattern]
	key := path[len(path)-1]
	switch {
	case !known:
		l.fail(path, fmt.Sprintf("%s: this version does not know the key %s", where(path[:len(path)-1]), key), "remove it")
	case k.Treatment == section:
		l.checkKeys(v, path, pattern)
	case k.Treatment == Warned:
		if !empty(v) {
			line, _ := l.src.at(path)
			l.spec.Warnings = append(l.spec.Warnings, fmt.Sprintf("%s:%d: %s has no effect: %s", l.src.file, line, where(path), k.Why))
		}
	case k.Treatment == Refused:
		if s, isString := v.(string); empty(v) || isString && slices.Contains(k.But, s) {
			return
		}
		if pattern == "services.*.security_opt" && onlyNoNewPrivileges(v) {
			return
		}
		l.fail(path, where(path)+" cannot be honoured", k.Why)
	}
}

const noNewPrivileges = "no-new-privileges"

func onlyNoNewPrivileges(v any) bool {
	list, _ := v.([]any)
	for _, e := range list {
		s, _ := e.(string)
		if key, _ := securityOpt(s); key != noNewPrivileges {
			return false
		}
	}
	return true
}

// securityOpt takes an element of security_opt apart: KEY, KEY:VALUE or KEY=VALUE.
func securityOpt(s string) (key, value string) {
	if i := strings.IndexAny(s, ":="); i >= 0 {
		return s[:i], s[i+1:]
	}
	return s, "true"
}

// empty reports whether a value says nothing: false, 0, "" or without elements.
func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == "" || v == "false"
	case int:
		return v == 0
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

// where names a path as a reader of the file would.
func where(path []string) string {
	if len(path) == 0 {
		return "the top level"
	}
	return strings.Join(path, ".")
}
