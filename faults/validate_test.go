package faults

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
)

func TestParametersThatMakeNoSense(t *testing.T) {
	for _, c := range []struct{ kind, params, says string }{
		{"kill", `{}`, "which nodes"},
		{"kill", `{"node":"a","group":"g"}`, "only one of"},
		{"kill", `{"group":"g","pick":"boss"}`, `pick "boss"`},
		{"kill", `{"node":"a","pick":"1"}`, "nothing to pick"},
		{"pause", `{"group":"g","pick":"0"}`, "at least 1"},
		{"drop", `{"to":"b"}`, "from is missing"},
		{"drop", `{"from":"a"}`, "to is missing"},
		{"drop", `{"from":"a","to":"a"}`, "both a"},
		{"drop", `{"from":"a","to":"b","direction":"in"}`, `direction "in"`},
		{"delay", `{"from":"a","to":"b"}`, "time 0s"},
		{"delay", `{"from":"a","to":"b","time":"100us"}`, "time 100µs: at least 1ms"},
		{"delay", `{"from":"a","to":"b","time":"100us..5ms"}`, "at least 1ms"},
		{"delay", `{"from":"a","to":"b","time":"1h"}`, "at most 30s"},
		{"delay", `{"from":"a","to":"b","time":"5ms","jitter":"6ms"}`, "jitter 6ms is above"},
		{"delay", `{"from":"a","to":"b","time":"5ms","distribution":"gamma"}`, `distribution "gamma"`},
		{"latency", `{"from":"a","to":"b","latency":"100us"}`, "whole milliseconds"},
		{"latency", `{"from":"a","to":"b","latency":"5ms","toxicity":"0%"}`, `toxicity "0%"`},
		{"latency", `{"from":"a","to":"b","latency":"5ms","toxicity":"0.3"}`, `toxicity "0.3"`},
		{"latency", `{"from":"a","to":"b","latency":"5ms","stream":"both"}`, `stream "both"`},
		{"bandwidth", `{"from":"a","to":"b"}`, "to let nothing through, use timeout"},
		{"bandwidth", `{"from":"a","to":"b","rate":-1}`, "rate -1: 1 to"},
		{"bandwidth", `{"from":"a","to":"b","rate":100001}`, "rate 100001: 1 to"},
		{"bandwidth", `{"rate":10}`, "from is missing"},
		{"slow_close", `{"from":"a","to":"b"}`, "delay 0s: 1ms to"},
		{"slow_close", `{"from":"a","to":"b","delay":"1h"}`, "delay 1h"},
		{"slow_close", `{"from":"a","to":"b","delay":"1s","stream":"up"}`, `stream "up"`},
		{"timeout", `{"from":"a","to":"b","timeout":"10us"}`, "timeout 10µs: 0s, or 1ms"},
		{"timeout", `{"from":"a","to":"b","timeout":"1h"}`, "timeout 1h"},
		{"timeout", `{"from":"a","to":"a"}`, "both a"},
		{"reset_peer", `{"from":"a","to":"b","timeout":"1h"}`, "timeout 1h"},
		{"reset_peer", `{"from":"a","to":"b","toxicity":"101%"}`, `toxicity "101%"`},
		{"slicer", `{"from":"a","to":"b"}`, "average_size 0: 1 to"},
		{"slicer", `{"from":"a","to":"b","average_size":20000}`, "average_size 20000"},
		{"slicer", `{"from":"a","to":"b","average_size":10,"size_variation":10}`, "less than the average_size"},
		{"slicer", `{"from":"a","to":"b","average_size":10,"delay":"1s"}`, "it comes after each piece"},
		{"limit_data", `{"from":"a","to":"b"}`, "bytes is missing"},
		{"limit_data", `{"from":"a","to":"b","bytes":-1}`, "bytes -1"},
		{"http-error", `{"from":"a","to":"b","status":200}`, "status 200"},
		{"http-error", `{"from":"a","to":"b","status":503,"share":"30%","first":2}`, "one of share, first and every"},
		{"http-error", `{"from":"a","to":"b","status":503,"share":"0%"}`, `share "0%"`},
		{"http-error", `{"from":"a","to":"b","status":503,"every":-1}`, "every -1"},
		{"http-error", `{"from":"a","to":"b","status":503,"first":-1}`, "first -1"},
		{"http-error", `{"from":"a","to":"b","status":503,"path":"("}`, "path: error parsing regexp"},
		{"http-error", `{"from":"a","to":"b","status":503,"method":"["}`, "method: error parsing regexp"},
		{"http-error", `{"from":"a","to":"b","status":503,"retry-after":"1\r\nX: y"}`, "retry-after"},
		{"http-error", `{"from":"a","status":503}`, "to is missing"},
		{"grpc-error", `{"from":"a","to":"b","code":"OK"}`, `code "OK"`},
		{"grpc-error", `{"from":"a","to":"b","code":"unavailable"}`, "one of CANCELLED"},
		{"grpc-error", `{"from":"a","to":"b","code":"INTERNAL","method":"("}`, "method: error parsing regexp"},
		{"partition", `{"isolate":{"group":"g"},"direction":"sideways"}`, `direction "sideways"`},
		{"partition", `{"isolate":{"group":"g"},"from":"me"}`, `from "me"`},
		{"restart", `{"service":"s","rolling":{"wait":"long"}}`, `rolling.wait "long"`},
		{"scale", `{"service":"s","replicas":-1}`, "0 to 200"},
		{"scale", `{"service":"s","replicas":201}`, "0 to 200"},
		{"do", `{}`, "one of exec and signal"},
		{"do", `{"exec":["x"],"signal":"HUP","node":"a"}`, "one of exec and signal"},
		{"do", `{"exec":["x"],"loop":true}`, "loop needs background"},
		{"do", `{"exec":["x"],"exit":"300"}`, `exit "300"`},
		{"spike", `{}`, "load is missing"},
		{"spike", `{"load":"web"}`, "rate is missing"},
		{"spike", `{"load":"web","rate":"1x"}`, "the planned rate"},
		{"ramp", `{"load":"web","over":"1s"}`, "to is missing"},
		{"ramp", `{"load":"web","from":"3x","to":"3x","over":"1s"}`, "both 3x"},
		{"ramp", `{"load":"web","to":"3x"}`, "over 0s"},
		{"slow-clients", `{}`, "to is missing"},
		{"slow-clients", `{"to":"client"}`, "the client"},
		{"slow-clients", `{"to":"a","mode":"lazy"}`, `mode "lazy"`},
		{"slow-clients", `{"to":"a","connections":20000}`, "1 to 10000"},
		{"slow-clients", `{"to":"a","rate":-1}`, "rate -1"},
		{"slow-clients", `{"to":"a","path":"x"}`, `path "x"`},
		{"connections", `{"to":"a"}`, "count 0"},
		{"connections", `{"to":"a","count":5,"port":70000}`, "port 70000"},
		{"connections", `{"to":"a","count":5,"per-second":-1}`, "per-second -1"},
		{"connections", `{"to":"a","count":500,"per-second":100,"hold":"5s"}`, "hold 5s"},
		{"do", `{"signal":"HUP"}`, "which nodes"},
		{"do", `{"signal":"HUP","node":"a","background":true}`, "belong to exec"},
	} {
		k, ok := ByName(c.kind)
		require.True(t, ok, c.kind)
		p := k.New()
		require.NoError(t, json.Unmarshal([]byte(c.params), p), c.params)
		assert.ErrorContains(t, p.Validate(), c.says, c.kind+" "+c.params)
	}
}

