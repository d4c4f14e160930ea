package scenarios

import (
	"encoding/json"

	"github.com/hasvc/gauntlet/assertions"
	"github.com/hasvc/gauntlet/faults"
	"github.com/hasvc/gauntlet/harness/plan"
)

// File is a scenario file: inert, as it was written. Its json tags are the keys of the file, its desc tags the text of the
// schema.
type File struct {
	Version   int                 `json:"version" jsonschema:"required" desc:"The version of this format: 1."`
	Name      string              `json:"name" desc:"The scenario's name; left out, the file's."`
	Summary   string              `json:"summary" desc:"One sentence: what is done, and what must hold."`
	Tags      []string            `json:"tags" desc:"Words to find the scenario by."`
	Topology  string              `json:"topology" jsonschema:"required" desc:"A Compose file, relative to this file."`
	Seed      *uint64             `json:"seed" desc:"Everything random is drawn from it. Left out: drawn, printed and recorded."`
	Timeout   plan.Duration       `json:"timeout" desc:"Of one round, from up to down. Left out: computed from what the round is to do."`
	Rounds    *Rounds             `json:"rounds" desc:"Repeats everything from up to down; the worst verdict wins."`
	Programs  map[string]Program  `json:"programs" desc:"Programs of your own, built or found before the start and on the PATH of the nodes that use them."`
	Workloads map[string]Workload `json:"workloads" desc:"Clients that write a history of operations and read back what they wrote."`
	Load      map[string]Stream   `json:"load" desc:"Open-loop streams of requests. Latency counts from the moment a request was due."`
	Warmup    *plan.Duration      `json:"warmup" desc:"The most that may pass, under the load's first rate, until the service answers as it should; what is sent then does not count. 0s: none. Default 10s."`
	Baseline  *Steady             `json:"baseline" desc:"The phase before the first fault: a time, or a least time and a condition. Default 3s."`
	Recovery  *Steady             `json:"recovery" desc:"The phase after the last fault. Default 5s."`
	Require   []Require           `json:"require" desc:"Preconditions. Unmet, the run is INVALID, never PASS."`
	Faults    []Fault             `json:"faults" desc:"What is broken, and when."`
	Abort     []Abort             `json:"abort" desc:"Bounds that end the run as FAIL at once."`
	Assert    []Assert            `json:"assert" desc:"What must hold."`
	Controls  []Control           `json:"controls" desc:"Changes of the system after which the named assertions must fail: the proof that they can."`

	path   string
	doc    *document
	root   *node
	tables Tables
}

// Tables are what a scenario may name.
type Tables struct {
	Faults     []faults.Kind
	Assertions []assertions.Kind
	// Defects are the reference service's; nil leaves them unchecked.
	Defects []string
	// Metrics is what is known of a run's metrics; of its zero value, nothing.
	Metrics assertions.MetricScope
}

// Rounds repeats a scenario.
type Rounds struct {
	Count int      `json:"count" desc:"How many. Default 1."`
	Fresh []string `json:"fresh" desc:"Groups or services whose volumes start empty in each round; the others persist."`
}

// Program is built or found before the start. One of its keys is given.
type Program struct {
	Go   string `json:"go" desc:"A Go package to build: PACKAGE[@VERSION], or a directory relative to this file."`
	Exec string `json:"exec" desc:"A local program: a path relative to this file, or a name on PATH."`
}

// Workload is a set of clients.
type Workload struct {
	Kind    string        `json:"kind" jsonschema:"enum=registers,enum=exec" desc:"registers (built in) or exec (a program of yours)."`
	To      string        `json:"to" desc:"What it works on: a service, group or node of the topology."`
	Clients int           `json:"clients" desc:"How many work at once. Default 8."`
	Keys    int           `json:"keys" desc:"How many keys they share. Default 16."`
	Rate    Rate          `json:"rate" desc:"Operations per second of all clients together. Default 100/s."`
	Timeout plan.Duration `json:"timeout" desc:"Of one operation. Default 1s."`
	Exec    []string      `json:"exec" desc:"The program and its arguments; it speaks the JSON-lines protocol."`
	In      string        `json:"in" desc:"The node it runs in. Default client."`
}

