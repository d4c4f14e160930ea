// Package plan holds the inert types of a run: what will be done, when, and what is asked of the result.
//
// A Plan is compiled by package scenarios from a scenario file and a seed, executed by package engine, written to
// the run directory, and read again by package assertions. Nothing here has behaviour beyond parsing and printing
// its own values. Everything random in a Plan has been drawn; what depends on the running system (who leads, when a
// condition holds) is described and resolved once by the engine.
package plan

import "encoding/json"

// Version is the version of the plan's JSON schema.
const Version = 1

// Plan is one scenario compiled with one seed.
type Plan struct {
	Version  int      `json:"version"`
	Name     string   `json:"name"`
	Summary  string   `json:"summary,omitempty"`
	Tags     []string `json:"tags,omitempty"`
	File     string   `json:"file"`     // the scenario file, as it was named
	Topology string   `json:"topology"` // the Compose file, a path that can be opened
	Seed     uint64   `json:"seed"`
	Timeout  Duration `json:"timeout"` // of one round, from up to down

	Rounds []Round  `json:"rounds"`          // at least one
	Fresh  []string `json:"fresh,omitempty"` // groups or services whose volumes start empty in each round

	Programs  []Program  `json:"programs,omitempty"`
	Workloads []Workload `json:"workloads,omitempty"`
	Loads     []Load     `json:"load,omitempty"`
	// Warmup is the most that the phase before the baseline takes; 0: there is none.
	Warmup   Duration `json:"warmup,omitempty"`
	Baseline Baseline `json:"baseline"`
	Recovery Duration `json:"recovery"` // at least
	// RecoveryUntil, when set, prolongs the recovery until it holds.
	RecoveryUntil   *Condition `json:"recoveryUntil,omitempty"`
	RecoveryTimeout Duration   `json:"recoveryTimeout,omitempty"` // of RecoveryUntil
	Require         []Require  `json:"require,omitempty"`
	Abort           []Abort    `json:"abort,omitempty"`
	Assert          []Assert   `json:"assert,omitempty"`
	// Observe are the links whose calls are read off the wire: those that assertions count calls on, and those that faults
	// answer requests on.
	Observe  []LinkEnds `json:"observe,omitempty"`
	Controls []Control  `json:"controls,omitempty"` // as declared in the scenario
	Control  *Control   `json:"control,omitempty"`  // the one this plan carries out; nil for the unchanged run
}

// Round is one passage from up to down.
type Round struct {
	N      int     `json:"n"` // from 1
	Faults []Fault `json:"faults,omitempty"`
	// Quiet, when set, is what a control without faults does in place of them.
	Quiet *Quiet `json:"quiet,omitempty"`
}

// Quiet is a fault phase in which nothing is done: as long as that of the run it is compared with, and with the lives of that run's
// faults written down where they were, so that what is asked "while the fault holds" or "after it is gone" is asked of the same
// stretches of an undisturbed run.
type Quiet struct {
	For     Duration `json:"for"`
	Moments []Moment `json:"moments,omitempty"` // in the order of time
	// Toxic and Replied are the links on which those faults use a toxic, or answer requests: without a fault too they go through the
	// link core, for a bound must not be measured on another way than the one it is asked of.
	Toxic   []LinkEnds `json:"toxic,omitempty"`
	Replied []LinkEnds `json:"replied,omitempty"`
}

// Moment is a step in the life of a fault, and when it came.
type Moment struct {
	Fault      string     `json:"fault"`
	Kind       string     `json:"kind,omitempty"`
	Occurrence int        `json:"occurrence"`
	Event      FaultEvent `json:"event"`
	At         Duration   `json:"at"` // from the start of the fault phase
	Targets    []string   `json:"targets,omitempty"`
	Links      []string   `json:"links,omitempty"`
}