func TestParametersThatMakeSense(t *testing.T) {
	for kind, params := range map[string]string{
		"kill":       `{"group":"g","pick":"1..3"}`,
		"delay":      `{"from":"a","to":"b","time":"50ms","jitter":"20ms","distribution":"normal"}`,
		"latency":    `{"from":"a","to":"b","latency":"50ms","jitter":"20ms","toxicity":"30%","stream":"downstream"}`,
		"bandwidth":  `{"from":"a","to":"b","rate":100,"stream":"upstream"}`,
		"slow_close": `{"from":"a","to":"b","delay":"1s..2s"}`,
		"timeout":    `{"from":"a","to":"b"}`,
		"reset_peer": `{"from":"a","to":"b","timeout":"100ms","toxicity":"50%"}`,
		"slicer":     `{"from":"a","to":"b","average_size":64,"size_variation":32,"delay":"50us"}`,
		"limit_data": `{"from":"a","to":"b","bytes":0}`,
		"http-error": `{"from":"a","to":"b","status":503,"share":"30%","path":"^/orders","method":"POST","body":"{}","retry-after":"2"}`,
		"grpc-error": `{"from":"a","to":"b","code":"UNAVAILABLE","every":3,"method":"Reserve$","message":"down"}`,
		"partition":  `{"isolate":{"group":"g","pick":"follower"},"from":"group","direction":"both"}`,
		"restart":    `{"service":"api","rolling":{"wait":"ready","gap":"700ms"},"down":"1s","with":{"env":{"V":"v2"}}}`,
		"do":         `{"exec":["x","y"],"in":"client","background":true,"loop":true,"exit":"any"}`,
		"scale":      `{"service":"api","replicas":4}`,
		"spike":      `{"load":"web","rate":"500/s"}`,
		"ramp":       `{"load":"web","from":"1.5x","to":"5x","over":"2s..3s"}`,

		"slow-clients": `{"to":"edge","port":8080,"connections":20,"mode":"reader","rate":100,"path":"/x"}`,
		"connections":  `{"to":"edge","count":500,"per-second":1000,"hold":"2s"}`,
	} {
		k, _ := ByName(kind)
		p := k.New()
		require.NoError(t, json.Unmarshal([]byte(params), p))
		assert.NoError(t, p.Validate(), kind)
		// What was read comes back when it is written: the plan keeps parameters as JSON.
		b, err := json.Marshal(p)
		require.NoError(t, err)
		again := k.New()
		require.NoError(t, json.Unmarshal(b, again))
		assert.Equal(t, p, again, kind)
	}
}

func TestTableIsSound(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Table {
		assert.False(t, seen[k.Name], "%s stands twice", k.Name)
		seen[k.Name] = true
		assert.NotEmpty(t, k.Doc, k.Name)
		assert.NotEmpty(t, k.Layer, k.Name)
		require.NotNil(t, k.New(), k.Name)
	}
}

func TestPartitionLinks(t *testing.T) {
	nodes := []cluster.NodeInfo{{Name: "a-1", Group: "g", Service: "a"}, {Name: "a-2", Group: "g", Service: "b"}, {Name: "x", Service: "x"}}
	assert.Equal(t, []string{"a-2"}, (&Partition{}).others(nodes, []string{"a-1"}))
	assert.Equal(t, []string{"a-2", "x", cluster.Client}, (&Partition{From: "all"}).others(nodes, []string{"a-1"}))
	// A node without a group loses the rest of its service, of which there is none here.
	assert.Empty(t, (&Partition{}).others(nodes, []string{"x"}))
	assert.Equal(t, []cluster.Link{{From: "a", To: "b"}, {From: "b", To: "a"}}, withReverse([]cluster.Link{{From: "a", To: "b"}}))
	assert.Equal(t, []cluster.Link{{From: "a", To: "c"}}, between([]string{"a", "c"}, []string{"c"}))
}
