package assertions

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// UniqueLeader looks at what members said of themselves.
//
// A claim that the same member corrects to a higher term is left out: etcd (v3.7.3, EtcdServer.setTerm) learns who leads
// when the election ends and its term only when the first entry of that term is applied, so that a new leader says for
// a while that it leads in the term before, which had another one. A while is one answer, or as many as it takes a machine
// that is short of processor to apply that entry (three in 0.3 s, with the correction 1.3 s after the first, were seen); the longer
// one counts as the same only where the member itself had named another as the leader of that term. Such a claim that the record ends
// before it could be corrected settles nothing: INVALID. So does a member that ran and never answered.
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
	passing, open := provisional(polls)
	unsettled := map[string]bool{}
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
		if open[i] {
			unsettled[p.Member+fmt.Sprint(" ", p.Term)] = true
		}
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
	var doubtful []string
	for _, term := range slices.Sorted(maps.Keys(claims)) {
		by := claims[term]
		if len(by) < 2 {
			continue
		}
		members := slices.Sorted(maps.Keys(by))
		settled := slices.DeleteFunc(slices.Clone(members), func(m string) bool { return unsettled[m+fmt.Sprint(" ", term)] })
		if len(settled) < 2 {
			doubtful = append(doubtful, fmt.Sprintf("%s claimed to lead in term %d, one of them with the term of a leader that it had named before and without a later answer that corrects or confirms it", list(members), term))
			continue
		}
		both = append(both, term)
		var lines []string
		for _, m := range members {
			lines = append(lines, fmt.Sprintf("%s claimed term %d at %s", m, term, seconds(by[m].T)))
		}
		f.Evidence = append(f.Evidence, Evidence{What: "two leaders in one term", File: record.LeadersFile(), Nodes: members, Detail: strings.Join(lines, "; ")})
	}
	unheard := unheardOf(r, a.Group, polls)
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
	case len(doubtful) > 0:
		f.Reason = strings.Join(doubtful, "; ")
	case claimed == 0:
		f.Reason = fmt.Sprintf("in %s no member of group %s ever claimed to lead", plural(answers, "answer"), a.Group)
	case len(unheard) > 0:
		f.Reason = fmt.Sprintf("%s never said who leads, and may have led too", list(unheard))
	default:
		f.Verdict = Pass
		f.Summary = fmt.Sprintf("%s of leadership in %s of group %s, never two members in one", plural(claimed, "claim"), plural(len(claims), "term"), a.Group)
	}
	if f.Verdict == Invalid {
		f.Summary = f.Reason
	}
	return f
}

// unheardOf are the members that ran while the group was asked, and never answered.
func unheardOf(r *record.Round, group string, polls []record.LeaderPoll) []string {
	if len(polls) == 0 {
		return nil
	}
	heard := map[string]bool{}
	for i := range polls {
		if polls[i].Error == "" {
			heard[polls[i].Member] = true
		}
	}
	return slices.DeleteFunc(membersOf(r, group), func(m string) bool {
		return heard[m] || !ran(r, m, polls[0].T, polls[len(polls)-1].T)
	})
}

// ran reports whether the program of a node ran at any moment from one to another.
func ran(r *record.Round, node string, from, to time.Duration) bool {
	up := false
	for _, e := range r.Events {
		if e.Node != node || e.T > to {
			continue
		}
		was := up
		switch e.Kind {
		case record.NodeStarted, record.NodeResumed:
			up = true
		case record.NodeExited, record.NodePaused, record.NodeRemoved:
			up = false
		}
		if e.T >= from && (was || up) {
			return true
		}
	}
	return up
}

// provisional tells which claims carry a term that is not the member's own word on who led in it. Corrected: in the answers that
// follow, as long as it goes on claiming, the member names a higher term, in the very next one or after it had named another leader of
// the lower. Open: it had named another leader of this term, and its claims are its last answers.
func provisional(polls []record.LeaderPoll) (corrected, open []bool) {
	corrected, open = make([]bool, len(polls)), make([]bool, len(polls))
	type led struct {
		member string
		term   uint64
	}
	named := map[led]bool{}      // by the member: somebody else led in the term
	known := map[string]uint64{} // the member's highest term so far: it does not go back
	for i := range polls {
		p := &polls[i]
		key := led{p.Member, p.Term}
		switch {
		case p.Error != "":
		case !p.Claims && p.Leader != "" && p.Leader != p.Member:
			named[key] = true
		case p.Claims:
			open[i] = named[key] && p.Term >= known[p.Member] // for now
		}
		if p.Error == "" {
			known[p.Member] = max(known[p.Member], p.Term)
		}
	}
	type run struct {
		next    *record.LeaderPoll // the member's next answer
		highest uint64             // term in the claims that follow without a break
		broken  bool               // an answer that follows is no claim
	}
	after := map[string]run{}
	for i := len(polls) - 1; i >= 0; i-- {
		p := &polls[i]
		if p.Error != "" {
			continue
		}
		r := after[p.Member]
		if !p.Claims {
			after[p.Member] = run{next: p, broken: true}
			continue
		}
		atOnce := r.next != nil && r.next.Claims && r.next.Term > p.Term
		corrected[i] = atOnce || open[i] && r.highest > p.Term
		open[i] = open[i] && !corrected[i] && !r.broken
		after[p.Member] = run{next: p, highest: max(r.highest, p.Term), broken: r.broken}
	}
	return corrected, open
}