// Stream is a load: an open-loop stream of requests.
type Stream struct {
	To        string        `json:"to" jsonschema:"required" desc:"A service, group or node of the topology, reached from the node client."`
	Port      int           `json:"port" desc:"Default: the service's first port."`
	Rate      Rate          `json:"rate" desc:"Requests per second; short for one stage."`
	Stages    []Stage       `json:"stages" desc:"Begin with the baseline; the last rate holds to the end of recovery. A soak is a load whose last stage lasts; surges on top of it are the faults spike and ramp."`
	Timeout   plan.Duration `json:"timeout" desc:"Of a request. Default 1s."`
	KeepAlive *bool         `json:"keepalive" desc:"Reuse connections. Default true."`
	Idle      plan.Duration `json:"idle" desc:"How long a client keeps a connection that it has no use for; of HTTP. Default: to the end. Where a server closes it first, a request can be on its way."`
	HTTP2     bool          `json:"http2" desc:"Speak HTTP/2 from the first byte, without TLS (prior knowledge, h2c), to the ready replicas in turn over one connection each. Default: HTTP/1.1."`
	Requests  []Request     `json:"requests" desc:"Templates, chosen by weight."`
	Targets   string        `json:"targets" desc:"Instead of requests: a file in vegeta's HTTP format, relative to this file."`
	GRPC      *GRPC         `json:"grpc" desc:"Its requests are gRPC calls, to the ready replicas in turn over one connection each; {} is enough where the service has server reflection."`
}

// GRPC makes a load one of gRPC calls.
type GRPC struct {
	Descriptors string `json:"descriptors" desc:"A FileDescriptorSet (protoc -o FILE --include_imports), relative to this file. Default: the service's own, by server reflection."`
}

// Stage is a stretch of load.
type Stage struct {
	For  plan.Duration `json:"for" desc:"How long. May be left out in the last stage."`
	Rate Rate          `json:"rate" desc:"A constant rate."`
	From Rate          `json:"from" desc:"With to: a rate that changes linearly."`
	To   Rate          `json:"to"`
}

// Request is a template of a request.
type Request struct {
	ID      string            `json:"id" desc:"What assertions call it. Default: method and path, or the call."`
	Weight  *int              `json:"weight" desc:"Its share among the requests. Default 1."`
	Method  string            `json:"method" desc:"Default GET."`
	Path    string            `json:"path" desc:"A template: {{.N}} is the sequence number, {{.ID}} unique in the run, {{mod .N 50}} and {{rand 50}} numbers below 50."`
	Headers map[string]string `json:"headers" desc:"Their values are templates."`
	Body    json.RawMessage   `json:"body" desc:"A text is sent as it is, any other value as JSON. A template."`
	Expect  *Expect           `json:"expect" desc:"Which answers are good. Default: any 2xx, of gRPC OK."`

	Call     string            `json:"call" desc:"Of a gRPC load, in place of method and path: PACKAGE.SERVICE/METHOD."`
	Message  json.RawMessage   `json:"message" desc:"The call's message in protobuf's JSON form. Its texts are templates. Default: the empty message."`
	Metadata map[string]string `json:"metadata" desc:"Of the call. Values are templates."`
	Stream   *StreamShape      `json:"stream" desc:"The shape of a streaming call. It is one request, whose latency goes to its end."`
}

// StreamShape is the shape of a streaming call.
type StreamShape struct {
	Send    int           `json:"send" desc:"How often the client sends the message. Default once."`
	Receive int           `json:"receive" desc:"How many messages the client takes before it ends the stream; fewer are not good. Default: all, to the server's end."`
	Pause   plan.Duration `json:"pause" desc:"Between messages that are sent. Default none."`
}

// Expect says which answers are good.
type Expect struct {
	Status  Statuses `json:"status" desc:"A status, or several."`
	Code    Codes    `json:"code" desc:"A gRPC status such as UNAVAILABLE, or several."`
	Matches string   `json:"matches" desc:"A regular expression (RE2) on the body; of a gRPC answer on its messages as JSON, a line each."`
}

// Steady is a phase without faults: a time, or a least time and a condition that ends it.
type Steady struct {
	AtLeast plan.Duration `json:"at-least" desc:"It lasts at least so long."`
	Until   *Trigger      `json:"until" desc:"And until this holds."`
}

func (*Steady) shortKey() string { return "at-least" }

// Trigger is a moment: a time, or an event or condition with its timeout.
type Trigger struct {
	After   string        `json:"after" desc:"A step in a fault's life: ID.started, ID.in-effect, ID.undone or ID.gone; of a repeated fault, the first."`
	When    *Condition    `json:"when" desc:"A condition."`
	Plus    plan.Span     `json:"plus" desc:"A time, or a range, added to it."`
	Timeout plan.Duration `json:"timeout" desc:"When it passes the run is INVALID. Default 60s; of after, 60s from the latest moment at which its event can come."`
}

