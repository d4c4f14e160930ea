package faults

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// Table lists every fault that a scenario file may name.
var Table = []Kind{
	{Name: "drop", Layer: "packets", Undo: true, Needs: []cluster.Capability{cluster.PacketRules}, New: func() Params { return &Drop{} },
		Doc: "Discards every packet of a link. New connections time out; live ones stall and go on after the heal."},
	{Name: "reject", Layer: "packets", Undo: true, Needs: []cluster.Capability{cluster.PacketRules}, New: func() Params { return &Reject{} },
		Doc: "Refuses every packet of a link: TCP reset or port unreachable. The sender learns at once, the other end does not."},
	{Name: "reset", Layer: "packets", Needs: []cluster.Capability{cluster.PacketRules}, New: func() Params { return &Reset{} },
		Doc: "Ends the live TCP connections of a link, idle ones too, with a reset at both ends."},
	{Name: "delay", Layer: "packets", Undo: true, Needs: []cluster.Capability{cluster.PacketDelay}, New: func() Params { return &Delay{} },
		Doc: "Holds the packets of a link back, one way, in netem's words: time (1ms to 30s), jitter, distribution."},
	{Name: "partition", Layer: "packets", Undo: true, Needs: []cluster.Capability{cluster.PacketRules}, New: func() Params { return &Partition{} },
		Doc: "Cuts nodes off from the rest of their group or from all nodes, both ways or one, by dropping packets."},
	{Name: "latency", Layer: "stream", Undo: true, Needs: []cluster.Capability{cluster.Toxics}, New: func() Params { return &Latency{} },
		Doc: "toxiproxy's toxic: holds the data of TCP connections back, in its words: latency, jitter, stream, toxicity."},
	{Name: "bandwidth", Layer: "stream", Undo: true, Needs: []cluster.Capability{cluster.Toxics}, New: func() Params { return &Bandwidth{} },
		Doc: "toxiproxy's toxic: bounds the bytes a second of each TCP connection's stream: rate (KB/s), stream, toxicity."},
	{Name: "slow_close", Layer: "stream", Undo: true, Needs: []cluster.Capability{cluster.Toxics}, New: func() Params { return &SlowClose{} },
		Doc: "toxiproxy's toxic: holds the end of a TCP stream back: delay, stream, toxicity."},
	{Name: "slicer", Layer: "stream", Undo: true, Needs: []cluster.Capability{cluster.Toxics}, New: func() Params { return &Slicer{} },
		Doc: "toxiproxy's toxic: cuts the data of a TCP stream into small pieces: average_size, size_variation, delay, stream, toxicity."},
	{Name: "limit_data", Layer: "stream", Undo: true, Needs: []cluster.Capability{cluster.Toxics}, New: func() Params { return &LimitData{} },
		Doc: "toxiproxy's toxic: closes a TCP connection after so many bytes of a stream: bytes, stream, toxicity."},
	{Name: "timeout", Layer: "stream", Undo: true, Needs: []cluster.Capability{cluster.Toxics}, New: func() Params { return &Timeout{} },
		Doc: "toxiproxy's toxic: discards all data of a TCP stream, and closes the connection after a time; so does the undo: timeout, stream, toxicity."},
	{Name: "reset_peer", Layer: "stream", Undo: true, Needs: []cluster.Capability{cluster.Toxics}, New: func() Params { return &ResetPeer{} },
		Doc: "toxiproxy's toxic: resets TCP connections at both ends after a time, live ones too: timeout, stream, toxicity."},
	{Name: "http-error", Layer: "stream", Undo: true, Needs: []cluster.Capability{cluster.Toxics}, New: func() Params { return &HTTPError{} },
		Doc: "Answers requests with an HTTP error in the place of the server: a share of them, the first N or each Nth, by path and method."},
	{Name: "grpc-error", Layer: "stream", Undo: true, Needs: []cluster.Capability{cluster.Toxics}, New: func() Params { return &GRPCError{} },
		Doc: "Answers calls with a gRPC status in the place of the server: a share of them, the first N or each Nth, by method."},
	{Name: "kill", Layer: "node", Undo: true, Needs: []cluster.Capability{cluster.Signals}, New: func() Params { return &Kill{} },
		Doc: "Ends every process of the nodes with SIGKILL; the undo starts them again."},
	{Name: "terminate", Layer: "node", Undo: true, Needs: []cluster.Capability{cluster.Signals}, New: func() Params { return &Terminate{} },
		Doc: "Stops nodes as an orchestrator does: stop signal, grace period, SIGKILL; the undo starts them again."},
	{Name: "pause", Layer: "node", Undo: true, Needs: []cluster.Capability{cluster.Signals}, New: func() Params { return &Pause{} },
		Doc: "Stops every process of the nodes (SIGSTOP); the undo lets them go on."},
	{Name: "restart", Layer: "node", Needs: []cluster.Capability{cluster.Signals}, New: func() Params { return &Restart{} },
		Doc: "Stops nodes gracefully and starts them again, at once or rolling, with another environment if asked."},
	{Name: "scale", Layer: "node", Undo: true, New: func() Params { return &Scale{} },
		Doc: "Changes the number of replicas of a service; the undo brings it back."},
	{Name: "spike", Layer: "load", Undo: true, New: func() Params { return &Spike{} },
		Doc: "Changes the rate of a load at once, to a number per second or a multiple of the planned rate; the undo is the planned rate."},
	{Name: "ramp", Layer: "load", Undo: true, New: func() Params { return &Ramp{} },
		Doc: "Changes the rate of a load evenly over a time, then holds it; the undo is the planned rate."},
	{Name: "slow-clients", Layer: "load", Undo: true, New: func() Params { return &SlowClients{} },
		Doc: "Clients that send their headers or bodies, or read their answers, a few bytes a second, many at once. Who is sent away comes back."},
	{Name: "connections", Layer: "load", Undo: true, New: func() Params { return &Connections{} },
		Doc: "A flood of connections on which nothing is said, so many at once. What is closed is made anew."},
	{Name: "do", Layer: "action", New: func() Params { return &Do{} },
		Doc: "Runs a program in a node, or sends a signal to nodes; its exit status is its proof."},

	later("loss", "packets", "Loses a share of a link's packets."),
	later("duplicate", "packets", "Duplicates a share of a link's packets."),
	later("corrupt", "packets", "Corrupts a share of a link's packets."),
	later("reorder", "packets", "Lets a share of a link's packets overtake others."),
	later("rate", "packets", "Bounds the bytes a second of a link."),
	later("dns", "packets", "Makes names fail, lag or go stale."),
	later("cpu", "node", "Bounds the CPU of nodes."),
	later("memory", "node", "Bounds the memory of nodes."),
	later("descriptors", "node", "Bounds the open files of nodes."),
	later("disk-full", "node", "Fills a volume."),
	later("disk-stall", "node", "Stalls a volume."),
	later("power-cut", "node", "Loses what was not synced, then kills."),
	later("clock", "node", "Jumps a node's clock."),
}

// ByName finds a row of the table.
func ByName(name string) (Kind, bool) {
	for _, k := range Table {
		if k.Name == name {
			return k, true
		}
	}
	return Kind{}, false
}

// later is a row of a fault that the format knows and this version cannot execute.
func later(name, layer, doc string) Kind {
	return Kind{Name: name, Layer: layer, Doc: doc, Undo: true, New: func() Params { return &known{} },
		Unsupported: "this version knows the fault " + name + " but cannot execute it yet"}
}

// known holds the parameters of a fault that cannot be executed, unread.
type known struct{ raw json.RawMessage }

func (k *known) UnmarshalJSON(b []byte) error {
	k.raw = append(k.raw[:0], b...)
	return nil
}

func (k *known) MarshalJSON() ([]byte, error) {
	if k.raw == nil {
		return []byte("{}"), nil
	}
	return k.raw, nil
}

func (*known) Validate() error        { return nil }
func (*known) Targets() []plan.Target { return nil }
func (*known) Inject(context.Context, *Env) (*Effect, error) {
	return nil, errors.New("this version cannot execute the fault")
}
