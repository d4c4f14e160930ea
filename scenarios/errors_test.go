package scenarios

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// good is a scenario without errors; every case below spoils one line of it.
const good = `version: 1
name: example
topology: topologies/reference.yaml
load:
  orders:
    to: gateway
    rate: 200/s
    requests:
      - {id: create, method: POST, path: /orders, body: {sku: "s{{mod .N 50}}"}, expect: {status: 201}}
workloads:
  registers: {kind: registers, to: gateway}
baseline: 3s
faults:
  - id: first
    at: 0s
    for: 2s
    kill: {group: store, pick: leader}
  - id: second
    at: {after: first.gone, timeout: 5s}
    for: 1s..2s
    delay: {from: client, to: gateway, time: 50ms}
assert:
  - {id: steady, slo: {load: orders, during: first, success: ">= 99%", p95: "<= 100ms"}}
  - {id: kept, no-lost-writes: {workload: registers}}
controls:
  - {defect: ack-early, service: orders, must-fail: [kept]}
`

func validated(src string, spec *cluster.Spec) error {
	f, err := Parse("x.yaml", []byte(src), fakeTables())
	if f == nil {
		return err
	}
	return f.Validate(spec)
}

func TestGoodScenarioHasNoErrors(t *testing.T) {
	require.NoError(t, validated(good, reference()))
	require.NoError(t, validated(good, nil), "without a topology")
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		name, old, new string
		want           string // "line:col: message", each on its own line
	}{
		// Keys and types.
		{"unknown key", "baseline: 3s", "basline: 3s", `12:1: a scenario has no key "basline"; did you mean "baseline"?`},
		{"unknown key below", "    rate: 200/s", "    rates: 200/s", "5:3: load orders: how much? give it rate: 200/s, or stages\n7:5: orders has no key \"rates\"; did you mean \"rate\"?"},
		{"duplicate key", "baseline: 3s", "name: again", `12:1: the key "name" was given before, in line 2`},
		{"version", "version: 1", "version: 2", `1:10: version 2 is not known; this program reads version 1`},
		{"version missing", "version: 1\n", "tags: [a]\n", `1:1: version is missing; this is version 1`},
		{"topology missing", "topology: topologies/reference.yaml\n", "tags: [a]\n", `1:1: topology is missing: a Compose file, relative to this file`},
		{"name", "name: example", "name: an example/", `2:7: name "an example/": letters, digits, - and _, at most 63`},
		{"no value", "baseline: 3s", "baseline:", `12:1: baseline has no value; give it one or leave the key out`},
		{"no unit", "baseline: 3s", "baseline: 3", `12:11: baseline: 3 has no unit; write it as 3s or 3ms`},
		{"bad unit", "baseline: 3s", "baseline: 3sec", `12:11: baseline: "3sec" is no time; write it as 2s, 150ms or 0s..2s`},
		{"range where one is meant", "baseline: 3s", "baseline: 1s..3s", `12:11: baseline: 1s..3s is a range; this is one time, it is not drawn`},
		{"list for mapping", "  registers: {kind: registers, to: gateway}", "  registers: [a]", `11:14: registers is a mapping with the keys kind, to, clients, keys, rate, timeout, exec, in, not a list`},
		{"mapping for list", "assert:\n", "tags: {a: b}\nassert:\n", `22:7: tags is a list, written [a, b] or with dashes, not a mapping`},
		{"not a number", "baseline: 3s", "seed: -3", `12:7: seed is a whole number of zero or more, not "-3"`},
		{"too long", "baseline: 3s", "baseline: 30000h", `12:11: baseline: 30000h0m0s is more than a day`},
		{"not a bool", "    to: gateway\n    rate", "    keepalive: yes\n    to: gateway\n    rate", `6:16: keepalive is true or false, not "yes"`},
		{"idle", "rate: 200/s", "rate: 200/s\n    idle: 0s", `8:11: an idle time of 0s keeps none; write keepalive: false`},
		{"idle and a new connection each", "rate: 200/s", "rate: 200/s\n    keepalive: false\n    idle: 1s", `9:5: with keepalive: false no connection is ever idle; give one of them`},
		{"idle of gRPC", "rate: 200/s", "rate: 200/s\n    grpc: {}\n    idle: 1s", `9:5: gRPC calls share one connection to each replica, which is kept to the end; leave idle out`},
		{"http2 of gRPC", "rate: 200/s", "rate: 200/s\n    grpc: {}\n    http2: true", `9:5: gRPC calls go over HTTP/2 anyway; leave http2 out`},
		{"header of a connection", "rate: 200/s", "rate: 200/s\n    http2: true\n    requests: [{path: /, headers: {upgrade: x}}]", `9:36: upgrade is about a connection of HTTP/1.1; HTTP/2 does not know it (RFC 9113, 8.2.2)`},
		{"warm-up", "baseline: 3s", "warmup: soon", `12:9: warmup: "soon" is no time; write it as 2s, 150ms or 0s..2s`},
		{"timeout", "baseline: 3s", "timeout: 0s", `12:10: a timeout of 0s leaves no time`},
		// Load and workloads.
		{"service", "    to: gateway\n    rate", "    to: gatewy\n    rate", `6:9: the topology has no service, group or node called "gatewy"; did you mean "gateway"?`},
		{"no port", "    to: gateway\n    rate", "    to: orders\n    rate", `6:9: orders exposes no port; give it ports or expose in the topology`},
		{"id of a premise", "id: kept", "id: phases", `24:10: the id "phases" is taken by another assertion`},
		{"rate unit", "rate: 200/s", "rate: 200", `7:11: rate: a rate has a unit, such as 200/s`},
		{"rate unit", "rate: 200/s", "rate: 200/m", `7:11: rate: "200/m" is no rate; write it as 200/s, at most 1000000/s`},
		{"rate and stages", "rate: 200/s", "rate: 200/s\n    stages: [{rate: 5/s}]", `8:5: rate is short for one stage; give rate or stages`},
		{"stage without length", "rate: 200/s", "stages: [{rate: 5/s}, {rate: 6/s}]", `7:14: how long? only the last stage may leave out for: it holds to the end of recovery`},
		{"linear without length", "rate: 200/s", "stages: [{from: 5/s, to: 6/s}]", `7:14: how long? a rate that changes needs for; at its end the last rate holds`},
		{"half linear", "rate: 200/s", "stages: [{for: 1s, from: 5/s}]", `7:14: a rate that changes has from and to`},
		{"template", "{{mod .N 50}}", "{{mod .M 50}}", `9:63: the template has no .M; did you mean "N"?`},
		{"template of nothing", "{{mod .N 50}}", "{{rand 0}}", `9:63: the template cannot be carried out: <rand 0>: error calling rand: rand of 0; it must be 1 or more`},
		{"template with too little", "{{mod .N 50}}", "{{mod .N}}", `9:63: the template cannot be carried out: <mod>: wrong number of args for mod: want 2 got 1`},
		{"template of the root", "{{mod .N 50}}", "{{$.Foo}}", `9:63: the template cannot be carried out: <$.Foo>: can't evaluate field Foo in type plan.TemplateData`},
		{"template with", "{{mod .N 50}}", "{{with .X}}a{{end}}", `9:63: the template has no .X; did you mean "N"?`},
		{"template loop", "{{mod .N 50}}", "{{range .X}}a{{end}}", `9:63: the template has no .X; did you mean "N"?`},
		{"no rate", "rate: 200/s", "rate: 0.0/s", `7:11: a load of 0/s sends nothing`},
		{"no rate", "rate: 200/s", "rate: 0 /s", `7:11: a load of 0/s sends nothing`},
		{"no rate in any stage", "rate: 200/s", "stages: [{for: 1s, rate: 0.0/s}, {for: 1s, from: 0/s, to: 0/s}]", `7:13: a load whose stages are all of 0/s sends nothing`},
		{"no rate of a workload", "kind: registers, to: gateway", "kind: registers, to: gateway, rate: 0/s", `11:51: a workload of 0/s does nothing; leave rate out for 100/s`},
		{"template syntax", "{{mod .N 50}}", "{{modulo .N 50}}", `9:63: the template cannot be read: function "modulo" not defined; it knows .N, .ID, mod and rand`},
		{"method", "method: POST", "method: PSOT", `9:30: "PSOT" is no HTTP method; did you mean "POST"?`},
		{"path", "path: /orders", "path: orders", `9:42: "orders": a path begins with /; the service is named by to`},
		{"status", "{status: 201}", "{status: [201, 1000]}", `9:99: 1000 is no HTTP status`},
		{"no requests", "    requests:\n      - {id: create, method: POST, path: /orders, body: {sku: \"s{{mod .N 50}}\"}, expect: {status: 201}}\n", "", `5:3: load orders: what is sent? give it requests or targets`},
		{"workload kind", "kind: registers", "kind: register", `11:21: no kind of workload is called "register"; did you mean "registers"?`},
		{"exec key on registers", "{kind: registers, to: gateway}", "{kind: registers, to: gateway, in: client}", `11:45: in is for workloads of the kind exec`},
		// Faults.
		{"unknown fault", "kill: {group: store", "kil: {group: store", `17:5: a fault has no key "kil"; did you mean "kill"?`},
		{"two faults in one", "    kill: {group: store, pick: leader}", "    kill: {group: store, pick: leader}\n    pause: {node: store-1}", `18:5: a fault is one thing, and this is kill and pause; make them entries of their own`},
		{"no fault", "    kill: {group: store, pick: leader}\n", "", `14:5: what is a fault "first"? give it one of the keys`},
		{"unknown parameter", "pick: leader", "pik: leader", `17:26: kill has no key "pik"; did you mean "pick"?`},
		{"group", "group: store", "group: stroe", `17:19: the topology has no group called "stroe"; did you mean "store"?`},
		{"node", "group: store, pick: leader", "node: store-4", `17:18: the topology has no node called "store-4"; did you mean "store-1"?`},
		{"service where group", "group: store, pick: leader", "group: orders", `17:19: the topology has no group called "orders"; there is only store (orders is a service)`},
		{"leader of nobody", "group: store, pick: leader", "service: gateway, pick: leader", `17:36: pick leader needs a group, not a service: groups say how to ask who leads (x-gauntlet.leader); these do: store`},
		{"too many", "pick: leader", "pick: 2..5", `17:32: group store has 3 nodes; 2..5 cannot be picked`},
		{"bad pick", "pick: leader", "pick: chief", `17:32: pick "chief": one of all, leader, follower, majority, minority, a number (2), a range (1..3), a share (50%)`},
		{"two targets", "group: store, pick: leader", "group: store, node: store-1", `17:11: name only one of node, service, group, zone`},
		{"link end", "from: client, to: gateway", "from: client, to: gatway", `21:31: the topology has no node, service or group called "gatway"; did you mean "gateway"?`},
		{"parameter value", "time: 50ms", "time: 0s", `21:46: time 0s: at least 1ms and at most 30s`},
		{"for and until", "    for: 2s\n", "    for: 2s\n    until: {when: {tcp: \"store-1:2379\"}}\n", `17:5: for and until: give one of them`},
		{"for of an action", "    kill: {group: store, pick: leader}", "    do: {exec: [ls]}", "16:5: do ends by itself; it takes no for"},
		{"for 0", "for: 2s", "for: 0s", `16:10: a fault of 0s is none; leave for out to let it hold to the end of the fault phase`},
		{"negative range", "for: 1s..2s", "for: 2s..1s", `20:10: for: "2s..1s": a time is not negative and a range goes from the smaller to the larger, or end`},
		{"duplicate id", "id: second", "id: first", "18:9: the id \"first\" is taken by another fault"},
		{"reserved id", "id: second", "id: recovery", `18:9: "recovery" is a word with a meaning of its own; choose another id`},
		{"id form", "id: second", "id: sec.ond", `18:9: id "sec.ond": letters, digits, - and _, at most 63`},
		{"after nobody", "after: first.gone", "after: frist.gone", `19:17: no fault is called "frist"; did you mean "first"?`},
		{"after no event", "after: first.gone", "after: first.over", `19:17: a fault has no step "over"; there are gone, in-effect, started and undone`},
		{"after what", "after: first.gone", "after: first", `19:17: "first": a step in a fault's life is written ID.in-effect (or started, undone, gone)`},
		{"timeout of nothing", "at: 0s", "at: {plus: 1s, timeout: 5s}", `15:20: a timeout without after or when has nothing to wait for`},
		{"cycle", "at: 0s", "at: {after: second.started}", `15:9: these wait for one another and would never come: first.gone waits for first.started waits for second.started waits for first.gone`},
		{"held too long", "    for: 2s", "    for: end", `19:9: first.gone comes too late: the fault is held until the topology comes down`},
		{"never ends", "    for: 2s\n", "", `18:9: first.gone comes too late: the fault holds to the end of the fault phase`},
		{"repeat what", "    for: 2s\n", "    for: 2s\n    repeat: {every: 1s}\n", `17:13: how often? give it for (a time that bounds the starts) or times`},
		{"repeat at once", "    for: 2s\n", "    for: 2s\n    repeat: {every: 0s, times: 3}\n", `17:21: every 0s would start them all at once; it is more than 0`},
		{"repeat for ever", "    for: 2s\n", "    repeat: {every: 1s, times: 3}\n", `16:13: how long does each last? give the fault for or until, or the first would hold to the end of the fault phase`},
		{"repeat too often", "    for: 2s\n", "    for: 2s\n    repeat: {every: 1ns, for: 1h}\n", `17:13: together the faults may begin more than 100000 times; repeat them less often`},
		{"background for ever", "    for: 2s\n    kill: {group: store, pick: leader}", "    do: {exec: [ls], background: true}", `18:9: first.gone comes too late: the fault holds to the end of the fault phase`},
		{"background again", "    for: 2s\n    kill: {group: store, pick: leader}", "    repeat: {every: 1s, times: 3}\n    do: {exec: [ls], background: true}", `16:13: a program in the background goes on until the fault phase ends: it cannot be repeated`},
		{"several nodes to run in", "at: 0s", "at: {when: {exec: [ls], in: $second.target}}", `15:33: $second.target can be several nodes, and a program runs in one; $ID.target is for the node of a log`},
		{"https", "at: 0s", "at: {when: {http: \"https://store-1:1/\"}}", `15:23: "https://store-1:1/": write it as http://NODE:PORT/path`},
		{"link to a target", "from: client, to: gateway", "from: client, to: $first.target", `21:31: the topology has no node, service or group called "$first.target"`},
		{"condition of two", "at: 0s", "at: {when: {tcp: \"store-1:1\", http: \"http://store-1:1/\"}}", `15:16: a condition is one of http, tcp, log, exec, workload, metric, event, not http and tcp`},
		{"condition of no node", "at: 0s", "at: {when: {tcp: \"store-9:1\"}}", `15:22: the topology has no node or service called "store-9"; did you mean "store-1"?`},
		{"condition bound", "at: 0s", "at: {when: {workload: registers, acked: \">= 5%\"}}", `15:45: acked ">= 5%" has no sense; it is a number of operations such as ">= 500"`},
		{"condition regexp", "at: 0s", "at: {when: {log: {node: store-1, matches: \"(\"}}}", "15:47: not a regular expression (RE2): missing closing ): `(`"},
		{"more than there are numbers", "pick: leader", "pick: \"0..9223372036854775807\"", "17:32: group store has 3 nodes; 0..9223372036854775807 cannot be picked\n17:32: pick \"0..9223372036854775807\": at least 1, and the smaller number first"},
		{"minority of two", "group: store, pick: leader", "service: gateway, pick: minority", `17:36: service gateway has too few nodes for a minority: 2 of at least 3`},
		{"program in a service", "    for: 2s\n    kill: {group: store, pick: leader}", "    do: {exec: [ls], in: orders}", `16:26: the topology has no node called "orders"`},
		{"program in a group", "    for: 2s\n    kill: {group: store, pick: leader}", "    do: {exec: [ls], in: store}", `16:26: the topology has no node called "store"`},
		{"kill of the client", "group: store, pick: leader", "node: client", `17:18: the node client has no program of its own: there is nothing to kill`},
		{"pause of the client", "    kill: {group: store, pick: leader}", "    pause: {node: client}", `17:19: the node client has no program of its own: there is nothing to pause`},
		{"restart of the client", "    for: 2s\n    kill: {group: store, pick: leader}", "    restart: {node: client}", `16:21: the node client has no program of its own: there is nothing to restart`},
		{"target of a link", "at: {after: first.gone, timeout: 5s}\n    for: 1s..2s\n    delay: {from: client, to: gateway, time: 50ms}", "at: {when: {log: {node: $third.target, matches: a}}}\n    for: 1s..2s\n    delay: {from: client, to: gateway, time: 50ms}\n  - {id: third, for: 1s, drop: {from: client, to: gateway}}", `19:29: $third.target stands for nothing: drop chooses no nodes; name the node or service`},
		{"target of a program", "at: {after: first.gone, timeout: 5s}\n    for: 1s..2s\n    delay: {from: client, to: gateway, time: 50ms}", "at: {when: {log: {node: $third.target, matches: a}}}\n    for: 1s..2s\n    delay: {from: client, to: gateway, time: 50ms}\n  - {id: third, do: {exec: [ls]}}", `19:29: $third.target stands for nothing: do chooses no nodes; name the node or service`},
		{"target of a scaling", "at: {after: first.gone, timeout: 5s}\n    for: 1s..2s\n    delay: {from: client, to: gateway, time: 50ms}", "at: {when: {log: {node: $third.target, matches: a}}}\n    for: 1s..2s\n    delay: {from: client, to: gateway, time: 50ms}\n  - {id: third, for: 1s, scale: {service: orders, replicas: 2}}", `19:29: $third.target stands for nothing: scale chooses no nodes; name the node or service`},
		{"target of a spike", "at: {after: first.gone, timeout: 5s}\n    for: 1s..2s\n    delay: {from: client, to: gateway, time: 50ms}", "at: {when: {log: {node: $third.target, matches: a}}}\n    for: 1s..2s\n    delay: {from: client, to: gateway, time: 50ms}\n  - {id: third, for: 1s, spike: {load: orders, rate: 2x}}", `19:29: $third.target stands for nothing: spike chooses no nodes; name the node or service`},
		{"recovery until what is held is gone", "    for: 1s..2s\n    delay: {from: client, to: gateway, time: 50ms}\n", "    for: end\n    delay: {from: client, to: gateway, time: 50ms}\nrecovery: {until: {after: second.gone}}\nrequire:\n  - id: never\n    by: end\n    event: second.undone\n", "22:19: second.gone comes too late: the fault is held until the topology comes down\n26:12: second.undone comes too late: the fault is held until the topology comes down"},
		{"fault before the baseline ends", "baseline: 3s", "require: [{id: early, at: baseline, event: first.gone}]", `12:44: no fault has begun by the end of baseline`},
		{"own target too early", "at: 0s", "at: {when: {log: {node: $first.target, matches: a}}}", `15:29: $first.target is not known here: its fault has not begun`},
		{"target of nobody", "at: 0s", "at: {when: {log: {node: $third.target, matches: a}}}", `15:29: no fault is called "third"; there are first and second`},
		// Assertions and controls.
		{"unknown assertion", "no-lost-writes: {", "no-lost-write: {", `24:16: an assertion has no key "no-lost-write"; did you mean "no-lost-writes"?`},
		{"load of an assertion", "load: orders, during", "load: oders, during", `23:30: no load is called "oders"; did you mean "orders"?`},
		{"during nothing", "during: first", "during: fist", `23:46: no phase or fault is called "fist"; did you mean "first"?`},
		{"workload of an assertion", "workload: registers", "workload: register", `24:43: no workload is called "register"; did you mean "registers"?`},
		{"bound without operator", `">= 99%"`, `"99%"`, `23:62: success: bound "99%" has no operator; write it as ">= 99.9%", "<= 100ms", "<= 3x baseline" or "= 0"`},
		{"bound above all", `">= 99%"`, `">= 199%"`, `23:62: success: bound ">= 199%": a share is at most 100%`},
		{"bound without sense", `"<= 100ms"`, `"<= 5%"`, `23:77: p95 "<= 5%": a time such as 100ms, or a multiple of the baseline`},
		{"abort window", "baseline: 3s", "abort: [{slo: {load: orders, success: \"< 10%\", for: 90ms}}]\nbaseline: 3s", `12:53: a window of 90ms is shorter than what requests are counted by, 100ms`},
		{"abort window of few requests", "load:\n  orders:\n    to: gateway\n    rate: 200/s", "abort: [{slo: {load: orders, success: \"< 10%\", for: 500ms}}]\nload:\n  orders:\n    to: gateway\n    timeout: 2s\n    stages: [{for: 1s, from: 1/s, to: 3/s}, {rate: 2/s}]", `4:53: in a window of 500ms at most 7.5 requests of orders end, and it takes 10 to say anything`},
		{"all of one assertion", `load: orders, during: first, success: ">= 99%"`, `load: oders, during: fist, sucess: ">= 99%"`, "23:30: no load is called \"oders\"\n23:45: no phase or fault is called \"fist\"\n23:51: slo has no key \"sucess\"; did you mean \"success\"?"},
		{"all of one fault", "{group: store, pick: leader}", "{group: stroe, pik: leader}", "17:19: the topology has no group called \"stroe\"; did you mean \"store\"?\n17:26: kill has no key \"pik\""},
		{"check that is no list", "no-lost-writes: {workload: registers}", "exec: check", `24:22: exec is a list, written [a, b] or with dashes, not "check"`},
		{"check elsewhere", "no-lost-writes: {workload: registers}", "exec: [check], in: clint", `24:35: the topology has no node called "clint"; did you mean "client"?`},
		{"check with a key too many", "no-lost-writes: {workload: registers}", "exec: [check], inn: client", `24:31: exec has no key "inn"; did you mean "in"?`},
		{"defect", "defect: ack-early", "defect: ack-eary", `26:14: no defect is called "ack-eary"; did you mean "ack-early"?`},
		{"defect elsewhere", "service: orders", "service: store-1", `26:34: store-1 does not run the reference service, and only that has defects; change env or flags instead`},
		{"must fail what", "must-fail: [kept]", "must-fail: [ketp]", `26:54: no assertion is called "ketp"; did you mean "kept"?`},
		{"id of what is judged anyway", "id: kept", "id: exits", `24:10: "exits" is the id of the finding about programs that ended, which every run has; choose another id`},
		{"two changes", "service: orders", "env: {A: b}", `26:5: a control is one change: defect, env or flags`},
		{"flags of nobody", "defect: ack-early, service: orders", "flags: {ordes: [--x]}", `26:14: the topology has no service or group called "ordes"; did you mean "orders"?`},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Contains(t, good, c.old, "the case spoils nothing")
			err := validated(strings.Replace(good, c.old, c.new, 1), reference())
			var es Errors
			require.ErrorAs(t, err, &es)
			var got []string
			for _, e := range es {
				got = append(got, strings.TrimPrefix(strings.SplitN(e.Error(), "\n", 2)[0], "x.yaml:"))
			}
			want := strings.Split(c.want, "\n")
			// What an error leaves behind may be an error of its own; what is wanted must be there, and first.
			for i, w := range want {
				if assert.Less(t, i, len(got)) {
					assert.True(t, strings.HasPrefix(got[i], w), "want %s\n got %s", w, strings.Join(got, "\n     "))
				}
			}
			for _, e := range es {
				checkPlace(t, e, strings.Replace(good, c.old, c.new, 1))
			}
		})
	}
}

