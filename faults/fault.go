// Package faults holds the faults: one file each, one table of all (Table).
//
// A fault knows how to inflict itself, how to prove that it took effect and that it is gone. When it begins, how long
// it lasts, and that it is undone whatever happens, is the business of package engine.
package faults

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// Kind is a row of the table: a fault, or an action of `do`.
type Kind struct {
	Name  string // the key in a scenario file
	Doc   string // one or two sentences for the reference
	Layer string // packets | stream | node | load | action
	// Undo says whether the fault holds until it is undone; the others end by themselves and take neither for nor until.
	Undo  bool
	Needs []cluster.Capability
	// New returns a pointer to zero parameters. Its json tags are the keys in a scenario file; a field of type Range or DurationRange
	// may be written as a range and is drawn when the plan is made.
	New func() Params
	// Unsupported, when not empty, says why this version cannot execute the fault, though it knows it.
	Unsupported string
}

// Params are the decoded parameters of one injection.
type Params interface {
	// Validate returns every error of values and of combinations, joined. Names of nodes are not its business.
	Validate() error
	// Targets are the selections that the fault makes, so that unknown names are found before the start.
	Targets() []plan.Target
	// Inject does the damage. It registers the way back with env.Undo before the damage is done.
	Inject(ctx context.Context, env *Env) (*Effect, error)
}

// Env is what a fault may use.
type Env struct {
	Cluster cluster.Cluster
	// Resolve turns a selection into names of nodes, drawing from the occurrence's seed where it must; a leader is
	// asked for. Each selection is resolved once and recorded.
	Resolve func(ctx context.Context, t plan.Target) ([]string, error)
	// Undo registers a step of the way back. Steps run in reverse order, once, with a deadline of their own.
	Undo func(what string, step func(context.Context) error)
	Seed uint64
	// Loads are the loads that run; nil where there are none, as when faults are injected by hand.
	Loads Loads
}

// Effect is a fault that was injected.
type Effect struct {
	Targets []string       // nodes
	Links   []cluster.Link // links
	// Lasts is set by an action that goes on until the fault phase ends, when its undo steps are run.
	Lasts bool
	// Prove returns evidence that the fault is in effect, and fails with ErrNotYet while it may still come. It is polled.
	Prove func(ctx context.Context) (evidence string, err error)
	// Since, when set, is the moment at which the damage was done, of a fault that is proved. Without it that is when Inject returned.
	Since func() time.Time
	// Patience is added to the time that Prove may take: how long a probe is held up by the fault itself.
	Patience time.Duration
	// Gone likewise, after the undo. nil for faults without an undo, and for those that have Healed.
	Gone func(ctx context.Context) (evidence string, err error)
	// Healed returns the proof that some of Links are as they were before the fault, after the undo. It is asked only of links on
	// which no other fault acts.
	Healed func(links []cluster.Link) func(ctx context.Context) (evidence string, err error)
	// Bitten, when set, is asked just before the undo: what the fault acted on while it held, or that it held to the end. ErrNotYet
	// says that it did not: the fault is recorded as unproved, and the undo by hand fails.
	Bitten func(ctx context.Context) (evidence string, err error)
}

// ErrNotYet says that a proof is not there yet but may come.
var ErrNotYet = errors.New("not yet")

// NotYet is ErrNotYet with the reason.
func NotYet(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrNotYet, fmt.Sprintf(format, a...))
}

// inflictTimeout bounds damage that is not interrupted.
const inflictTimeout = 20 * time.Second

// unbroken is ctx without its end, for damage that is done or not done: interrupted half way, nobody could say what the
// undo has to take back.
func unbroken(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), inflictTimeout)
}