// Fault is one entry of a scenario's list of faults, with everything random drawn.
type Fault struct {
	ID   string `json:"id"`
	Kind string `json:"kind"` // a row of the table of package faults
	// At says when the first occurrence begins.
	At Trigger `json:"at"`
	// Occurrences has one element, or several for a repeated fault. Each begins At + its Offset, but not before the
	// one before it is gone.
	Occurrences []Occurrence `json:"occurrences"`
	Repeated    bool         `json:"repeated,omitempty"`
	// Until, when set, ends each occurrence in place of Occurrence.For.
	Until *Trigger `json:"until,omitempty"`
	// Held faults (for: end) are undone only when the topology comes down.
	Held bool `json:"held,omitempty"`
	// AtMost bounds the share of a group that faults may hold at once, in (0,1]; 0 is the default of the engine.
	AtMost float64 `json:"atMost,omitempty"`
	// Window bounds the starts of a repeated fault, 0 for none.
	Window Duration `json:"window,omitempty"`
}

// Occurrence is one injection of a fault.
type Occurrence struct {
	Offset Duration `json:"offset"`        // from the fault's trigger
	For    Duration `json:"for,omitempty"` // how long the fault stays in effect at least, and until that is proved; 0 with neither Until nor Held: until the end of the fault phase
	Seed   uint64   `json:"seed"`          // for draws among what is only known at run time, such as live members
	// Params are the parameters of the kind, in the words of the scenario file, ranges replaced by drawn values.
	Params json.RawMessage `json:"params"`
}

// Trigger is a moment. Exactly one of Offset alone, After, or When is meant; Offset counts from the start of the
// fault phase.
type Trigger struct {
	Offset  Duration   `json:"offset,omitempty"`
	After   *EventRef  `json:"after,omitempty"`
	Plus    Duration   `json:"plus,omitempty"` // added to After or When
	When    *Condition `json:"when,omitempty"`
	Timeout Duration   `json:"timeout,omitempty"` // of After and When; when it passes the run is INVALID
}

// EventRef names a moment in the life of a fault; of a repeated fault, of its first occurrence.
type EventRef struct {
	Fault string     `json:"fault"`
	Event FaultEvent `json:"event"`
}

// FaultEvent is a step in the life of a fault.
type FaultEvent string

// The life of a fault, in order.
const (
	Started  FaultEvent = "started"
	InEffect FaultEvent = "in-effect" // proved
	Undone   FaultEvent = "undone"
	Gone     FaultEvent = "gone" // proved
)

// Condition is something that may come to hold in a running topology. Exactly one of HTTP, Log, Exec, TCP, Workload,
// Metric and Event is set.
type Condition struct {
	HTTP     string             `json:"http,omitempty"` // http://NODE:PORT/path, or http://:PORT/path with In; holds on any 2xx
	TCP      string             `json:"tcp,omitempty"`  // NODE:PORT, or :PORT with In; holds when a connection is accepted
	Log      *LogCondition      `json:"log,omitempty"`
	Exec     []string           `json:"exec,omitempty"` // run in the node In; holds when it exits with 0
	In       string             `json:"in,omitempty"`
	Workload *WorkloadCondition `json:"workload,omitempty"`
	Metric   *MetricCondition   `json:"metric,omitempty"`
	Event    *EventRef          `json:"event,omitempty"`
}

// LogCondition holds when a line written since the condition was set up matches.
type LogCondition struct {
	Node    string `json:"node"`    // a node or service, or $FAULT.target for the nodes a fault resolved to (any may match)
	Matches string `json:"matches"` // a regular expression (RE2)
}

// WorkloadCondition holds when a count of the workload reaches a bound.
type WorkloadCondition struct {
	Workload string `json:"workload"`
	Acked    Bound  `json:"acked"` // acknowledged operations
}

// MetricCondition is a PromQL expression whose every sample must satisfy the bound.
type MetricCondition struct {
	Query string `json:"query"`
	Is    Bound  `json:"is"`
}

