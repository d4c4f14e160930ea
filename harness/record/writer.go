package record

import (
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
)

// Writer writes a run directory as the run goes on. Its methods may be called from several goroutines. A failed write
// is kept and returned by Close; the methods themselves return nothing, so that a full disk does not change what the
// engine does before it can undo its faults.
type Writer struct{}

// Create makes the directory and writes meta.json, with Start and Version filled, and plan.json. The run's clock starts here. The
// directory must not hold a record yet.
func Create(dir string, m Meta, p *plan.Plan) (*Writer, error) { panic("not written yet") }

// Dir is the run directory.
func (w *Writer) Dir() string { panic("not written yet") }

// Now is the offset of this moment.
func (w *Writer) Now() time.Duration { panic("not written yet") }

// At is the offset of a moment with a monotonic reading.
func (w *Writer) At(t time.Time) time.Duration { panic("not written yet") }

// SetRound sets the round that is written where a row leaves it out.
func (w *Writer) SetRound(n int) { panic("not written yet") }

// Event writes an event. A zero T is this moment, unless Kind is RunBegin.
func (w *Writer) Event(e Event) { panic("not written yet") }

// Request writes a request of a load.
func (w *Writer) Request(load string, r Request) { panic("not written yet") }

// Op writes an operation of a workload.
func (w *Writer) Op(workload string, o Op) { panic("not written yet") }

// Leader writes a poll.
func (w *Writer) Leader(p LeaderPoll) { panic("not written yet") }

// Ready writes a change of readiness.
func (w *Writer) Ready(r Readiness) { panic("not written yet") }

// Err is the first write that failed.
func (w *Writer) Err() error { panic("not written yet") }

// Close flushes everything and returns the first error.
func (w *Writer) Close() error { panic("not written yet") }
