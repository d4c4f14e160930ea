package command

import (
	"context"
	"fmt"
)

// api is what edge and gateway serve.
const api = `POST /orders                {"sku", "quantity"} -> 201 {"id", "sku", "quantity", "status", "createdAt"}
                            Idempotency-Key: the same key gives the same order; 409 with another body.
                            409, too, when there is too little in stock; the key then keeps that answer, as any other.
                            status is accepted, or pending: inventory was away. It becomes accepted in the end, or
                            rejected: there was too little in stock.
GET  /orders/{id}           200, or 404
GET  /registers/{key}       200 {"key", "value", "revision"}, or 404
                            ?consistency=serializable reads what one member of the store knows
PUT  /registers/{key}       {"value", "expectRevision"} -> 200, or 409: the comparison failed, certainly not applied
                            expectRevision 0: it must not exist; none: write in any case
GET  /stock/{sku}           200 {"sku", "level", "revision", "stale"}; 501 with HASVC_INVENTORY=off
GET  /stream/stock/{sku}    200, such a line for each change; ?after=REVISION goes on behind a line that was read.
                            ?for=30s ends it that long after its beginning, which Request-Timeout is for. A last line
                            {"end", "after"} says that it is over, or that the replica stops: go on elsewhere. Without that
                            line it broke off.
GET  /healthz /readyz       200 or 503, JSON with a latency for each dependency
GET  /metrics               Prometheus

Headers in:   Request-Timeout (ms), X-Request-ID, traceparent, X-Trace-ID, X-Priority (high, normal, low), X-Client-ID
Headers out:  X-Request-ID, X-Trace-ID; Retry-After with 429 and 503
Errors:       {"error", "traceId"}: 400 bad request, 404, 405, 408 the body did not come in time, 409, 413 too large,
              415 no JSON, 429 too many, 501;
              500 internal error, 502 the connection to the gateway broke, 503 away or too busy, 504 out of time:
              whether a write took effect is open; ask again with the same Idempotency-Key
`

func describeAPI(_ context.Context, c call) int {
	if !c.noArguments("api") {
		return exitUsage
	}
	if _, err := fmt.Fprint(c.stdout, api); err != nil {
		fmt.Fprintf(c.stderr, "hasvc: writing: %v\n", err)
		return exitFailed
	}
	return exitOK
}