// checkPlace demands that an error is within the text and that its caret stands below its column.
func checkPlace(t interface{ Errorf(string, ...any) }, e *Error, src string) {
	lines := strings.Split(src, "\n")
	if e.Line < 1 || e.Line > len(lines) {
		t.Errorf("line %d of %d: %s", e.Line, len(lines), e.Msg)
		return
	}
	if e.Col < 1 || e.Col > utf8.RuneCountInString(lines[e.Line-1])+1 {
		t.Errorf("column %d of %q: %s", e.Col, lines[e.Line-1], e.Msg)
	}
	if e.Excerpt != "" && !strings.HasSuffix(e.Excerpt, "^") {
		t.Errorf("no caret in %q", e.Excerpt)
	}
}

func TestAllErrorsAtOnce(t *testing.T) {
	src := strings.NewReplacer("to: gateway\n    rate", "to: gatewy\n    rate", "kill:", "kil:", "baseline: 3s", "baseline: 3", "ack-early", "ack-erly").Replace(good)
	err := validated(src, reference())
	var es Errors
	require.ErrorAs(t, err, &es)
	require.GreaterOrEqual(t, len(es), 4)
	for i := 1; i < len(es); i++ {
		require.LessOrEqual(t, es[i-1].Line, es[i].Line, "in the order of the file")
	}
	for _, want := range []string{"gatewy", "kil", "3 has no unit", "ack-erly"} {
		require.ErrorContains(t, err, want)
	}
	var one *Error
	require.True(t, errors.As(err, &one))
}

