package scenarios

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/plan"
)

func TestLinksOfRepliesAreObserved(t *testing.T) {
	f, err := Parse("x.yaml", []byte(`version: 1
topology: t.yaml
load: {l: {to: gateway, rate: 5/s, requests: [{path: /}]}}
faults:
  - id: bad
    for: 1s
    http-error: {from: client, to: gateway, status: 503, share: 30%, retry-after: "1"}
  - id: again
    http-error: {from: client, to: gateway, status: 500, first: 3}
  - id: gone
    grpc-error: {from: gateway, to: orders, code: UNAVAILABLE, every: 2}
  - id: slow
    latency: {from: orders, to: store-1, latency: 5ms}
`), realTables())
	require.NoError(t, err)
	p, err := Compile(f, nil, 1)
	require.NoError(t, err)
	assert.Equal(t, []plan.LinkEnds{{From: "client", To: "gateway"}, {From: "gateway", To: "orders"}}, p.Observe, "each once; a toxic reads nothing")
	var b bytes.Buffer
	require.NoError(t, Explain(&b, p))
	assert.Contains(t, b.String(), "calls from gateway to orders are read off the wire")
}
