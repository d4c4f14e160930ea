// Package cluster says what a running topology is, whatever carries it: the Spec that describes one, the Driver that
// starts it, and the small interfaces by which the engine, faults, load and workloads reach its nodes and links.
package cluster

import (
	"net/netip"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
)

// Client is the name of the node that every topology has: load and workloads start there.
const Client = "client"

// MaxReplicas is the most that a service may have: their names and addresses are given out before the first of them starts.
const MaxReplicas = 200

// Spec describes a topology. It is inert: package topology makes it from a Compose file, a driver starts it.
type Spec struct {
	Name     string    // the Compose project's name
	File     string    // the Compose file
	Services []Service // in the order of the file, without the client
	Volumes  []string  // named volumes
	Warnings []string  // what is not honoured but does no harm, such as a resource limit
}

// Service is a service of the Compose file. Its nodes are named like the service when Replicas was not given in the
// file, and SERVICE-1 .. SERVICE-N when it was.
type Service struct {
	Name     string
	Scaled   bool // deploy.replicas was given: nodes have ordinals, and the service may be scaled
	Replicas int  // at least 1, unless Scaled; at most MaxReplicas
	Line     int  // in the file

	Source     Source   // what the program is
	Argv0      string   // filled by package build: the executable, an absolute path on this machine
	Entrypoint []string // of the file; empty when the program was built or named by x-gauntlet
	Command    []string // arguments: entrypoint + command of the file
	Env        map[string]string
	Dir        string // working_dir
	User       string // "uid", "uid:gid" or a name of the host's passwd; empty: 0 inside the node
	Hostname   string // empty: the node's name
	// CapDrop are capabilities that it is not to have, such as NET_BIND_SERVICE or ALL, where its driver gives it any.
	CapDrop         []string
	NoNewPrivileges bool // of no-new-privileges: a set-user-ID program gains nothing

	Expose  []int // TCP ports of expose and ports, container side, in order; the first is where load and probes go by default
	Volumes []Mount
	Files   []File // configs and secrets

	DependsOn  []Dependency
	Health     *Healthcheck
	Restart    Restart
	Init       bool
	StopSignal string        // empty: the image's, else SIGTERM
	StopGrace  time.Duration // from the stop signal to the kill; 0: at once. Package topology fills in Compose's 10 s
	Limits     Limits

	Group  string // x-gauntlet.group; empty: none
	Zone   string
	Leader *Leader
	Ready  *plan.Condition // x-gauntlet.ready; wins over Health
	Drain  time.Duration   // x-gauntlet.drain: how long a node goes on serving after its stop signal; 0: not said
	// Metrics is x-gauntlet.metrics: where each node exposes them; nil: nowhere.
	Metrics *Endpoint
}

// Endpoint is a port and a path of a node's HTTP server.
type Endpoint struct {
	Port int
	Path string
}

// Source says where a program comes from. At most one field is set; none is an error of the topology package.
type Source struct {
	Go    string // PACKAGE[@VERSION]
	Exec  string // a local program: a path relative to the Compose file, or a name on PATH
	Image string // only drivers that run images
	Build *Build // likewise
}

// OwnCommand reports whether a service runs the command of its image, of which nothing is known here: what is given in addition
// would take its place.
func (s Service) OwnCommand() bool {
	return (s.Source.Image != "" || s.Source.Build != nil) && len(s.Entrypoint)+len(s.Command) == 0
}

// Build is a Compose build section.
type Build struct {
	Context, Dockerfile, Target string
	Args                        map[string]string
}

// Mount is a volume of a node.
type Mount struct {
	Kind     string // volume | bind | tmpfs
	Source   string // the volume's name, or an absolute host path
	Target   string // absolute path in the node
	ReadOnly bool
	Size     int64 // tmpfs, bytes; 0: unlimited
	Exec     bool  // tmpfs: programs in it can be run
}

// File is a config or secret: a file with given content in the node.
type File struct {
	Target  string
	Content []byte
	Mode    uint32
}

// Dependency is an entry of depends_on.
type Dependency struct {
	Service   string
	Condition string // service_started | service_healthy | service_completed_successfully
}

// Healthcheck is Compose's. Argv runs inside the node; exit status 0 is healthy.
type Healthcheck struct {
	Argv        []string
	Interval    time.Duration
	Timeout     time.Duration
	StartPeriod time.Duration
	Retries     int
}

// Restart is a restart policy.
type Restart struct {
	Policy     string // no | on-failure | always | unless-stopped
	MaxRetries int    // on-failure; 0: unlimited
}

// Limits are resource limits; zero is none.
type Limits struct {
	CPUs   float64
	Memory int64 // bytes
	Pids   int64
}

// Leader says how to ask a member who leads.
type Leader struct {
	Kind  string // etcd | http
	URL   string // http: asked of each member, http://:PORT/path
	Field string // http: the JSON field (a.b.c) that is true on the leader or holds its name
	Term  string // http: the JSON field with the term
}

// NodeInfo is what does not change while a node exists.
type NodeInfo struct {
	Name    string
	Service string
	Group   string
	Zone    string
	Ordinal int // from 1
	Addr    netip.Addr
	Log     string // path of the node's log file
	Scaled  bool
}

// State of a node's program.
type State string

// The states.
const (
	StateCreated State = "created"
	StateRunning State = "running"
	StatePaused  State = "paused"
	StateExited  State = "exited"
)

// Exit is how a program ended.
type Exit struct {
	Code   int    // exit status; -1 when a signal ended it
	Signal string // such as SIGKILL; empty when it exited
	At     time.Time
}

// EventKind names what an observed Event is about.
type EventKind string

// Events that drivers report.
const (
	NodeStarted   EventKind = "node.started"
	NodeExited    EventKind = "node.exited"
	NodeHealthy   EventKind = "node.healthy"
	NodeUnhealthy EventKind = "node.unhealthy"
	NodeReady     EventKind = "node.ready" // started and, where it has one, its ready condition or healthcheck held
	NodePaused    EventKind = "node.paused"
	NodeResumed   EventKind = "node.resumed"
	NodeRemoved   EventKind = "node.removed"
	// NodeSignalled tells that the harness sent a signal to the node's program itself; Detail is its name. Its time is just before
	// the sending, and it comes before the death that may follow.
	NodeSignalled EventKind = "node.signalled"
	// ProcessSignalled is the same of other processes of the node, and not of its program.
	ProcessSignalled EventKind = "node.process-signalled"
)

// Event is something that happened to a node.
type Event struct {
	At   time.Time // with a monotonic reading
	Kind EventKind
	Node string
	Exit *Exit // of NodeExited
	// Announced is set on NodeExited when the harness itself asked for this death (kill, stop, restart, down).
	Announced bool
	Detail    string
}

// Link is a directed pair of nodes.
type Link struct {
	From, To string
}

func (l Link) String() string { return l.From + " -> " + l.To }
