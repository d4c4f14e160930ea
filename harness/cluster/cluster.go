package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Driver starts topologies.
type Driver interface {
	Name() string
	// Capabilities says what this driver can do here. It is asked before anything starts.
	Capabilities() Capabilities
	// Up starts the topology and returns when every node was started in the order of depends_on and is ready. On
	// error nothing is left, and the error quotes the last lines of the log of the node that failed.
	Up(ctx context.Context, spec *Spec, opt Options) (Cluster, error)
}

// VolumeKeeper is a Driver that keeps named volumes itself, and not below Options.Volumes.
type VolumeKeeper interface {
	// RemoveVolumes removes the volumes with these names of a directory of volumes; without names, all of them.
	RemoveVolumes(ctx context.Context, dir string, names ...string) error
}

// Options of one topology.
type Options struct {
	Dir     string            // the run's directory; logs go to Dir/logs/NODE.log, appended to when they exist
	Volumes string            // directory of named volumes: Volumes/NAME, or what a VolumeKeeper finds them by; they persist between Ups
	Bin     map[string]string // programs by name -> executable, put on the PATH of every node and of the client
	Observe func(Event)       // called in order, from one goroutine at a time; must not block
	// Progress, when set, is told what an Up that may take long is doing, one line each, from any goroutine.
	Progress func(line string)
	// Toxic lists the links that a toxic may come on; they go through the link core from the first connection. An end may
	// be a node, a service or a group: nodes that come later belong to theirs.
	Toxic []Link
	// Observed lists the links whose calls are read off the wire; ends as in Toxic.
	Observed []Link
	// Replied lists those that a Reply may come on; ends as in Toxic.
	Replied []Link
	// Calls gets what was read, from one goroutine at a time, and once more when the topology comes down.
	Calls func(CallBatch)
}

// Capabilities maps what a fault may need to nil, or to the reason why it cannot be had.
type Capabilities map[Capability]error

// Capability is something a fault may need.
type Capability string

// The capabilities.
const (
	PacketRules Capability = "packet rules" // drop, reject, reset
	PacketDelay Capability = "packet delays"
	Toxics      Capability = "toxics"
	Signals     Capability = "signals"
	CPULimit    Capability = "cpu limit"
	MemoryLimit Capability = "memory limit"
)

// Missing returns why c cannot be had, or nil when it can.
func (m Capabilities) Missing(c Capability) error {
	err, ok := m[c]
	if !ok {
		return errors.New("this driver has no " + string(c))
	}
	return err
}

// Cluster is a running topology. All methods may be called from several goroutines; names of nodes are those of
// Nodes. An unknown name is an *UnknownNodeError.
type Cluster interface {
	Nodes() []NodeInfo // without the client, sorted by name
	Spec() *Spec
	Status(node string) (Status, error)
	Dialer
	Prober
	Lifecycle
	Runner
	Linker
	// Scale sets the number of replicas of a scaled service; it returns when added nodes are ready and removed ones
	// (the highest ordinals) are stopped.
	Scale(ctx context.Context, service string, n int) error
	// Down stops every program as Compose does (stop signal, grace), in reverse order of dependency, then removes
	// everything. It returns what is left: names of processes, rules, mounts, namespaces, cgroups. Safe to call twice.
	Down(ctx context.Context) (left []string, err error)
	// Done is closed when the topology ended without Down (the plane died); Err says why.
	Done() <-chan struct{}
	Err() error
}

// Status is the present state of a node.
type Status struct {
	State    State
	Ready    bool
	Started  time.Time // of the present or last program
	Restarts int       // starts after the first, whoever asked
	Exit     *Exit     // of the last program that ended
	Pids     []int     // of the running programs, as the harness's machine numbers them; empty where it cannot know
}

// Dialer is the one way into a topology.
type Dialer interface {
	// Dial connects from a node (or Client) to ADDRESS, which is NODE:PORT, SERVICE:PORT (any replica, by name) or
	// IP:PORT. Rules on the link apply to it. network is tcp or udp.
	Dial(ctx context.Context, from, network, address string) (net.Conn, error)
	// DialPlane connects from the plane itself and passes by the rules: for scraping and observing, never for load.
	DialPlane(ctx context.Context, network, address string) (net.Conn, error)
}

// Prober gives probes a place to connect to, so that a link can be tried whatever the programs at its ends do.
type Prober interface {
	// Listen opens a TCP listener in the node's own network, at its address and a free port. Connections dialled to it
	// from another node take the link between the two, with its rules and toxics.
	Listen(ctx context.Context, node string) (net.Listener, error)
}

