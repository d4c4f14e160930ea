package scenarios

// Defects are the switchable bugs of the reference service, which controls name. The service has the same list and does
// not depend on this package, nor this one on it; a test compares the two.
var Defects = []string{
	"slow-start", "sticky-state", "ready-lies", "live-checks-deps", "no-drain", "late-deregister", "no-deadline",
	"retry-storm", "retry-non-idempotent", "pick-first", "no-outlier", "breaker-off", "breaker-sticky", "breaker-counts-cancel", "no-fallback",
	"no-limit", "no-shed", "shed-early", "no-recover", "stream-cut", "log-no-trace", "trace-broken", "metrics-missing", "goroutine-leak",
	"fd-leak", "edge-no-checks", "edge-no-retry", "lease-leak", "no-endpoint-cache", "watch-stuck",
	"register-early", "single-endpoint", "ack-early", "stale-read", "no-idempotency",
}
