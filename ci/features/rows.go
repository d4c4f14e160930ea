package main

// row is a mechanism of the reference service and the defects that switch it off, one at a time.
type row struct {
	n         int
	mechanism string
	defects   []string
}

// rows are the mechanisms in the order in which they were asked for. Those that have no defect yet are not there yet.
var rows = []row{
	{1, "stateless, fast start", []string{"slow-start", "sticky-state"}},
	{2, "liveness and readiness", []string{"ready-lies", "live-checks-deps"}},
	{3, "graceful shutdown", []string{"no-drain", "late-deregister"}},
	{4, "deadlines", []string{"no-deadline"}},
	{5, "gRPC between services: balancing, retries, streams", []string{"retry-storm", "retry-non-idempotent", "pick-first", "no-outlier", "stream-cut"}},
	{6, "circuit breaker", []string{"breaker-off", "breaker-sticky", "breaker-counts-cancel"}},
	{7, "fallback", []string{"no-fallback"}},
	{8, "logs", []string{"log-no-trace"}},
	{9, "traces", []string{"trace-broken"}},
	{10, "metrics", []string{"metrics-missing"}},
	{11, "registry", []string{"lease-leak", "no-endpoint-cache", "watch-stuck", "register-early", "single-endpoint"}},
	{12, "rate limits", []string{"no-limit"}},
	{13, "load shedding", []string{"no-shed", "shed-early"}},
	{14, "panic recovery", []string{"no-recover"}},
	{18, "durability", []string{"ack-early", "stale-read"}},
	{19, "idempotency", []string{"no-idempotency"}},
	{21, "resources", []string{"goroutine-leak", "fd-leak"}},
	{22, "balancing at the edge", []string{"edge-no-checks", "edge-no-retry"}},
}
