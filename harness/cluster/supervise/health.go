package supervise

import (
	"context"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// startupProbe is the time between two probes before the first success, unless the probes themselves take long: they are not to use up
// what the program starts with. Compose's own interval, 30 s when not given, would make every start last as long.
const startupProbe = 200 * time.Millisecond

// watchHealth runs the healthcheck until ctx ends. Before the first success it probes often; the program is unhealthy
// when Compose would have found it so: after the start period and as many intervals as there are retries.
func (n *Node) watchHealth(ctx context.Context, r *run) {
	h := *n.Service.Health
	defaults(&h)
	giveUp := r.started.Add(h.StartPeriod + time.Duration(h.Retries)*h.Interval)
	failures, healthy := 0, false
	for {
		begun := time.Now()
		within, cancel := context.WithTimeout(ctx, h.Timeout)
		err := n.t.probeExec(within, n.Info.Name, h.Argv)
		cancel()
		if ctx.Err() != nil {
			return
		}
		wait := h.Interval
		switch {
		case err == nil:
			failures, healthy = 0, true
			n.setHealth(r, true, "")
		case healthy:
			if failures++; failures >= h.Retries {
				n.setHealth(r, false, err.Error())
			}
		default:
			wait = min(h.Interval, max(startupProbe, 4*time.Since(begun)))
			if time.Now().After(giveUp) {
				n.setHealth(r, false, err.Error())
			}
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// defaults fills in Compose's.
func defaults(h *cluster.Healthcheck) {
	if h.Interval <= 0 {
		h.Interval = 30 * time.Second
	}
	if h.Timeout <= 0 {
		h.Timeout = 30 * time.Second
	}
	if h.Retries <= 0 {
		h.Retries = 3
	}
}

// setHealth notes a change of health, which is also that of readiness where the service has no condition of its own.
func (n *Node) setHealth(r *run, healthy bool, detail string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	is, kind := "healthy", cluster.NodeHealthy
	if !healthy {
		is, kind = "unhealthy", cluster.NodeUnhealthy
	}
	if n.run != r || !r.alive || r.health == is {
		return
	}
	first := r.health == "" || r.health == "unhealthy" && !n.ready
	r.health = is
	n.emit(kind, time.Now(), detail)
	if n.Service.Ready == nil {
		n.ready = healthy
		if healthy && first {
			n.emit(cluster.NodeReady, time.Now(), "")
		}
	}
	n.touch()
}
