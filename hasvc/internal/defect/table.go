// Package defect lists the ways in which this service can be told to be wrong, one at a time, so that checks of its
// resilience can be shown to be able to fail. The wrong behaviour itself stands beside the mechanism that it switches
// off: search for the constant. Without HASVC_DEFECT no code of a defect runs.
package defect

// Name of a defect, as HASVC_DEFECT has it.
type Name string

// The defects.
const (
	SlowStart           Name = "slow-start"
	StickyState         Name = "sticky-state"
	ReadyLies           Name = "ready-lies"
	LiveChecksDeps      Name = "live-checks-deps"
	NoDrain             Name = "no-drain"
	LateDeregister      Name = "late-deregister"
	NoDeadline          Name = "no-deadline"
	RetryStorm          Name = "retry-storm"
	RetryNonIdempotent  Name = "retry-non-idempotent"
	PickFirst           Name = "pick-first"
	NoOutlier           Name = "no-outlier"
	LeaseLeak           Name = "lease-leak"
	NoEndpointCache     Name = "no-endpoint-cache"
	WatchStuck          Name = "watch-stuck"
	RegisterEarly       Name = "register-early"
	SingleEndpoint      Name = "single-endpoint"
	AckEarly            Name = "ack-early"
	StaleRead           Name = "stale-read"
	NoIdempotency       Name = "no-idempotency"
	BreakerOff          Name = "breaker-off"
	BreakerSticky       Name = "breaker-sticky"
	BreakerCountsCancel Name = "breaker-counts-cancel"
	NoFallback          Name = "no-fallback"
	NoLimit             Name = "no-limit"
	NoShed              Name = "no-shed"
	ShedEarly           Name = "shed-early"
	NoRecover           Name = "no-recover"
	EdgeNoChecks        Name = "edge-no-checks"
	EdgeNoRetry         Name = "edge-no-retry"
	StreamCut           Name = "stream-cut"
	LogNoTrace          Name = "log-no-trace"
	TraceBroken         Name = "trace-broken"
	MetricsMissing      Name = "metrics-missing"
	GoroutineLeak       Name = "goroutine-leak"
	FDLeak              Name = "fd-leak"
)

// Defect is a row of the table.
type Defect struct {
	Name      Name
	Mechanism string // what it switches off
	Roles     string // the roles in which it does something
	Does      string
}

// Table is all of them, grouped by mechanism.
var Table = []Defect{
	{SlowStart, "fast start", "edge, gateway, orders, inventory", "takes 3 s longer to start"},
	{StickyState, "stateless replicas", "orders", "keeps orders and registers in the memory of the replica"},
	{ReadyLies, "readiness", "edge, gateway, orders, inventory", "is ready whatever its dependencies say"},
	{LiveChecksDeps, "liveness", "edge, gateway, orders, inventory", "is not alive while a dependency is away"},
	{NoDrain, "graceful shutdown", "edge, gateway, orders, inventory", "closes its connections as soon as it is told to stop"},
	{LateDeregister, "graceful shutdown", "edge, gateway, orders, inventory", "stops serving first, and only then says that it is not ready and leaves the registry"},
	{NoDeadline, "deadlines", "edge, gateway, orders, inventory", "waits for as long as it takes"},
	{RetryStorm, "retries", "gateway, orders", "retries everything up to 20 times, at once and without a budget"},
	{RetryNonIdempotent, "retries", "gateway", "retries writes that may take effect twice"},
	{PickFirst, "balancing", "gateway, orders", "sends every request to the first endpoint"},
	{NoOutlier, "balancing", "gateway, orders", "goes on sending a replica its share whatever its answers are"},
	{BreakerOff, "circuit breaker", "gateway, orders", "goes on calling a service that does not answer"},
	{BreakerSticky, "circuit breaker", "gateway, orders", "never calls a service again once the breaker is open"},
	{BreakerCountsCancel, "circuit breaker", "gateway, orders", "takes calls that the caller gave up for failures of the service"},
	{NoFallback, "fallback", "orders", "fails while inventory is away"},
	{NoLimit, "rate limits", "edge, gateway", "serves each client whatever it asks"},
	{NoShed, "load shedding", "gateway", "takes every request, however many it has in hand"},
	{ShedEarly, "load shedding", "gateway", "takes a place for a request before its body has come"},
	{NoRecover, "panic recovery", "edge, gateway, orders, inventory", "lets a panic out: over HTTP it cuts the connection, over gRPC it ends the process"},
	{StreamCut, "streams", "gateway, orders, inventory", "cuts its streams off when it stops, and does not resume those that others cut"},
	{LogNoTrace, "logs", "edge, gateway, orders, inventory", "leaves the trace's id out of its log"},
	{TraceBroken, "traces", "edge, gateway, orders", "does not tell whom it calls which trace the call belongs to"},
	{MetricsMissing, "metrics", "edge, gateway, orders, inventory", "shows only the metrics of the process"},
	{GoroutineLeak, "resources", "gateway, orders", "leaves a goroutine behind for each call that fails"},
	{FDLeak, "resources", "gateway, orders", "leaves a descriptor open for each call that fails"},
	{EdgeNoChecks, "balancing at the edge", "edge", "sends requests to gateways that are not ready"},
	{EdgeNoRetry, "balancing at the edge", "edge", "gives up a request when the first gateway fails"},
	{LeaseLeak, "registry", "edge, gateway, orders, inventory", "registers for an hour and never takes the entry back"},
	{NoEndpointCache, "registry", "edge, gateway, orders", "forgets its endpoints when the registry is away"},
	{WatchStuck, "registry", "edge, gateway, orders", "does not read the registry again when its watch ends"},
	{RegisterEarly, "registry", "edge, gateway, orders, inventory", "registers before its dependencies have answered"},
	{SingleEndpoint, "store client", "edge, gateway, orders, inventory", "knows only the store's member that led when it started"},
	{AckEarly, "durability", "orders", "acknowledges a write before the store has committed it"},
	{StaleRead, "durability", "orders, inventory", "reads from any member of the store without asking the leader"},
	{NoIdempotency, "idempotency", "orders", "makes a new order for each attempt with the same idempotency key"},
}
