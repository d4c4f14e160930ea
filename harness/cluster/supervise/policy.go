package supervise

import (
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// Docker's back-off between restarts: 100 ms, doubled each time up to a minute, and back to the start after a program
// that ran for 10 s.
const (
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = time.Minute
	longRun      = 10 * time.Second
)

// restarts decides whether, and when, a program that ended by itself is started again.
type restarts struct {
	policy  cluster.Restart
	count   int // restarts by the policy, for on-failure:N
	backoff time.Duration
}

// wants reports whether the policy restarts a program that ended so.
func (r *restarts) wants(e cluster.Exit) bool {
	switch r.policy.Policy {
	case "always", "unless-stopped":
		return true
	case "on-failure":
		return e.Code != 0 && (r.policy.MaxRetries == 0 || r.count < r.policy.MaxRetries)
	}
	return false
}

// next returns how long to wait before the next restart, of a program that ran for so long.
func (r *restarts) next(ran time.Duration) time.Duration {
	if ran >= longRun || r.backoff == 0 {
		r.backoff = firstBackoff
		return r.backoff
	}
	r.backoff = min(2*r.backoff, maxBackoff)
	return r.backoff
}
