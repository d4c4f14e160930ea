package assertions

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// UniqueLeader looks at what members said of themselves.
//
// A claim right before the same member names a higher term is left out: etcd (v3.7.3, EtcdServer.setTerm) learns who leads
// when the election ends and its term only when the first entry of that term is applied, so that a new leader says for
// a moment that it leads in the term before, which had another one.
type UniqueLeader struct {
	Group string `json:"group" jsonschema:"required" desc:"A group with a leader."`
}

// Validate returns every error.
func (a *UniqueLeader) Validate(s Scope) error {
	if a.Group == "" {
		return errors.New("group is missing: the members of which one leads")
	}
	if slices.Contains(s.Groups, a.Group) && !slices.Contains(s.Leaders, a.Group) {
		return fmt.Errorf("group %s has no leader: say in the topology how to ask for it (x-gauntlet.leader)", a.Group)
	}
	return oneOf("group with a leader", a.Group, s.Leaders)
}

// Judge looks for two claims of one term.
func (a *UniqueLeader) Judge(_ context.Context, _ *plan.Plan, r *record.Round) Finding {
	polls, err := r.Leaders(a.Group)
	if err != nil {
		return invalid("%v", err)
	}
	next := map[string]*record.LeaderPoll{} // the member's next answer
	passing := make([]bool, len(polls))     // a claim whose term the member corrects at once
	for i := len(polls) - 1; i >= 0; i-- {
		p := &polls[i]
		if p.Error != "" {
			continue
		}
		n := next[p.Member]
		passing[i] = p.Claims && n != nil && n.Claims && n.Term > p.Term
		next[p.Member] = p
	}
	claims := map[uint64]map[string]*record.LeaderPoll{} // term -> member -> its first claim
	answers, claimed, corrected, untermed := 0, 0, 0, 0
	for i := range polls {
		p := &polls[i]
		if p.Error == "" {
			answers++
		}
		switch {
		case p.Error != "" || !p.Claims:
			continue
		case p.Term == 0:
			untermed++
			continue
		case passing[i]:
			corrected++
			continue
		}
		claimed++
		if claims[p.Term] == nil {
			claims[p.Term] = map[string]*record.LeaderPoll{}
		}
		if claims[p.Term][p.Member] == nil {
			claims[p.Term][p.Member] = p
		}
	}
	f := Finding{Evidence: []Evidence{{
		What: "answers of members of " + a.Group + " about who leads", File: record.LeadersFile(), Count: answers,
		Values: map[string]float64{"claims": float64(claimed), "terms": float64(len(claims)), "claims corrected at once": float64(corrected)},
	}}}
	var both []uint64
	for _, term := range slices.Sorted(maps.Keys(claims)) {
		by := claims[term]
		if len(by) < 2 {
			continue
		}
		both = append(both, term)
		var lines []string
		members := slices.Sorted(maps.Keys(by))
		for _, m := range members {
			lines = append(lines, fmt.Sprintf("%s claimed term %d at %s", m, term, seconds(by[m].T)))
		}
		f.Evidence = append(f.Evidence, Evidence{What: "two leaders in one term", File: record.LeadersFile(), Nodes: members, Detail: strings.Join(lines, "; ")})
	}
	switch {
	case len(both) > 0:
		f.Verdict = Fail
		f.Summary = fmt.Sprintf("%s of group %s claimed to lead in term %d", list(slices.Sorted(maps.Keys(claims[both[0]]))), a.Group, both[0])
		if len(both) > 1 {
			f.Summary += fmt.Sprintf(", and so in %s more", plural(len(both)-1, "term"))
		}
	case answers == 0:
		f.Reason = fmt.Sprintf("no member of group %s ever said who leads", a.Group)
	case untermed > 0:
		f.Reason = fmt.Sprintf("%s of leadership carry no term: say in the topology where it stands (x-gauntlet.leader.term)", plural(untermed, "claim"))
	case claimed == 0:
		f.Reason = fmt.Sprintf("in %s no member of group %s ever claimed to lead", plural(answers, "answer"), a.Group)
	default:
		f.Verdict = Pass
		f.Summary = fmt.Sprintf("%s of leadership in %s of group %s, never two members in one", plural(claimed, "claim"), plural(len(claims), "term"), a.Group)
	}
	if f.Verdict == Invalid {
		f.Summary = f.Reason
	}
	return f
}
