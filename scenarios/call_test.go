package scenarios

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/plan"
)

// goodCalls is a scenario with a gRPC load and the faults of loads; every case below spoils one line of it.
const goodCalls = `version: 1
topology: topologies/reference.yaml
load:
  rpc:
    to: orders
    port: 9090
    grpc: {descriptors: orders.binpb}
    rate: 50/s
    requests:
      - {call: ordersv1.Orders/Create, weight: 9, message: {sku: "s{{mod .N 5}}", n: 3}, metadata: {x-priority: high}, expect: {code: [OK, ALREADY_EXISTS]}}
      - {id: watch, call: inventory.v1.Inventory/Adjust, stream: {send: 5, receive: 5, pause: 10ms}, expect: {code: OK, matches: level}}
faults:
  - id: burst
    for: 2s
    spike: {load: rpc, rate: 3x}
  - id: slope
    ramp: {load: rpc, to: 500/s, over: 1s..2s}
  - id: slow
    slow-clients: {to: gateway, mode: body}
`

func TestCallsCompile(t *testing.T) {
	f, err := Parse("dir/x.yaml", []byte(goodCalls), fakeTables())
	require.NoError(t, err)
	p, err := Compile(f, reference(), 7)
	require.NoError(t, err)
	l := p.Loads[0]
	assert.Equal(t, &plan.GRPC{Descriptors: "dir/orders.binpb"}, l.GRPC)
	assert.Equal(t, "orders.binpb", f.Load["rpc"].GRPC.Descriptors, "the file stays as it was written")
	require.Len(t, l.Requests, 2)
	assert.Equal(t, plan.Request{ID: "ordersv1.Orders/Create", Weight: 9, Call: "ordersv1.Orders/Create", Message: l.Requests[0].Message,
		Metadata: map[string]string{"x-priority": "high"}, Expect: plan.Expect{Codes: []string{"OK", "ALREADY_EXISTS"}}}, l.Requests[0])
	assert.JSONEq(t, `{"sku":"s{{mod .N 5}}","n":3}`, string(l.Requests[0].Message))
	assert.Equal(t, plan.Request{ID: "watch", Weight: 1, Call: "inventory.v1.Inventory/Adjust",
		Stream: &plan.Stream{Send: 5, Receive: 5, Pause: plan.Duration(10 * time.Millisecond)}, Expect: plan.Expect{Codes: []string{"OK"}, Matches: "level"}}, l.Requests[1])
	// What is written into the plan is read again.
	b, err := json.Marshal(p)
	require.NoError(t, err)
	var again plan.Plan
	require.NoError(t, json.Unmarshal(b, &again))
	assert.Equal(t, l, again.Loads[0])
	var text strings.Builder
	require.NoError(t, Explain(&text, p))
	said := text.String()
	assert.Contains(t, said, "calls inventory.v1.Inventory/Adjust, sends 5 messages 10ms apart, takes 5 messages, weight 1, good is OK")
	assert.Contains(t, said, "good is OK or ALREADY_EXISTS")
}

func TestErrorsOfCalls(t *testing.T) {
	for _, c := range []struct{ name, old, new, want string }{
		{"no grpc", "    grpc: {descriptors: orders.binpb}\n", "", "9:10: call is of gRPC calls; give the load grpc: {}\n10:21: call is of gRPC calls; give the load grpc: {}"},
		{"path", "{call: ordersv1.Orders/Create,", "{path: /x, call: ordersv1.Orders/Create,", "10:10: path is of HTTP requests; a gRPC call has call, message, metadata and stream"},
		{"no call", "{id: watch, call: inventory.v1.Inventory/Adjust,", "{id: watch,", "11:9: call is missing: PACKAGE.SERVICE/METHOD"},
		{"form", "call: ordersv1.Orders/Create", "call: ordersv1.Orders.Create", `10:16: "ordersv1.Orders.Create": a call is written PACKAGE.SERVICE/METHOD, such as orders.v1.Orders/Create`},
		{"code", "ALREADY_EXISTS", "ALREADY_EXIST", `10:135: "ALREADY_EXIST" is no gRPC status; did you mean "ALREADY_EXISTS"?`},
		{"status", "expect: {code: OK,", "expect: {status: 200, code: OK,", "11:111: status is of HTTP; a gRPC answer has code"},
		{"message", `message: {sku: "s{{mod .N 5}}", n: 3}`, "message: hello", "10:60: a message is a mapping of its fields, not \"hello\""},
		{"template", "{{mod .N 5}}", "{{mod .M 5}}", `10:66: the template has no .M; did you mean "N"?`},
		{"metadata", "x-priority: high", "grpc-timeout: 1s", `10:101: "grpc-timeout" is no key of metadata: letters, digits, -, _ and ., and not grpc-`},
		{"send", "send: 5", "send: 0", "11:73: send is 0; it is 1 to 1000000"},
		{"pause", "send: 5, ", "", "11:79: pause is between messages that are sent, and one is sent; give send"},
		{"timeout", "    rate: 50/s", "    rate: 50/s\n    timeout: 30ms", "12:66: sending alone takes 40ms, and the load's timeout is 30ms"},
		{"default timeout", "send: 5, receive: 5, pause: 10ms", "send: 30, pause: 50ms", "11:66: sending alone takes 1.45s, and the load's timeout is 1s"},
		{"endless", "send: 5, receive: 5, pause: 10ms", "send: 1000000, pause: 24h", "11:66: sending alone takes 2562024h0m0s, and the load's timeout is 1s"},
		{"key", "receive: 5", "recieve: 5", `11:76: stream has no key "recieve"; did you mean "receive"?`},
		{"descriptors", "grpc: {descriptors: orders.binpb}", `grpc: {descriptors: ""}`, "7:25: which file? leave descriptors out to ask the service by server reflection"},
		{"targets", "    rate: 50/s", "    rate: 50/s\n    targets: x", "9:5: requests and targets: give one of them\n9:5: targets are HTTP requests; a load of gRPC calls needs requests with call"},
		{"load", "spike: {load: rpc", "spike: {load: rcp", `15:19: no load is called "rcp"; did you mean "rpc"?`},
		{"rate", "rate: 3x", "rate: 3", `15:30: rate: a rate is written 500/s, or 3x for a multiple of the planned one`},
		{"over", "over: 1s..2s", "over: 0s", "17:40: over 0s: the time that the change takes, more than 0"},
		{"mode", "mode: body", "mode: bodies", `19:39: mode "bodies": headers, body or reader`},
		{"to", "slow-clients: {to: gateway", "slow-clients: {to: gatway", `19:24: the topology has no node, service or group called "gatway"; did you mean "gateway"?`},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, 1, strings.Count(goodCalls, c.old), "the case spoils one place")
			err := validated(strings.Replace(goodCalls, c.old, c.new, 1), reference())
			require.Error(t, err)
			var got []string
			var es Errors
			require.ErrorAs(t, err, &es)
			for _, e := range es {
				got = append(got, strings.TrimPrefix(strings.SplitN(e.Error(), "\n", 2)[0], "x.yaml:"))
			}
			assert.Equal(t, c.want, strings.Join(got, "\n"))
		})
	}
}
