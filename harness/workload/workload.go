// Package workload holds the clients that write a history: operations with their times and outcomes, from which
// assertions judge what the service lost, duplicated or served out of order.
//
// The built-in kind is registers; exec runs any program that speaks the protocol of package program.
package workload

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/replicas"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// Topology is the part of a cluster.Cluster that a workload uses.
type Topology interface {
	replicas.Topology
	cluster.Runner
	Status(node string) (cluster.Status, error)
}

// Recorder is the part of a record.Writer that a workload writes to.
type Recorder interface {
	Dir() string
	At(t time.Time) time.Duration
	Op(workload string, o record.Op)
	Event(e record.Event)
}

// Env is what a workload needs of the run.
type Env struct {
	Cluster Topology
	Record  Recorder
	Round   int
	RunID   string                                  // unique among runs and rounds
	Ready   func(service string) []cluster.NodeInfo // the nodes of a service that are ready now; nil: none is known to be
	Phase   func() string                           // the phase that runs now; nil: none
}

// Workload is a set of clients. Its methods are called in order: Prepare, Run, Verify, Close; all but Close may be left out.
type Workload interface {
	// Prepare makes the service ready to be worked on, before load and baseline begin.
	Prepare(ctx context.Context) error
	// Run works from now on and returns when ctx was cancelled and every operation was recorded.
	Run(ctx context.Context) error
	// Verify reads back what was written, from each member where it can.
	Verify(ctx context.Context) error
	// Acked is the number of acknowledged operations so far.
	Acked() int64
	// Close ends what is left and records the workload's figures.
	Close() error
}

// Kinds of workloads.
const (
	KindRegisters = "registers"
	KindExec      = "exec"
)

// New makes the workload that w describes.
func New(w plan.Workload, e Env) (Workload, error) {
	var x Workload
	var err error
	switch w.Kind {
	case KindRegisters:
		x, err = newRegisters(w, e)
	case KindExec:
		x, err = newExec(w, e)
	default:
		err = fmt.Errorf("no kind is called %q; there are %s and %s", w.Kind, KindRegisters, KindExec)
	}
	if err != nil {
		return nil, fmt.Errorf("workload %s: %w", w.Name, err)
	}
	return x, nil
}

// history writes operations and counts them.
type history struct {
	name  string
	rec   Recorder
	round int

	mu    sync.Mutex
	stats record.WorkloadStats
}

func (h *history) add(o record.Op) {
	o.Round = h.round
	h.rec.Op(h.name, o)
	h.mu.Lock()
	defer h.mu.Unlock()
	if o.Verify {
		if o.Outcome == record.OK {
			h.stats.Read++
		}
		return
	}
	switch o.Outcome {
	case record.OK:
		h.stats.OK++
	case record.Failed:
		h.stats.Failed++
	case record.Unknown:
		h.stats.Unknown++
	}
}

func (h *history) acked() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return int64(h.stats.OK)
}

// end records the figures, and why the workload did not do what it should, if it did not.
func (h *history) end(cause error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	data, err := json.Marshal(h.stats)
	if err != nil {
		return fmt.Errorf("workload %s: writing its figures: %w", h.name, err)
	}
	e := record.Event{Round: h.round, Kind: record.WorkloadEnd, ID: h.name, Data: data}
	if cause != nil {
		e.Error = cause.Error()
	}
	h.rec.Event(e)
	return nil
}