func TestExcerpt(t *testing.T) {
	err := validated(strings.Replace(good, "pick: leader", "pik: leader", 1), reference())
	require.EqualError(t, err, `x.yaml:17:26: kill has no key "pik"; did you mean "pick"?
   17 |     kill: {group: store, pik: leader}
      |                          ^`)
}

func TestValidatingTwiceReportsNothingTwice(t *testing.T) {
	f, err := Parse("x.yaml", []byte(strings.Replace(good, "baseline: 3s", "baseline: 3", 1)), fakeTables())
	require.Error(t, err)
	first := f.Validate(reference())
	require.EqualError(t, f.Validate(reference()), first.Error())
}

// Messages come in one order, whatever order maps have.
func TestErrorsAreDeterministic(t *testing.T) {
	src := strings.NewReplacer("registers: {kind: registers, to: gateway}", "{a: {}, b: {}, c: {}, d: {}}", "workloads:\n  ", "workloads: ").Replace(good)
	want := validated(src, reference())
	require.Error(t, want)
	for range 50 {
		require.EqualError(t, validated(src, reference()), want.Error())
	}
}

func TestSyntax(t *testing.T) {
	deep := strings.Repeat("[", 100) + strings.Repeat("]", 100)
	laughs := "version: 1\na: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for _, c := range []string{"b", "c", "d", "e", "f"} {
		prev := string(rune(c[0] - 1))
		laughs += c + ": &" + c + " [" + strings.TrimSuffix(strings.Repeat("*"+prev+",", 10), ",") + "]\n"
	}
	for _, c := range []struct{ name, src, want string }{
		{"empty", "", "x.yaml:1:1: the file is empty"},
		{"only a comment", "# nothing\n", "the file is empty"},
		{"a scalar", "hello", "a scenario is a mapping"},
		{"a list", "- a\n- b\n", "a scenario is a mapping"},
		{"two documents", "version: 1\n---\nversion: 1\n", "x.yaml:2:1: a second YAML document begins here"},
		{"tabs", "version: 1\nload:\n\torders: {}\n", "never by tabs"},
		{"not UTF-8", "version: 1\nname: \xff\n", "x.yaml:2:7: the file is not UTF-8 text"},
		{"control character", "version: 1\nname: a\x00b\n", "x.yaml:2:8: a control character"},
		{"too large", "version: 1\nsummary: " + strings.Repeat("x", maxBytes) + "\n", "a scenario has at most"},
		{"deep", "version: 1\nname: " + deep + "\n", "nested too deeply"},
		{"deep dashes", "version: 1\nname:\n  " + strings.Repeat("- ", 300) + "x\n", "nested too deeply"},
		{"billion laughs", laughs, "once its aliases are expanded"},
		{"unknown alias", "version: 1\nname: *nam\n", "no anchor is called &nam"},
		{"alias of itself", "version: 1\nload: &a {b: *a}\n", "contains itself"},
		{"merge of a scalar", "version: 1\nload:\n  <<: 3\n", "<< merges mappings"},
		{"tag", "version: !!int 1\n", "tags (!!int) have no meaning"},
		{"complex key", "? [a, b]\n: c\n", "not valid YAML"},
		{"unclosed", "version: [1\n", "not valid YAML"},
		{"indentation", "version: 1\n  name: x\n", "not valid YAML"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := validated(c.src, reference())
			require.ErrorContains(t, err, c.want)
			var es Errors
			require.ErrorAs(t, err, &es)
			for _, e := range es {
				if utf8.ValidString(c.src) && len(c.src) <= maxBytes {
					checkPlace(t, e, c.src)
				}
			}
		})
	}
}