// Program is built, or found, before the start, and on the PATH of the nodes that use it. One of Go and Exec is set.
type Program struct {
	Name string `json:"name"`
	Go   string `json:"go,omitempty"`   // PACKAGE[@VERSION]
	Exec string `json:"exec,omitempty"` // path of a local program
}

// Workload is a set of clients that write a history.
type Workload struct {
	Name    string   `json:"name"`
	Kind    string   `json:"kind"` // registers | exec
	To      string   `json:"to,omitempty"`
	Clients int      `json:"clients,omitempty"`
	Keys    int      `json:"keys,omitempty"`
	Rate    float64  `json:"rate,omitempty"` // operations per second of all clients together; 0: as fast as they can
	Timeout Duration `json:"timeout,omitempty"`
	Exec    []string `json:"exec,omitempty"`
	In      string   `json:"in,omitempty"` // the node an exec workload runs in
	Seed    uint64   `json:"seed"`
}

// Load is an open-loop stream of requests.
type Load struct {
	Name      string    `json:"name"`
	To        string    `json:"to"`             // a service
	Port      int       `json:"port,omitempty"` // 0: the service's first port
	Stages    []Stage   `json:"stages"`         // the last one's rate holds until the end of recovery
	Timeout   Duration  `json:"timeout"`
	KeepAlive bool      `json:"keepalive"`
	Idle      Duration  `json:"idle,omitempty"`  // how long a connection that nothing uses is kept; 0: to the end
	HTTP2     bool      `json:"http2,omitempty"` // with prior knowledge, without TLS
	Requests  []Request `json:"requests,omitempty"`
	Targets   string    `json:"targets,omitempty"` // a file in vegeta's HTTP format, a path that can be opened; instead of Requests
	Seed      uint64    `json:"seed"`
	GRPC      *GRPC     `json:"grpc,omitempty"` // its requests are gRPC calls
}

// GRPC is what a load of gRPC calls needs beside its requests.
type GRPC struct {
	Descriptors string `json:"descriptors,omitempty"` // a FileDescriptorSet, a path that can be opened; empty: the service's own, by server reflection
}

// Stage is a stretch of load with a constant rate, or one that changes linearly.
type Stage struct {
	For  Duration `json:"for,omitempty"` // 0 only for the last stage: to the end
	From float64  `json:"from"`          // requests per second
	To   float64  `json:"to"`
}

// RateChange gives a load other rates than the planned ones from some moment on: Times those of the plan, or Stages, whose last
// rate holds.
type RateChange struct {
	Times  float64 `json:"times,omitempty"`
	Stages []Stage `json:"stages,omitempty"`
}

// LoadProgress is how far a load has come.
type LoadProgress struct {
	At          Duration // since its start
	Due         uint64   // requests due so far
	Planned     uint64   // due so far if nothing had changed its rate
	Sent        uint64   // begun so far
	Rate        float64  // requests per second that are due now
	PlannedRate float64
	Ended       bool // it sends no more, and its time stands still
}

// Request is a template of a request, chosen with its weight. Path, header values and body are text/template
// templates with .N (the sequence number), .ID (unique in the run) and the functions mod and rand.
type Request struct {
	ID      string            `json:"id"`
	Weight  int               `json:"weight"`
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers,omitempty"`
	Body    json.RawMessage   `json:"body,omitempty"` // a JSON string is sent as it is, any other value as JSON
	Expect  Expect            `json:"expect"`

	// Of a gRPC call, in place of Method, Path, Headers and Body.
	Call     string            `json:"call,omitempty"`     // PACKAGE.SERVICE/METHOD
	Message  json.RawMessage   `json:"message,omitempty"`  // in protobuf's JSON form; its strings are templates
	Metadata map[string]string `json:"metadata,omitempty"` // values are templates
	Stream   *Stream           `json:"stream,omitempty"`
}

