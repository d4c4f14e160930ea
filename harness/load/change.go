package load

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// Change gives the load other rates from now on, until back is called. The load stays open: what is due when is a function of the
// plan and of the moments of the changes, which are recorded, and of nothing that the service does. One change at a time.
func (g *Generator) Change(c plan.RateChange) (back func() error, err error) {
	g.running.Lock()
	defer g.running.Unlock()
	switch {
	case g.pacer == nil || g.pacer.ctx.Err() != nil:
		return nil, fmt.Errorf("load %s is not running", g.load.Name)
	case g.changed:
		return nil, fmt.Errorf("the rate of load %s is changed already by another fault; one at a time", g.load.Name)
	}
	if err := g.change(c, "the rate of %s is changed from %.4g/s to %s"); err != nil {
		return nil, err
	}
	g.changed = true
	return g.back, nil
}

// back brings the load back to the rates of its plan. A load that has ended has none.
func (g *Generator) back() error {
	g.running.Lock()
	defer g.running.Unlock()
	if !g.changed {
		return errors.New("it was brought back before")
	}
	g.changed = false
	return g.change(plan.RateChange{Times: 1}, "the rate of %s goes back from %.4g/s to the planned %s")
}

func (g *Generator) change(c plan.RateChange, what string) error {
	was := g.pacer.progress().Rate
	t, s, err := g.pacer.change(c)
	if err != nil {
		return fmt.Errorf("load %s: %w", g.load.Name, err)
	}
	data, err := json.Marshal(record.RateChange{At: g.env.Record.At(g.pacer.start.Add(t)), Before: s.Count(t), Stages: s.Stages(t), Planned: g.sched.Stages(t)})
	if err != nil {
		return fmt.Errorf("load %s: writing its new rate: %w", g.load.Name, err)
	}
	to := fmt.Sprintf("%.4g/s", s.Rate(t))
	if s.hold != s.Rate(t) {
		to += fmt.Sprintf(", which becomes %.4g/s", s.hold)
	}
	g.env.Record.Event(record.Event{Round: g.env.Round, Kind: record.LoadRate, ID: g.load.Name, Data: data, Evidence: fmt.Sprintf(what, g.load.Name, was, to)})
	return nil
}

// Progress is how far the load has come.
func (g *Generator) Progress() plan.LoadProgress {
	g.running.Lock()
	defer g.running.Unlock()
	if g.pacer == nil {
		return plan.LoadProgress{PlannedRate: g.sched.Rate(0)}
	}
	// What was begun is read first: it is never more than what is due then.
	sent := g.sent.Load()
	p := g.pacer.progress()
	p.Sent = sent
	return p
}

// counted counts the requests that are begun.
type counted struct {
	http.RoundTripper
	n *atomic.Uint64
}

// RoundTrip is http.RoundTripper.
func (c counted) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	return c.RoundTripper.RoundTrip(r)
}