func (*Trigger) shortKey() string { return "plus" }

// Condition is something that may come to hold. One of http, tcp, log, exec, workload, metric, event is given.
type Condition struct {
	HTTP     string             `json:"http" desc:"http://NODE:PORT/path; holds on any 2xx. With in: http://:PORT/path."`
	TCP      string             `json:"tcp" desc:"NODE:PORT; holds when a connection is accepted. With in: :PORT."`
	Log      *plan.LogCondition `json:"log" desc:"Holds when a line matches that was written since the condition was set up."`
	Exec     []string           `json:"exec" desc:"A program, run in the node in; holds when it exits with 0."`
	In       string             `json:"in" desc:"The node that exec runs in, or that http and tcp mean when they name none."`
	Workload string             `json:"workload" desc:"A workload, with acked."`
	Acked    plan.Bound         `json:"acked" desc:"A bound on its acknowledged operations, such as >= 500."`
	Metric   string             `json:"metric" desc:"A PromQL expression, with is."`
	Is       plan.Bound         `json:"is" desc:"The bound that every sample of metric must satisfy."`
	Event    string             `json:"event" desc:"A step in a fault's life, such as loop.gone."`
}

// Require is a precondition. One of At and By is given.
type Require struct {
	ID string `json:"id" jsonschema:"required" desc:"What the record calls it."`
	At string `json:"at" jsonschema:"enum=ready,enum=baseline,enum=fault,enum=recovery,enum=verify" desc:"Tested once, at the end of this phase."`
	By string `json:"by" jsonschema:"enum=baseline,enum=fault,enum=recovery,enum=verify,enum=end" desc:"Polled until it holds, at the latest by the end of this phase."`
	Condition
}

// Fault is an entry of faults: when, how long, and one key that says what.
type Fault struct {
	ID     string   `json:"id" jsonschema:"required" desc:"What other entries and assertions call it."`
	At     *Trigger `json:"at" desc:"When it begins, from the start of the fault phase. Default 0s."`
	For    *Lasting `json:"for" desc:"How long it holds at least: a time, a range, or end (held until the topology comes down). It is not undone before its effect is proved: a drop of 100ms lasts until its probes have waited 400ms. Left out: to the end of the fault phase."`
	Until  *Trigger `json:"until" desc:"What ends it, in place of for."`
	Repeat *Repeat  `json:"repeat" desc:"Does it again and again."`
	AtMost *Share   `json:"at-most" desc:"The share of a group that faults may hold at once."`

	Kind   string        `json:"-"`
	Params faults.Params `json:"-"` // nil when they could not be read

	row    faults.Kind
	at     *node         // the parameters
	partly faults.Params // as far as they could be read
}

// Repeat does a fault again and again.
type Repeat struct {
	Every plan.Span     `json:"every" jsonschema:"required" desc:"Parts the starts: a time, or a range drawn afresh each time."`
	For   plan.Duration `json:"for" desc:"Bounds the starts."`
	Times int           `json:"times" desc:"How often."`
}

// Abort ends the run as FAIL when a bound is broken.
type Abort struct {
	SLO *AbortSLO `json:"slo" jsonschema:"required"`
}

// AbortSLO is a bound over a sliding window.
type AbortSLO struct {
	Load    string        `json:"load" jsonschema:"required" desc:"A load."`
	Success plan.Bound    `json:"success" jsonschema:"required" desc:"Aborts when this holds, such as < 10%."`
	For     plan.Duration `json:"for" jsonschema:"required" desc:"The sliding window."`
}

// Assert is an entry of assert: an id and one key that says what.
type Assert struct {
	ID string `json:"id" jsonschema:"required" desc:"What findings and controls call it."`

	Kind   string            `json:"-"`
	Params assertions.Params `json:"-"` // nil when they could not be read

	row assertions.Kind
	at  *node // the parameters
}

// Control is a change to the system under test. One of Defect, Env and Flags is given.
type Control struct {
	Defect   string              `json:"defect" desc:"A defect of the reference service."`
	Service  string              `json:"service" desc:"The service that has the defect. Left out: every one that runs the reference service."`
	Env      map[string]string   `json:"env" desc:"Variables of the topology's interpolation."`
	Flags    map[string][]string `json:"flags" desc:"By service or group: appended to its command."`
	MustFail []string            `json:"must-fail" jsonschema:"required" desc:"The assertions that must fail then."`
}