// Stream is the shape of a streaming call, which is one request: its latency goes to its end.
type Stream struct {
	Send    int      `json:"send,omitempty"`    // messages that the client sends; 0: one
	Receive int      `json:"receive,omitempty"` // messages after which the client ends the stream, fewer are not good; 0: to the server's end
	Pause   Duration `json:"pause,omitempty"`   // between messages that are sent
}

// Expect says which answers count as good. The zero value is any 2xx, and OK of gRPC.
type Expect struct {
	Status  []int    `json:"status,omitempty"`
	Codes   []string `json:"codes,omitempty"`   // of gRPC, by name; none: OK
	Matches string   `json:"matches,omitempty"` // a regular expression on the body; of a gRPC answer on its messages as JSON, a line each
}

// Baseline is the phase before the first fault.
type Baseline struct {
	AtLeast Duration   `json:"atLeast"`
	Until   *Condition `json:"until,omitempty"`
	Timeout Duration   `json:"timeout,omitempty"` // of Until
}

// Require is a precondition; unmet, the run is INVALID. One of At and By is set: At tests once at the end of that
// phase, By polls until the end of that phase.
type Require struct {
	ID        string    `json:"id"`
	At        string    `json:"at,omitempty"`
	By        string    `json:"by,omitempty"` // a phase, or end
	Condition Condition `json:"condition"`
}

// Abort ends a run as FAIL when its bound is broken over a sliding window.
type Abort struct {
	Load    string   `json:"load"`
	Success Bound    `json:"success"`
	For     Duration `json:"for"`
}

// AbortSamples is the least number of requests that must have ended in the window for an abort rule to speak.
const AbortSamples = 10

// Assert is one assertion. Params are in the words of the scenario file.
type Assert struct {
	ID     string          `json:"id"`
	Kind   string          `json:"kind"` // a row of the table of package assertions
	Params json.RawMessage `json:"params"`
	Line   int             `json:"line,omitempty"` // in the scenario file
}

// Control is a change to the system under test after which the named assertions must fail. One of Defect, Env, Flags and NoFault
// is set.
type Control struct {
	Name     string              `json:"name"` // unique in the scenario; made from the change
	Defect   string              `json:"defect,omitempty"`
	Service  string              `json:"service,omitempty"` // that has the defect; empty: every service that runs hasvc
	Env      map[string]string   `json:"env,omitempty"`     // interpolation of the topology
	Flags    map[string][]string `json:"flags,omitempty"`   // service or group -> appended to its command
	MustFail []string            `json:"mustFail"`
	// NoFault is the A/A control: the same load for the same time and no fault. Nothing may fail in it: a bound that it breaks is
	// broken by noise.
	NoFault bool `json:"noFault,omitempty"`
}

// NoFaultControl is the name of the A/A control, which every scenario with faults has.
const NoFaultControl = "no-fault"

// Target selects nodes. Exactly one of Node, Service, Group, Zone is set; Pick narrows a service, group or zone down.
type Target struct {
	Node    string `json:"node,omitempty"`
	Service string `json:"service,omitempty"`
	Group   string `json:"group,omitempty"`
	Zone    string `json:"zone,omitempty"`
	// Any is the name of a node (the client among them), a service or a group, looked for in this order: what from and to of a link
	// fault take. It is not written in a Target of a scenario file.
	Any  string `json:"-"`
	Pick Pick   `json:"pick,omitempty"`
}

// Phases of a round, in order. Up, Ready, Verify, Drain, Down and Audit carry no load.
const (
	PhaseUp       = "up"
	PhaseReady    = "ready"
	PhaseWarmup   = "warmup" // under load that does not count, until the service answers as it should
	PhaseBaseline = "baseline"
	PhaseFault    = "fault"
	PhaseRecovery = "recovery"
	PhaseVerify   = "verify"
	PhaseDrain    = "drain"
	PhaseDown     = "down"
	PhaseAudit    = "audit" // once the topology is down: what is left then
)
