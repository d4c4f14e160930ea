package record

import (
	"encoding/json"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
)

// Event is a line of events.jsonl: something that happened, with its offset from the start of the run.
type Event struct {
	T     time.Duration `json:"t"` // nanoseconds since the start of the run, monotonic
	Round int           `json:"round,omitempty"`
	Kind  EventKind     `json:"kind"`
	Phase string        `json:"phase,omitempty"` // of phase.begin and phase.end

	Fault      string         `json:"fault,omitempty"` // id
	FaultKind  string         `json:"faultKind,omitempty"`
	Occurrence int            `json:"occurrence,omitempty"` // from 1
	Planned    *time.Duration `json:"planned,omitempty"`    // when fault.started was due, as an offset from the start of the run
	Targets    []string       `json:"targets,omitempty"`    // nodes a fault resolved to
	Links      []string       `json:"links,omitempty"`      // "a -> b"

	Node      string `json:"node,omitempty"`
	ExitCode  *int   `json:"exitCode,omitempty"` // of node.exited without a signal
	Signal    string `json:"signal,omitempty"`
	Announced bool   `json:"announced,omitempty"` // the harness, or a fault, caused this death

	ID       string          `json:"id,omitempty"` // of the requirement, assertion or binding
	OK       *bool           `json:"ok,omitempty"`
	Error    string          `json:"error,omitempty"`
	Evidence string          `json:"evidence,omitempty"` // one sentence with figures
	Data     json.RawMessage `json:"data,omitempty"`     // figures for machines, by kind
}

// EventKind names what an Event is about.
type EventKind string

// The kinds of events.
const (
	RunBegin   EventKind = "run.begin"
	RunEnd     EventKind = "run.end" // the record is complete; its absence means that the harness was ended
	RoundBegin EventKind = "round.begin"
	RoundEnd   EventKind = "round.end"
	PhaseBegin EventKind = "phase.begin"
	PhaseEnd   EventKind = "phase.end" // with an error: the phase was cut off

	FaultStarted  EventKind = "fault.started"
	FaultInEffect EventKind = "fault.in-effect"
	FaultUndone   EventKind = "fault.undone"
	FaultGone     EventKind = "fault.gone"
	// FaultFailed: the fault could not be injected or proved, or its trigger timed out: the run is INVALID.
	FaultFailed EventKind = "fault.failed"
	// FaultUnproved: nothing for the fault to bite on was seen while it was in effect.
	FaultUnproved EventKind = "fault.unproved"
	// UndoFailed taints the run: INVALID.
	UndoFailed EventKind = "fault.undo-failed"

	// What happened to a node, in the words of package cluster (which may report more kinds than these).
	NodeStarted EventKind = "node.started"
	NodeExited  EventKind = "node.exited"
	NodePaused  EventKind = "node.paused"
	NodeResumed EventKind = "node.resumed"
	NodeRemoved EventKind = "node.removed"
	// NodeSignalled tells that the harness sent Signal to the node's program itself, by a fault or when the topology goes down. Its
	// time is just before the sending, and it stands before the death that may follow.
	NodeSignalled EventKind = "node.signalled"
	// ProcessSignalled is the same of other processes of the node, and not of its program.
	ProcessSignalled EventKind = "node.process-signalled"

	Bound       EventKind = "bound"        // a late binding was resolved: ID says which, Targets to what
	Required    EventKind = "required"     // a precondition was tested: ID, OK, Evidence
	Aborted     EventKind = "aborted"      // an abort rule fired: the run is FAIL
	Interrupted EventKind = "interrupted"  // Ctrl-C or timeout
	Failure     EventKind = "failure"      // the harness or the environment failed: INVALID
	Audited     EventKind = "audited"      // OK; Error lists what was left
	LoadSummary EventKind = "load"         // ID: the load's name; Data: GeneratorStats
	LoadRate    EventKind = "load.rate"    // a fault changed a load's rate, or gave it back: ID: the load's name; Data: RateChange
	WorkloadEnd EventKind = "workload"     // ID: the workload's name; Data: WorkloadStats; Error when it died
	UserFinding EventKind = "user-finding" // of an exec assertion: ID; Data: the JSON line it printed
	ExecEnd     EventKind = "exec"         // a program of an action or assertion ended: ID, ExitCode, Evidence
	ObserveEnd  EventKind = "observe"      // ID: an observed link, "from -> to"; Data: Observed
	Warning     EventKind = "warning"
)

// GeneratorStats are a load generator's own figures.
type GeneratorStats struct {
	Requests int           `json:"requests"`
	LagP50   time.Duration `json:"lagP50"` // sent minus due
	LagP99   time.Duration `json:"lagP99"`
	LagMax   time.Duration `json:"lagMax"`
	Missed   int           `json:"missed"` // due but never sent
}

// RateChange is what a load's rate was to be from a moment on, beside what its plan says. What was sent is in the
// request log.
type RateChange struct {
	At      time.Duration `json:"at"`      // the moment, as an offset from the start of the run
	Before  uint64        `json:"before"`  // requests that were due before
	Stages  []plan.Stage  `json:"stages"`  // from At on
	Planned []plan.Stage  `json:"planned"` // likewise, by the plan
}

// WorkloadStats are a workload's own figures.
type WorkloadStats struct {
	OK      int `json:"ok"`
	Failed  int `json:"failed"`
	Unknown int `json:"unknown"`
	Read    int `json:"read"` // answers of verify
}

// Observed says how much of a link's calls is in the record: all, where Dropped and Unreadable are 0.
type Observed struct {
	Calls      uint64 `json:"calls"`      // that crossed, and those that a fault answered
	Dropped    uint64 `json:"dropped"`    // of them, those that are not in the record
	Unreadable uint64 `json:"unreadable"` // connections that could not be read to their end
	Why        string `json:"why,omitempty"`
}

// EndData is the Data of run.end, filled by Writer.Event: how many rows were written to each file, by its path in the
// run directory. Of a request log it is the .bin that is named.
type EndData struct {
	Rows map[string]int `json:"rows"`
}
