package plane

import (
	"fmt"
	"slices"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// action is what the packet filter does with a packet of a link. The larger one wins.
type action uint8

const (
	pass   action = iota
	delay         // held back in the queue
	reject        // answered with a reset or "port unreachable"
	drop          // lost
)

var actionNames = [...]string{"pass", "delay", "reject", "drop"}

func (a action) String() string { return actionNames[a] }

// actionOf returns what a rule asks of the packet filter: pass for what works on streams, which is not its business.
func actionOf(r cluster.Rule) (action, error) {
	var set []string
	a := pass
	if r.Drop {
		set, a = append(set, "drop"), drop
	}
	if r.Reject {
		set, a = append(set, "reject"), reject
	}
	if r.Delay != nil {
		set, a = append(set, "delay"), delay
	}
	if r.Toxic != nil {
		set, a = append(set, "toxic"), pass
	}
	if r.Reply != nil {
		set, a = append(set, "reply"), pass
	}
	if len(set) != 1 {
		return pass, fmt.Errorf("a rule has exactly one of drop, reject, delay, toxic and reply; this one has %d: %v", len(set), set)
	}
	return a, nil
}

// rule is a rule that was applied.
type rule struct {
	id     cluster.RuleID
	what   cluster.Rule
	does   action
	links  []AddrLink              // without duplicates
	base   []counts                // of each link: what the filter had counted for other rules before
	live   []*toxicLink            // of a toxic, link by link
	reply  *reply                  // of a reply
	delays map[AddrLink]*delayRule // of a delay
}

func (r *rule) kind() string {
	if r.what.Toxic != nil {
		return "toxic " + r.what.Toxic.Type
	}
	if r.reply != nil {
		return "reply"
	}
	return r.does.String()
}

// counts is what the filter counted: the traffic, and apart from it the packets of probes.
type counts struct{ packets, bytes, probes uint64 }

// ruleTable keeps which rules hold on which link. It is pure: it says what has to change in the packet filter, and
// others change it.
//
// Each action has a set of links in the filter (and one for probes, with the same links), and a link is in the set of an action when at least one rule asks for
// it. The filter looks the sets up in the order of precedence. So a rule that comes or goes never changes the verdict
// of an element, which the kernel refuses (EEXIST), and counters go on while any rule of the kind holds.
type ruleTable struct {
	next  cluster.RuleID
	rules map[cluster.RuleID]*rule
	links map[AddrLink][]*rule // in the order of Apply
}

func newRuleTable() *ruleTable {
	return &ruleTable{rules: map[cluster.RuleID]*rule{}, links: map[AddrLink][]*rule{}}
}

// member is an element of the set of an action.
type member struct {
	link AddrLink
	of   action
}

// add enters a rule and returns the elements that the filter's sets need in addition.
func (t *ruleTable) add(r *rule) (enter []member) {
	t.next++
	r.id = t.next
	t.rules[r.id] = r
	for _, l := range r.links {
		if r.does != pass && !t.asked(l, r.does) {
			enter = append(enter, member{l, r.does})
		}
		t.links[l] = append(t.links[l], r)
	}
	return enter
}

// remove takes a rule out and returns the elements that the filter's sets no longer need.
func (t *ruleTable) remove(r *rule) (leave []member) {
	delete(t.rules, r.id)
	for _, l := range r.links {
		rest := slices.DeleteFunc(t.links[l], func(x *rule) bool { return x == r })
		if t.links[l] = rest; len(rest) == 0 {
			delete(t.links, l)
		}
		if r.does != pass && !t.asked(l, r.does) {
			leave = append(leave, member{l, r.does})
		}
	}
	return leave
}

// restore puts a removed rule back, when the filter could not be changed.
func (t *ruleTable) restore(r *rule) {
	t.rules[r.id] = r
	for _, l := range r.links {
		t.links[l] = append(t.links[l], r)
	}
}

func (t *ruleTable) asked(l AddrLink, a action) bool {
	return slices.ContainsFunc(t.links[l], func(r *rule) bool { return r.does == a })
}

// effect is what happens to the packets of a link: the strongest action that a rule asks for.
func (t *ruleTable) effect(l AddrLink) action {
	a := pass
	for _, r := range t.links[l] {
		a = max(a, r.does)
	}
	return a
}