// Lifecycle is what can be done to a node's program.
type Lifecycle interface {
	// Kill sends SIGKILL to every process of the node and returns when they were reaped.
	Kill(ctx context.Context, node string) (Exit, error)
	// Start starts a node's program that is not running, and returns when it was started (not when it is ready).
	Start(ctx context.Context, node string) error
	// Stop sends the stop signal, waits for the grace, then kills.
	Stop(ctx context.Context, node string) (Exit, error)
	// Restart is Stop and Start; env, when not nil, is added to the program's environment from now on.
	Restart(ctx context.Context, node string, env map[string]string) error
	// Pause stops every process of the node (SIGSTOP) and returns when all are stopped; Resume is its inverse.
	Pause(ctx context.Context, node string) error
	Resume(ctx context.Context, node string) error
	// Signal sends a signal (SIGHUP, HUP or 1) to every process of the node's program and what it started, or to those of
	// them whose command line contains process, and returns how many got it. None is an error.
	Signal(ctx context.Context, node, signal, process string) (int, error)
	// AwaitReady waits until the node is ready, and fails at once when its program ended and will not be restarted.
	AwaitReady(ctx context.Context, node string) error
	// Hold suspends the restart policy of a node until the returned function is called: a fault that kills must not
	// race with it.
	Hold(node string) (release func())
}

// Runner runs a program beside the one of a node, or in the client.
type Runner interface {
	// Exec starts a program in the node: with its network, files, user and environment. Killing ctx kills it and
	// what it started.
	Exec(ctx context.Context, node string, p Process) (Execution, error)
}

// Process is a program to run in a node.
type Process struct {
	Argv   []string
	Env    map[string]string // added to the node's
	Stdin  io.Reader         // nil: none. Closing is by its EOF
	Stdout io.Writer         // nil: discarded
	Stderr io.Writer
}

// Execution is a program started by Exec.
type Execution interface {
	// Wait returns when the program ended and its output was copied.
	Wait() (Exit, error)
	// Signal sends a signal to the program and everything it started.
	Signal(sig string) error
}

// Linker sets rules on links.
type Linker interface {
	// Apply puts a rule on links, all at once. The rule stays until it is removed. Several rules may hold on one
	// link: drop wins over reject, reject over the rest; delays add up.
	Apply(ctx context.Context, links []Link, r Rule) (RuleID, error)
	Remove(ctx context.Context, id RuleID) error
	// Counters returns, for each link of the rule, what it acted on so far. Of a delay it is an error when packets passed
	// that could not be held back. Of a rule that whoever carries it out does not have, or not any more, the error is an
	// *UnknownRuleError.
	Counters(ctx context.Context, id RuleID) ([]Counter, error)
	// Reset ends live TCP connections between the two nodes of each link, idle ones too: both ends see a reset.
	// It returns how many connections it found, without those of probes, that is to a Prober's listener.
	Reset(ctx context.Context, links []Link) (int, error)
}

// RuleID names a rule that was applied.
type RuleID uint64

// UnknownRuleError is the error of a rule that nobody carries out.
type UnknownRuleError struct{ ID RuleID }

func (e *UnknownRuleError) Error() string { return fmt.Sprintf("there is no rule %d", e.ID) }

// Rule is what happens on a link. Exactly one field is set.
type Rule struct {
	Drop   bool   `json:"drop,omitempty"`
	Reject bool   `json:"reject,omitempty"`
	Delay  *Delay `json:"delay,omitempty"`
	Toxic  *Toxic `json:"toxic,omitempty"`
	Reply  *Reply `json:"reply,omitempty"`
}

// Delay holds packets back.
type Delay struct {
	Time         time.Duration `json:"time"`
	Jitter       time.Duration `json:"jitter,omitempty"`
	Distribution string        `json:"distribution,omitempty"` // uniform (default) | normal | pareto
	Seed         uint64        `json:"seed,omitempty"`
}

// Toxic is one of toxiproxy's, in its own words. The link's direction From -> To is that of the connections: stream
// upstream is what the client sends, downstream what it receives.
type Toxic struct {
	Type       string          `json:"type"`
	Stream     string          `json:"stream"`   // upstream | downstream
	Toxicity   float64         `json:"toxicity"` // share of connections, (0,1]
	Attributes json.RawMessage `json:"attributes"`
	Seed       uint64          `json:"seed,omitempty"`
}

// Counter says what a rule acted on.
type Counter struct {
	Link    Link
	Packets uint64 // packets rules: matched packets; toxics: chunks; replies: those that were given. Without those of probes
	Bytes   uint64 // replies: requests that they were chosen among
	Probes  uint64 // packets or chunks of probes, that is to and from a Prober's listener
}

// LeftError is part of the error of Driver.Up when what was begun could not be taken away again.
type LeftError struct{ Left []string }

func (e *LeftError) Error() string { return "left behind: " + strings.Join(e.Left, ", ") }

// UnknownNodeError is the error of a name that no node has.
type UnknownNodeError struct{ Name string }

func (e *UnknownNodeError) Error() string { return "no node is called " + e.Name }
