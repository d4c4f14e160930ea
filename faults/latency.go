package faults

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
)

// Latency is toxiproxy's toxic: it holds the data of a stream back. Connections From -> To.
type Latency struct {
	ToxicEnds
	Latency plan.Span `json:"latency"`
	Jitter  plan.Span `json:"jitter,omitzero"`
}

// Validate returns every error.
func (l *Latency) Validate() error {
	errs := []error{l.validate()}
	if l.Latency.D() < time.Millisecond || time.Duration(l.Latency.Hi) > maxDelay {
		errs = append(errs, fmt.Errorf("latency %v: 1ms to %v, in whole milliseconds", l.Latency, maxDelay))
	}
	// toxiproxy gives no delay at all where the jitter is above the latency.
	if l.Jitter.Hi > l.Latency.Lo {
		errs = append(errs, fmt.Errorf("jitter %v is above the latency of %v", l.Jitter, l.Latency))
	}
	return errors.Join(errs...)
}

// Targets are both ends.
func (l *Latency) Targets() []plan.Target { return l.targets() }

// Inject adds the toxic.
func (l *Latency) Inject(ctx context.Context, env *Env) (*Effect, error) {
	floor := l.floor()
	return l.inject(ctx, env, toxic{
		kind:       "latency",
		attributes: map[string]int64{"latency": l.Latency.D().Milliseconds(), "jitter": l.Jitter.D().Milliseconds()},
		unit:       "chunks of data held back",
		patience:   4 * l.Latency.D(),
		prove:      func(f *rule) func(context.Context) (string, error) { return f.slower(floor, l.Latency.D()) },
		gone:       func(f *rule) func(context.Context) (string, error) { return faster(env, f.links, floor) },
	})
}

// floor tells a probe over a slow stream from one that is not: one chunk of it is held back. A wide jitter must not make
// it 0, which every probe passes.
func (l *Latency) floor() time.Duration {
	return max(l.Latency.D()-l.Jitter.D(), l.Latency.D()/2)
}
