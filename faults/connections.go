package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
)

// Connections is a flood of connections from the client on which nothing is ever said. They are closed by the undo, or each
// after Hold, to be replaced.
type Connections struct {
	Door
	Count     int       `json:"count"`                // open at once
	PerSecond int       `json:"per-second,omitempty"` // made; default 1000
	Hold      plan.Span `json:"hold,omitzero"`        // default: to the undo
}

// Validate returns every error.
func (f *Connections) Validate() error {
	errs := []error{f.validate()}
	if f.Count < 1 || f.Count > maxCrowd {
		errs = append(errs, fmt.Errorf("count %d: 1 to %d connections at once", f.Count, maxCrowd))
	}
	if f.PerSecond < 0 || f.PerSecond > maxPerSecond {
		errs = append(errs, fmt.Errorf("per-second %d: 1 to %d", f.PerSecond, maxPerSecond))
	}
	// As many as end must be made anew, or the count is never there.
	if f.Hold.Hi > 0 && f.Count > 0 && f.PerSecond >= 0 {
		if fill := time.Duration(f.Count) * f.every(); f.Hold.D() < 2*fill {
			errs = append(errs, fmt.Errorf("hold %v: %d connections a second need %v to be %d; hold each for twice that, or leave hold out", f.Hold, f.perSecond(), fill, f.Count))
		}
	}
	return errors.Join(errs...)
}

func (f *Connections) perSecond() int {
	if f.PerSecond == 0 {
		return 1000
	}
	return f.PerSecond
}

func (f *Connections) every() time.Duration { return time.Second / time.Duration(f.perSecond()) }

// Inject begins to connect.
func (f *Connections) Inject(ctx context.Context, env *Env) (*Effect, error) {
	nodes, addrs, err := f.find(ctx, env)
	if err != nil {
		return nil, err
	}
	c := &crowd{env: env, addrs: addrs, count: f.Count, every: f.every(), visit: func(ctx context.Context, c net.Conn, _ int) error {
		if f.Hold.D() > 0 {
			c.SetReadDeadline(time.Now().Add(f.Hold.D()))
			if ctx.Err() != nil { // the deadline of the undo may have come before this one
				c.SetReadDeadline(time.Unix(1, 0))
			}
		}
		err := drain(c)
		var late net.Error
		if errors.As(err, &late) && late.Timeout() {
			return nil // it was held for its time
		}
		return err
	}}
	c.begin()
	return c.effect(nodes), nil
}
