package engine

import (
	"context"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// Parts makes the things that the engine runs but does not know: package harness wires them.
type Parts struct {
	Driver   cluster.Driver
	Load     func(l plan.Load, e Env) (Generator, error)
	Workload func(w plan.Workload, e Env) (Workload, error)
	// Metrics begins to record the metrics of a topology; nil: none are recorded.
	Metrics func(c cluster.Cluster) (Metrics, error)
}

// Metrics are those of a topology that runs.
type Metrics interface {
	// At evaluates a PromQL expression now.
	At(ctx context.Context, expr string) ([]record.Sample, error)
	// Close ends the recording, before the topology goes down. The error says what could not be recorded.
	Close() error
}

// Env is what a generator or workload is given.
type Env struct {
	Cluster cluster.Cluster
	Record  *record.Writer
	Round   int
	RunID   string // unique among runs, for ids of requests and values
	// Ready reports the nodes of a service that are ready now, by the prober's view.
	Ready func(service string) []cluster.NodeInfo
	// Phase returns the phase that is running now.
	Phase func() string
}

// Generator sends one load. It owns its goroutines: after Stop has returned none is left.
type Generator interface {
	// Run sends from now on and returns when ctx was cancelled, outstanding requests were answered or timed out, and
	// everything was recorded. An error means that the generator itself failed.
	Run(ctx context.Context) error
	// Success returns the share of good answers among the requests that were due in the last d, and how many there were.
	Success(d plan.Duration) (share float64, n int)
	// Ended is the same of those that ended in the last d: where nothing is answered, none of those that were due has.
	Ended(d plan.Duration) (share float64, n int)
}

// Workload is a set of clients that writes a history.
type Workload interface {
	// Prepare makes the service ready to be worked on, before load and baseline begin.
	Prepare(ctx context.Context) error
	// Run works from now on and returns when ctx was cancelled and every operation was recorded.
	Run(ctx context.Context) error
	// Verify reads back what was written, from each member where it can, and records it.
	Verify(ctx context.Context) error
	// Acked is the number of acknowledged operations so far.
	Acked() int64
	// Close ends what Run and Verify left running (the process of an exec workload).
	Close() error
}

// Preparer is a Workload that has something to do before load and baseline begin, such as to write first values or to
// start its program.
type Preparer interface {
	Prepare(ctx context.Context) error
}