func TestAnchorsAndMerges(t *testing.T) {
	src := strings.Replace(good, "  - id: second\n    at: {after: first.gone, timeout: 5s}\n    for: 1s..2s\n    delay: {from: client, to: gateway, time: 50ms}",
		"  - id: second\n    delay: {<<: &slow {from: client, to: gateway, time: 50ms}, time: 70ms}\n  - id: third\n    delay: *slow", 1)
	f, err := Parse("x.yaml", []byte(src), fakeTables())
	require.NoError(t, err)
	p, err := Compile(f, reference(), 1)
	require.NoError(t, err)
	require.JSONEq(t, `{"from":"client","to":"gateway","time":"70ms"}`, string(p.Rounds[0].Faults[1].Occurrences[0].Params))
	require.JSONEq(t, `{"from":"client","to":"gateway","time":"50ms"}`, string(p.Rounds[0].Faults[2].Occurrences[0].Params))
}

// An alias stands for the anchor of its name that was given last before it.
func TestAnchorsThatAreGivenTwice(t *testing.T) {
	src := "version: 1\ntopology: t.yaml\nbaseline: &t 1s\nwarmup: *t\nrecovery: &t 2s\ntimeout: *t\ntags: &list [&n a, *n]\nsummary: &n b\nname: *n\nprograms: {p: {exec: *n}}\nworkloads: {w: {exec: *list}}\n"
	f, err := Parse("x.yaml", []byte(src), fakeTables())
	require.NoError(t, err)
	assert.Equal(t, plan.Duration(time.Second), *f.Warmup)
	assert.Equal(t, plan.Duration(2*time.Second), f.Timeout)
	assert.Equal(t, "b", f.Name)
	assert.Equal(t, []string{"a", "a"}, f.Workloads["w"].Exec, "what is within an anchor is as it was there")
	assert.Equal(t, "b", f.Programs["p"].Exec, "and does not come back with an alias of it")

	_, err = Parse("x.yaml", []byte("version: 1\ntopology: *t\nname: &t a\n"), fakeTables())
	require.ErrorContains(t, err, "x.yaml:2:11: the anchor &t comes only after this alias")
}

