// Package record is the run directory: its files, its one writer and its one reader.
//
//	DIR/
//	  meta.json             Meta
//	  plan.json             plan.Plan
//	  events.jsonl          Event, a line each, in the order of time, written as the run goes on
//	  requests/LOAD.bin     vegeta's gob results: any vegeta reads it; its timestamp is when a request was sent
//	  requests/LOAD.jsonl   for each result, in the same order, what vegeta has no word for: due time, round, phase,
//	                        template, id, node, whether the answer was the expected one, how the request ended
//	  histories/WORKLOAD.jsonl  Op
//	  leaders.jsonl         LeaderPoll
//	  readiness.jsonl       Readiness, on change
//	  surroundings.jsonl    Surroundings, twice a second under load
//	  calls.jsonl           Call, of the links that the plan observes
//	  metrics/              a Prometheus TSDB; any Prometheus opens it
//	  logs/NODE.log         what the node's programs printed, all rounds in one file; round.begin and round.end say how long
//	                        it was then (LogMark)
//	  findings.json         written by check
//
// All times are offsets from the start of the run on one monotonic clock, in nanoseconds. A directory that was cut off at any
// moment can be read: a torn row is dropped and counted. The event run.end carries the number of rows of each file
// (EndData), so that a record that lost some is known for it.
package record

import (
	"time"
)

// Version is the version of the run directory.
const Version = 1

// Meta describes the run.
type Meta struct {
	Version  int       `json:"version"`
	Tool     string    `json:"tool"` // version of the harness
	Driver   string    `json:"driver"`
	Start    time.Time `json:"start"` // wall clock of offset 0
	Host     string    `json:"host"`  // kernel, cores, memory; no names
	Args     []string  `json:"args,omitempty"`
	Warnings []string  `json:"warnings,omitempty"`
	// Nodes of the topology as it was when the run began, so that a reader knows who belongs to a group.
	Nodes []Node `json:"nodes,omitempty"`
}

// Node is a node of the topology.
type Node struct {
	Name    string `json:"name"`
	Service string `json:"service"`
	Group   string `json:"group,omitempty"`
	Zone    string `json:"zone,omitempty"`
}

// Request is one request of a load, as it is read back.
type Request struct {
	Seq               uint64
	Round             int
	Phase             string        // in which it was due
	Request           string        // id of the template
	ID                string        // unique, as the template saw it
	Due               time.Duration // offsets from the start of the run
	Sent              time.Duration
	Done              time.Duration
	Code              int    // HTTP status; 0 when there was no answer
	OK                bool   // as Expect says
	Error             string // why not
	Node              string // the replica that the connection went to; empty when unknown
	Outcome           Ending // how it ended; empty in records that are older than the field
	RetryAfter        bool   // the answer had a Retry-After header, or metadata of that name
	GRPC              *int   // the gRPC status of the answer; nil for HTTP and where there was no answer. Code is then what HTTP has for it
	BytesIn, BytesOut uint64 // of bodies; BytesOut is what was to go out, whether it left or not
}

// Ending is how a request of a load ended, as its client can know.
type Ending string

// The endings. Only Refused says that the service certainly did not begin on it.
const (
	Answered Ending = "answered" // by the service, whatever it said
	Refused  Ending = "refused"  // no connection came about, it broke before anything was written, or the server said that it has not begun
	Reset    Ending = "reset"    // a part may have been written, and the connection ended before the whole answer was there
	Deadline Ending = "deadline" // a part may have been written, and the whole answer was not there in time
	Missed   Ending = "missed"   // the load itself could not make it. What was due and never begun has no row: GeneratorStats.Missed
)

// Latency counts from the moment the request was due.
func (r Request) Latency() time.Duration { return r.Done - r.Due }

// Outcome of an operation.
type Outcome string

// The outcomes. Unknown may or may not have taken effect.
const (
	OK      Outcome = "ok"
	Failed  Outcome = "failed" // certainly had no effect
	Unknown Outcome = "unknown"
)

// Op is one operation of a workload.
type Op struct {
	Round   int           `json:"round"`
	Client  int           `json:"client"`
	Kind    string        `json:"op"` // put | get | cas | insert (a write-once key) | read (verify: one key of one member, or of the service)
	Key     string        `json:"key"`
	Value   string        `json:"value,omitempty"` // written; for get and read what was answered
	Old     string        `json:"old,omitempty"`   // cas: the value that was expected
	Found   *bool         `json:"found,omitempty"` // get, read: whether there was a value
	Count   int           `json:"count,omitempty"` // read: how often the value stands in the store, where it can stand more than once
	Call    time.Duration `json:"call"`            // offsets from the start of the run
	Return  time.Duration `json:"return"`
	Outcome Outcome       `json:"outcome"`
	Verify  bool          `json:"verify,omitempty"` // done in the phase verify
	Member  string        `json:"member,omitempty"` // verify: the node that answered; empty: the service as a whole
	Error   string        `json:"error,omitempty"`
}

// LeaderPoll is what one member said about who leads.
type LeaderPoll struct {
	T      time.Duration `json:"t"`
	Round  int           `json:"round"`
	Group  string        `json:"group"`
	Member string        `json:"member"`           // who was asked
	Leader string        `json:"leader,omitempty"` // the node that leads, in its view; empty: none
	Term   uint64        `json:"term,omitempty"`
	Claims bool          `json:"claims,omitempty"` // the member says that it is the leader itself
	Error  string        `json:"error,omitempty"`  // it did not answer
}

// Readiness is a change of a node's readiness, as the prober saw it.
type Readiness struct {
	T     time.Duration `json:"t"`
	Round int           `json:"round"`
	Node  string        `json:"node"`
	Ready bool          `json:"ready"`
	Error string        `json:"error,omitempty"`
}
