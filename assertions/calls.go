package assertions

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"sort"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// client is the node from which load comes.
const client = "client"

// nodesOf tells the nodes that a name stands for: a node, the replicas of a service (those that came later too), or the
// members of a group. A service's nodes are called after it.
func nodesOf(run *record.Run, name string) func(node string) bool {
	var known []string
	for _, n := range run.Meta.Nodes {
		if n.Group == name {
			known = append(known, n.Name)
		}
	}
	return func(node string) bool { return slices.Contains(known, node) || belongs(node, name) }
}

// endNamed validates an end of a link.
func endNamed(key, name string, s Scope) error {
	if name == "" {
		return fmt.Errorf("%s is missing: a service, a group or a node", key)
	}
	names := slices.Concat(s.Services, s.Groups, []string{client})
	if slices.ContainsFunc(names, func(n string) bool { return belongs(name, n) }) {
		return nil
	}
	return oneOf("service, group or node", name, names)
}

// pathNamed validates a pattern of paths.
func pathNamed(pattern string) error {
	if _, err := regexp.Compile(pattern); err != nil {
		return fmt.Errorf("method %q is no regular expression: %w", pattern, err)
	}
	return nil
}

// checks are the paths by which a service is asked how it is: gRPC's, and those that the field has over HTTP.
var checks = regexp.MustCompile(`^/(grpc\.(health|reflection)\.|(healthz?|readyz?|livez?|startupz?|-/healthy|-/ready)(\?|/|$))`)

// onLink returns the calls from one end to the other whose path matches, in the order in which they began. Checks of health, and
// reflection of gRPC, are no calls of a user's and never among them.
func onLink(r *record.Round, ends plan.LinkEnds, pattern string) ([]record.Call, error) {
	path, err := regexp.Compile(pattern)
	if err != nil {
		return nil, pathNamed(pattern)
	}
	if err := allRead(r); err != nil {
		return nil, err
	}
	all, err := r.Calls()
	if err != nil {
		return nil, err
	}
	from, to := nodesOf(r.Run(), ends.From), nodesOf(r.Run(), ends.To)
	var out []record.Call
	for i := range all {
		c := &all[i]
		if checks.MatchString(c.Path) {
			continue
		}
		if from(c.From) && to(c.To) && path.MatchString(c.Path) {
			out = append(out, *c)
		}
	}
	return out, nil
}

// allRead is that every call on the links was read.
func allRead(r *record.Round) error {
	var sum record.Observed
	for _, e := range r.Events {
		if e.Kind != record.ObserveEnd {
			continue
		}
		var m record.Observed
		if err := json.Unmarshal(e.Data, &m); err != nil {
			return fmt.Errorf("what was read on the links is not known: %w", err)
		}
		sum.Dropped += m.Dropped
		sum.Unreadable += m.Unreadable
	}
	if sum.Dropped > 0 || sum.Unreadable > 0 {
		return fmt.Errorf("not every call on the links was read: %d dropped, %s unreadable", sum.Dropped, plural(int(sum.Unreadable), "connection"))
	}
	return nil
}

// begunIn counts the calls that began in (from, to]. They are in the order in which they began.
func begunIn(calls []record.Call, from, to time.Duration) int {
	after := func(t time.Duration) int {
		return sort.Search(len(calls), func(i int) bool { return calls[i].Begin > t })
	}
	return max(0, after(to)-after(from))
}