// must-fail names findings that there are: that about programs that ended has the id of its assertion where one is listed.
func TestExitsUnderAnotherID(t *testing.T) {
	src := strings.Replace(good, "controls:", "  - {id: deaths, exits: {allow: [store-1]}}\ncontrols:\n  - {defect: no-drain, must-fail: [exits]}", 1)
	check := func(src string) error {
		f, err := Parse("x.yaml", []byte(src), realTables())
		require.NoError(t, err)
		return f.Validate(nil)
	}
	require.ErrorContains(t, check(src), `no assertion is called "exits"`)
	require.NoError(t, check(strings.Replace(src, "id: deaths", "id: exits", 1)))
	require.NoError(t, check(strings.Replace(src, "must-fail: [exits]", "must-fail: [deaths]", 1)))
	require.NoError(t, check(strings.Replace(src, "  - {id: deaths, exits: {allow: [store-1]}}\n", "", 1)))
}

// Flags are added to a command that is known.
func TestFlagsOfAnImage(t *testing.T) {
	src := strings.Replace(good, "defect: ack-early, service: orders", "flags: {web: [--fast]}", 1)
	for _, c := range []struct {
		s   cluster.Service
		bad bool
	}{
		{cluster.Service{Name: "web", Source: cluster.Source{Image: "a"}}, true},
		{cluster.Service{Name: "web-1", Group: "web", Source: cluster.Source{Build: &cluster.Build{}}}, true},
		{cluster.Service{Name: "web", Source: cluster.Source{Image: "a"}, Command: []string{"serve"}}, false},
		{cluster.Service{Name: "web", Source: cluster.Source{Image: "a"}, Entrypoint: []string{"serve"}}, false},
		{cluster.Service{Name: "web", Source: cluster.Source{Exec: "web"}}, false},
	} {
		spec := reference()
		c.s.Replicas = 1
		spec.Services = append(spec.Services, c.s)
		err := validated(src, spec)
		if c.bad {
			require.ErrorContains(t, err, "x.yaml:26:14: what web runs is the command of its image")
		} else {
			require.NoError(t, err)
		}
	}
}

