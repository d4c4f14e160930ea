package toxiproxyapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// kind is a type of toxic: its attributes, all of which are in every answer, and for what acts on requests the reply that it is.
type kind struct {
	numbers, texts []string
	reply          func(attributes map[string]any) cluster.Reply // nil: it acts on the stream of bytes
}

// kinds are toxiproxy's types, and two of our own: an error in the server's place, to a share of the requests (the toxicity), to the
// first so many or to each so manyth. Texts are regular expressions, as in a scenario's http-error and grpc-error.
var kinds = map[string]kind{
	"bandwidth":  {numbers: []string{"rate"}},
	"latency":    {numbers: []string{"latency", "jitter"}},
	"limit_data": {numbers: []string{"bytes"}},
	"reset_peer": {numbers: []string{"timeout"}},
	"slicer":     {numbers: []string{"average_size", "size_variation", "delay"}},
	"slow_close": {numbers: []string{"delay"}},
	"timeout":    {numbers: []string{"timeout"}},
	"http_error": {numbers: []string{"status", "first", "every"}, texts: []string{"path", "method", "body", "retry_after"},
		reply: func(a map[string]any) cluster.Reply {
			return cluster.Reply{HTTP: &cluster.HTTPReply{Status: int(a["status"].(int64)), Body: a["body"].(string), RetryAfter: a["retry_after"].(string)},
				Method: a["method"].(string), Path: a["path"].(string)}
		}},
	"grpc_error": {numbers: []string{"code", "first", "every"}, texts: []string{"method", "message"},
		reply: func(a map[string]any) cluster.Reply {
			return cluster.Reply{GRPC: &cluster.GRPCReply{Code: int(a["code"].(int64)), Message: a["message"].(string)}, Path: a["method"].(string)}
		}},
}

// complete returns all attributes: those that a toxic has, with what was given in their place.
func (k kind) complete(name string, has map[string]any, given map[string]json.RawMessage) (map[string]any, error) {
	full := map[string]any{}
	for _, n := range k.numbers {
		full[n] = int64(0)
	}
	for _, n := range k.texts {
		full[n] = ""
	}
	for n, v := range has {
		full[n] = v
	}
	known := slices.Concat(k.numbers, k.texts)
	for n, raw := range given {
		i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, n) }) // as encoding/json does for toxiproxy
		if i < 0 {
			return nil, fail(http.StatusBadRequest, "%s has no attribute %q, only %s", name, n, strings.Join(known, ", "))
		}
		v, err := value(raw, i < len(k.numbers))
		if err != nil {
			return nil, fail(http.StatusBadRequest, "%s's attribute %s: %v", name, known[i], err)
		}
		full[known[i]] = v
	}
	return full, nil
}

// value reads a whole number or a text. toxiproxy's command makes a number of every text that looks like one.
func value(raw json.RawMessage, number bool) (any, error) {
	if number {
		n, err := strconv.ParseInt(string(raw), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s is no whole number", raw)
		}
		return n, nil
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text, nil
	}
	var n json.Number
	if err := json.Unmarshal(raw, &n); err != nil {
		return nil, fmt.Errorf("%s is no text", raw)
	}
	return n.String(), nil
}

// rule is what a toxic is on its link.
func (k kind) rule(t Toxic, stream string, seed uint64) (cluster.Rule, error) {
	if k.reply == nil {
		raw, err := json.Marshal(t.Attributes)
		return cluster.Rule{Toxic: &cluster.Toxic{Type: t.Type, Stream: stream, Toxicity: float64(t.Toxicity), Attributes: raw, Seed: seed}}, err
	}
	if stream != "downstream" {
		return cluster.Rule{}, fail(http.StatusBadRequest, "an answer goes downstream")
	}
	r := k.reply(t.Attributes)
	r.First, r.Every, r.Seed = int(t.Attributes["first"].(int64)), int(t.Attributes["every"].(int64)), seed
	switch {
	case r.First == 0 && r.Every == 0:
		r.Share = float64(t.Toxicity)
	case t.Toxicity != 1:
		return cluster.Rule{}, fail(http.StatusBadRequest, "first and every say which requests; a toxicity other than 1 would say it again")
	}
	return cluster.Rule{Reply: &r}, nil
}
