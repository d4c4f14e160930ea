package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// ToxicEnds are what every toxic has beside its own attributes, in toxiproxy's words.
type ToxicEnds struct {
	Ends
	Stream   string `json:"stream,omitempty"`   // upstream (what the client sends) | downstream (what it receives; the default)
	Toxicity string `json:"toxicity,omitempty"` // share of connections, "30%"; default 100%
}

func (t ToxicEnds) validate() error {
	errs := []error{t.Ends.validate()}
	if t.Stream != "" && t.Stream != "upstream" && t.Stream != "downstream" {
		errs = append(errs, fmt.Errorf("stream %q: upstream (what the client sends) or downstream (what it receives)", t.Stream))
	}
	if _, err := t.share(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (t ToxicEnds) stream() string {
	if t.Stream == "" {
		return "downstream"
	}
	return t.Stream
}

// share is the toxicity in (0,1].
func (t ToxicEnds) share() (float64, error) {
	if t.Toxicity == "" {
		return 1, nil
	}
	p, ok := strings.CutSuffix(strings.TrimSpace(t.Toxicity), "%")
	v, err := strconv.ParseFloat(strings.TrimSpace(p), 64)
	if !ok || err != nil || !(v > 0 && v <= 100) {
		return 0, fmt.Errorf("toxicity %q: a share of connections, more than 0%% and at most 100%%", t.Toxicity)
	}
	return v / 100, nil
}

// ToxicLinks lets the plan know, before the start, which links must go through the link core.
type ToxicLinks interface {
	ToxicLinks() Ends
}

// ToxicLinks are the ends of the links that go through the core.
func (t ToxicEnds) ToxicLinks() Ends { return t.Ends }

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
	links, err := l.links(ctx, env)
	if err != nil {
		return nil, err
	}
	share, err := l.share()
	if err != nil {
		return nil, err
	}
	attributes, err := json.Marshal(map[string]int64{"latency": l.Latency.D().Milliseconds(), "jitter": l.Jitter.D().Milliseconds()})
	if err != nil {
		return nil, err
	}
	f, err := inflict(ctx, env, links, cluster.Rule{Toxic: &cluster.Toxic{
		Type: "latency", Stream: l.stream(), Toxicity: share, Attributes: attributes, Seed: env.Seed}})
	if err != nil {
		return nil, err
	}
	e := &Effect{Links: links, Bitten: f.bitten("chunks of data held back")}
	if share < 1 {
		// A single probe may be one of those that are spared: what the toxic acted on is the proof, and comes at the end.
		e.Prove = func(ctx context.Context) (string, error) {
			return fmt.Sprintf("the toxic is on %d links; which connections it strikes is drawn", len(links)), nil
		}
		e.Gone = answered(env, links)
		return e, nil
	}
	floor := l.floor()
	e.Prove, e.Patience = f.slower(floor, l.Latency.D()), 4*l.Latency.D()
	e.Gone = faster(env, links, floor)
	return e, nil
}

// floor tells a probe over a slow stream from one that is not: one chunk of it is held back. A wide jitter must not make
// it 0, which every probe passes.
func (l *Latency) floor() time.Duration {
	return max(l.Latency.D()-l.Jitter.D(), l.Latency.D()/2)
}
