package engine

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// Spec describes a container. Its zero values are the image's.
type Spec struct {
	Name string // unique in the run; the engine sees it with the run's id before it
	Role string // of the label
	Node string // of the label; empty: none

	Image      string   // an id, or a name that the engine has: nothing is pulled
	Entrypoint []string // nil: the image's. When it is set, the image's arguments do not hold
	Cmd        []string // nil: the image's
	Env        map[string]string
	User, Dir  string
	Hostname   string // belongs to the network: not with NetworkOf

	// Where the container is: an address on a network, the network namespace of a container, or nothing but loopback.
	Network   *Network
	Addr      netip.Addr
	NetworkOf string // a container's id
	PIDOf     string // a container's id, whose process namespace it shares; empty: its own

	CapDrop, CapAdd []string // such as NET_RAW, or ALL
	NoNewPrivileges bool
	Sysctls         map[string]string

	Mounts   []cluster.Mount   // the source of a volume is the engine's name of it
	Files    []cluster.File    // copied in before the first start; directories on the way are made; they stay
	Dirs     []string          // made, or given to the owner, before the first start: of a volume that is mounted there its root
	UID, GID int               // the owner of Files and Dirs
	Programs map[string]string // name -> executable of this machine, copied to /usr/local/bin
	Init     bool              // the engine's init is process 1
	Limits   cluster.Limits
	Stdin    bool // it has a standard input, which ends with the first Stream that is attached
	ReadOnly bool // its root; not with Files or Programs, which the engine refuses then

	StopSignal string         // of docker stop, for who uses it by hand: Container.Stop is told
	StopGrace  *time.Duration // likewise, in whole seconds
}

// config puts what is about the program into the engine's form.
func (s Spec) config(c *container.Config) {
	c.Image = s.Image // and not what the user's settings of testcontainers made of it
	c.User, c.WorkingDir, c.Hostname = s.User, s.Dir, s.Hostname
	c.StopSignal = s.StopSignal
	if s.StopGrace != nil {
		seconds := int(math.Ceil(s.StopGrace.Seconds()))
		c.StopTimeout = &seconds
	}
	c.AttachStdout, c.AttachStderr = true, true
	// StdinOnce passes the end of the attached stream on: when the harness dies, the program reads the end of its input.
	c.AttachStdin, c.OpenStdin, c.StdinOnce = s.Stdin, s.Stdin, s.Stdin
	// Not the image's own, which the engine would take where nothing is said: who wants a check runs it by Exec.
	c.Healthcheck = &container.HealthConfig{Test: []string{"NONE"}}
}

// host puts what is about its surroundings into the engine's form.
func (s Spec) host(h *container.HostConfig) {
	// Output is taken from the attached stream. Any other driver would write a second copy on the engine's disk.
	h.LogConfig = container.LogConfig{Type: "none"}
	h.CapDrop, h.CapAdd, h.Sysctls, h.ReadonlyRootfs = s.CapDrop, s.CapAdd, s.Sysctls, s.ReadOnly
	if s.NoNewPrivileges {
		h.SecurityOpt = append(h.SecurityOpt, "no-new-privileges")
	}
	h.Init = &s.Init // not the engine's default, which may be either
	h.Resources = resources(s.Limits)
	for _, m := range s.Mounts {
		if m.Kind == "tmpfs" {
			if h.Tmpfs == nil {
				h.Tmpfs = map[string]string{}
			}
			h.Tmpfs[m.Target] = tmpfsOptions(m)
			continue
		}
		// A bind mount whose source is not there is an error of the engine in this form; in the older one ("Binds") it makes a directory.
		h.Mounts = append(h.Mounts, mount.Mount{Type: mount.Type(m.Kind), Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly})
	}
	if s.PIDOf != "" {
		h.PidMode = container.PidMode("container:" + s.PIDOf)
	}
	switch {
	case s.NetworkOf != "":
		h.NetworkMode = container.NetworkMode("container:" + s.NetworkOf)
	case s.Network != nil:
		h.NetworkMode = container.NetworkMode(s.Network.Name)
	default:
		h.NetworkMode = "none"
	}
}

// endpoints says the address on the network. Engines before API 1.44 take one endpoint at creation, of NetworkMode's name.
func (s Spec) endpoints(all map[string]*network.EndpointSettings) {
	clear(all)
	if s.Network != nil && s.NetworkOf == "" {
		all[s.Network.Name] = &network.EndpointSettings{IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: s.Addr}}
	}
}

// validate says what the engine would not notice, or only in its own words.
func (s Spec) validate() error {
	switch {
	case s.Network != nil && s.NetworkOf != "":
		return fmt.Errorf("container %s: it is on a network and in another's", s.Name)
	case s.NetworkOf != "" && s.Hostname != "":
		return fmt.Errorf("container %s: its host name is that of the container whose network it shares", s.Name)
	case s.Network != nil && !s.Network.Prefix.Contains(s.Addr):
		return fmt.Errorf("container %s: %v is not an address of the network %s (%v)", s.Name, s.Addr, s.Network.Name, s.Network.Prefix)
	}
	for _, m := range s.Mounts {
		switch m.Kind {
		case "volume", "bind", "tmpfs":
		default:
			return fmt.Errorf("container %s: a mount is volume, bind or tmpfs, not %q", s.Name, m.Kind)
		}
	}
	return nil
}

// tmpfsOptions puts a tmpfs into the engine's older form: among the mounts, engines before API 1.46 know no exec.
func tmpfsOptions(m cluster.Mount) string {
	options := []string{"mode=1777"} // older runtimes take that of a directory which is there already all the same
	if m.Size > 0 {
		options = append(options, fmt.Sprintf("size=%d", m.Size))
	}
	if m.ReadOnly {
		options = append(options, "ro")
	}
	if m.Exec {
		options = append(options, "exec") // it is noexec otherwise
	}
	return strings.Join(options, ",")
}

// cpuPeriod of the quota, in microseconds: the kernel's default.
const cpuPeriod = 100_000

// unlimitedMemory lifts a limit. Engines call -1 too small for memory, and for swap forget to pass it on: then the kernel
// refuses to raise the one above the other.
const unlimitedMemory = 1 << 60

// resources puts limits into the engine's form, so that all of them can be changed and lifted later.
func resources(l cluster.Limits) container.Resources {
	var r container.Resources
	if l.CPUs > 0 {
		// A quota and not NanoCPUs, which cannot be lifted: in an update 0 means unchanged, and then a quota is refused.
		r.CPUPeriod, r.CPUQuota = cpuPeriod, int64(l.CPUs*cpuPeriod)
	}
	if l.Memory > 0 {
		r.Memory, r.MemorySwap = l.Memory, l.Memory // no swap on top, or the limit would not bite
	}
	if l.Pids > 0 {
		r.PidsLimit = &l.Pids
	}
	return r
}

// update is resources for a container that has others: what is not limited any more is said to be so.
func update(l cluster.Limits) container.Resources {
	r := resources(l)
	if l.CPUs <= 0 {
		r.CPUPeriod, r.CPUQuota = cpuPeriod, -1
	}
	if l.Memory <= 0 {
		r.Memory, r.MemorySwap = unlimitedMemory, unlimitedMemory
	}
	if l.Pids <= 0 {
		none := int64(-1)
		r.PidsLimit = &none
	}
	return r
}