// Who leads alone has no follower.
func TestFollowerOfOne(t *testing.T) {
	src := strings.Replace(good, "pick: leader", "pick: follower", 1)
	require.NoError(t, validated(src, reference()))
	spec := reference()
	spec.Services = slices.DeleteFunc(spec.Services, func(s cluster.Service) bool { return s.Name == "store-2" || s.Name == "store-3" })
	require.ErrorContains(t, validated(src, spec), "x.yaml:17:32: group store has too few nodes for a follower: 1 of at least 2")
}

// Whatever is refused is reported once.
func TestLoadReportsOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.yaml")
	require.NoError(t, os.WriteFile(file, []byte("version: 1\nfrob: 1\n"), 0o644))
	_, _, err := Load(file, fakeTables(), nil)
	require.Equal(t, 1, strings.Count(err.Error(), "has no key"), "%v", err)
}

func TestSuggestions(t *testing.T) {
	names := []string{"kill", "pause", "partition", "delay", "store-1", "store-2"}
	for got, want := range map[string]string{"kil": "kill", "klil": "kill", "KILL": "kill", "pase": "pause", "partitoin": "partition",
		"dealy": "delay", "store1": "store-1", "zebra": "", "x": "", "": ""} {
		assert.Equal(t, want, nearest(got, names), got)
	}
	assert.Equal(t, 1, levenshtein("dealy", "delay"), "a swap is one error")
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, src string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(src), 0o644))
		return path
	}
	asked := ""
	loader := func(path string) (*cluster.Spec, error) {
		asked = path
		return reference(), nil
	}
	f, spec, err := Load(write("good.yaml", good), fakeTables(), loader)
	require.NoError(t, err)
	require.NotNil(t, spec)
	require.Equal(t, filepath.Join(dir, "topologies/reference.yaml"), asked, "relative to the scenario")
	require.Equal(t, asked, f.TopologyPath())

	_, _, err = Load(write("bad.yaml", strings.Replace(good, "kill:", "kil:", 1)+"frob: 1\n"), fakeTables(), loader)
	require.ErrorContains(t, err, `did you mean "kill"`)
	require.ErrorContains(t, err, "frob")

	// The errors of the topology come beside those of the scenario.
	broken := errors.New("topologies/reference.yaml:3: services.x: no such key")
	_, _, err = Load(write("bad.yaml", strings.Replace(good, "kill:", "kil:", 1)), fakeTables(), func(string) (*cluster.Spec, error) { return nil, broken })
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, `did you mean "kill"`)

	_, _, err = Load(filepath.Join(dir, "good.yaml"), fakeTables(), func(string) (*cluster.Spec, error) { return nil, os.ErrNotExist })
	require.ErrorContains(t, err, "good.yaml:3:11: the topology")
	_, _, err = Load(filepath.Join(dir, "none.yaml"), fakeTables(), loader)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, _, err = Load(dir, fakeTables(), loader)
	require.ErrorContains(t, err, "is a directory")
}
