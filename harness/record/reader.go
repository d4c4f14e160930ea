package record

import (
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
)

// Run is a run directory, read. Requests and histories are read when they are asked for.
type Run struct {
	Dir      string
	Meta     Meta
	Plan     *plan.Plan
	Events   []Event
	Rounds   []*Round
	Complete bool // the event run.end is there
	Torn     int  // lines that were cut off
}

// Open reads a run directory.
func Open(dir string) (*Run, error) { panic("not written yet") }

// Round is one round of a Run.
type Round struct {
	N      int
	Events []Event // of this round
}

// Requests of a load in this round, in the order of their due times.
func (r *Round) Requests(load string) ([]Request, error) { panic("not written yet") }

// History of a workload in this round, in the order of call times.
func (r *Round) History(workload string) ([]Op, error) { panic("not written yet") }

// Leaders returns the polls of a group in this round.
func (r *Round) Leaders(group string) ([]LeaderPoll, error) { panic("not written yet") }

// Phase returns the window of a phase, or ok false when the round never reached it. A phase that never ended ends
// with the round's last event.
func (r *Round) Phase(name string) (from, to time.Duration, ok bool) { panic("not written yet") }

// Moment returns the time of a step in the life of a fault's first occurrence.
func (r *Round) Moment(ref plan.EventRef) (time.Duration, bool) { panic("not written yet") }
